"""Export records to a file and import them; the file extension selects the format. Reading executes nothing.

==================  ==================================================================  ==========
extension           content                                                             can be read
==================  ==================================================================  ==========
``.jsonl``          one record a line                                                   yes
``.csv``, ``.tsv``  one record a row, without vectors                                   only read
``.parquet``        one record a row; vectors as Arrow fixed-size lists of float32      yes
``.safetensors``    ``vectors`` float32 ``[n, dim]``, ``records`` (JSON lines, UTF-8)   yes
``.itememb``        RecBole: item id and vector                                         no
``.useremb``        RecBole: user id and vector                                         no
==================  ==================================================================  ==========
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from enhancer.contracts.embedder import RemoteEmbedder
from enhancer.contracts.record import PROFILE_ASPECT, TEXT_ASPECT, Record, holds_note
from enhancer.errors import ConfigError, DataError, EnhancerError, did_you_mean
from enhancer.features.storing.arrow import read_parquet, write_parquet
from enhancer.features.storing.import_plan import ImportPlan, VectorLengths
from enhancer.features.storing.record_fields import COUNTS, FIELDS, STRINGS, Row, record_to_json
from enhancer.features.storing.record_files import (
    read_jsonl,
    read_safetensors,
    write_jsonl,
    write_recbole,
    write_safetensors,
)
from enhancer.features.storing.records import embedding_text
from enhancer.features.storing.wide_rows import notes_of, read_delimited
from enhancer.files import atomic_replace, check_output_path
from enhancer.harness import clock
from enhancer.harness.embedding.connections import embedding_budget, encoder
from enhancer.harness.embedding.estimate import EmbeddingEstimate
from enhancer.harness.embedding.outcomes import NoVector
from enhancer.harness.journal.journal import Journal
from enhancer.progress import Progress, silent
from enhancer.storekit.codec import check_vector, encode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from enhancer.config.schema import EmbedderConfig
    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.harness.embedding.outcomes import Encoder
    from enhancer.progress import Listener

__all__ = ["FIELDS", "ImportPlan", "ImportReport", "RejectedRow", "export_records", "import_records", "record_to_json"]

_CHUNK: Final = 512
"""Records in memory at once."""
REJECTED_SHOWN: Final = 20
"""Largest number of rejected rows that a report describes."""

Validate = Callable[[Mapping[str, Any]], None]
"""Takes kind, aspect, profile and tags of a record by name; raises an ``EnhancerError`` if they are not valid."""
Complete = Callable[[Row], Mapping[str, Any]]
"""Takes a row; returns values for fields that the row lacks."""


@dataclass(frozen=True)
class RejectedRow:
    """A row of an imported file that is not a valid record."""

    row: int
    """Number of the row, from 1; of a ``.jsonl`` file, that of the line."""
    id: str | None
    """Its id; None if it has none."""
    reason: str
    """Description of what is wrong, with a hint if there is one."""


@dataclass(frozen=True)
class ImportReport:
    """Result of an import."""

    records: int
    """Records written to the store."""
    embedded: int
    """Records that were embedded, because they had no vector or one of another embedder."""
    rejected: int = 0
    """Rows that are not valid records, and were left out."""
    rejected_rows: tuple[RejectedRow, ...] = ()
    """The first of them, at most :data:`REJECTED_SHOWN`."""
    embedding_requests: int | None = None
    """Requests that a remote embedder answered; None without one."""
    embedding_failed_requests: int | None = None
    """Requests to it without an answer: refused, failed, or out of time; None without one."""
    embedding_tokens: int | None = None
    """Tokens that it embedded; None without one, or if it reports none."""
    embedding_cost_usd: float | None = None
    """Their cost; None without one, or if it is unknown."""

    def to_json(self) -> dict[str, Any]:
        """Return the counts and the rejected rows by name; those of embeddings with a remote embedder."""
        remote = self.embedding_requests is not None
        return {name: value for name, value in asdict(self).items() if remote or not name.startswith("embedding_")}


def export_records(
    store: FeatureStore, path: str | Path, *, kind: Kind | None = None, aspect: str | None = None
) -> int:
    """Write records to a file as a stream. The file appears once it is complete.

    Args:
        store: The store.
        path: The file; an existing file is replaced.
        kind: Export only ``"item"`` or ``"user"`` records.
        aspect: Export only one aspect. RecBole's formats store one vector for each id; their default is the profiles,
            or the raw texts if there are no profiles.

    Returns:
        Number of records written.

    Raises:
        ConfigError: The extension is unknown, or the file cannot be written.
        DataError: The store has no records of that kind and aspect.
        StoreMismatchError: The format requires vectors of equal length, and these differ.
        StoreCorruptError: A record is damaged.
    """
    path = Path(path)
    writers: dict[str, Callable[[Path, Iterable[Record]], int]] = {
        ".jsonl": write_jsonl,
        ".parquet": write_parquet,
        ".safetensors": write_safetensors,
        ".itememb": partial(write_recbole, "item"),
        ".useremb": partial(write_recbole, "user"),
    }
    write = writers[_extension(path, writers)]
    check_output_path(path)
    of_format: dict[str, Kind] = {".itememb": "item", ".useremb": "user"}
    wanted = of_format.get(path.suffix.lower(), kind)
    if path.suffix.lower() in of_format and aspect is None:
        aspect = _one_aspect(store, wanted, path)
    try:
        with atomic_replace(path) as draft:
            done = write(draft, store.scan(kind=wanted, aspect=aspect))
            if not done and (wanted is not None or aspect is not None):
                part = " and ".join([f"kind {wanted!r}"] * bool(wanted) + [f"aspect {aspect!r}"] * (aspect is not None))
                raise DataError(f"there are no records of {part}: nothing was written to {path}")
            return done
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None


def _one_aspect(store: FeatureStore, kind: Kind | None, path: Path) -> str:
    """Return the aspect to export to a format that stores one vector for each id."""
    for aspect in (PROFILE_ASPECT, TEXT_ASPECT):
        if next(store.keys(kind=kind, aspect=aspect), None) is not None:
            return aspect
    if (other := next(store.keys(kind=kind), None)) is not None:
        raise ConfigError(
            f"{path}: this format holds one vector of each id, and there are neither profiles nor raw texts",
            hint=f'choose an aspect, such as --aspect "{other.aspect}"',
        )
    return PROFILE_ASPECT


def import_records(
    store: FeatureStore,
    path: str | Path,
    embedder: Embedder | None = None,
    *,
    validate: Validate | None = None,
    complete: Complete | None = None,
    aspects: Mapping[str, Collection[str]] | None = None,
    strict: bool = True,
    config: EmbedderConfig | None = None,
    max_cost: float | None = None,
    confirm: Callable[[ImportPlan], bool] | None = None,
    listener: Listener = silent,
) -> ImportReport:
    """Write the records of a file to a store as a stream, replacing records with the same key.

    Args:
        store: The store.
        path: ``.jsonl``, ``.parquet``, ``.safetensors``, ``.csv`` or ``.tsv``. A row needs an ``id`` and a ``profile``
            (for the raw text and joint texts: a vector); every other field has a default.
        embedder: Embeds rows that have no vector, or one of another embedder. Without it every row needs a vector and
            an ``embedder``.
        validate: Validates profile and tags; not called for the raw text and joint texts.
        complete: Returns values for missing fields, such as ``input_hash`` and ``prompt_version``.
        aspects: Names of the notes of each kind. A row may have a column for each of them instead of an ``aspect`` and
            a ``profile``: every column becomes a record. By default no row does.
        strict: Refuse the whole file if a row is not valid; otherwise leave such rows out. The file is then read twice.
            A row whose text has no vector is left out either way.
        config: ``[embedder]``: limits and price of a remote embedder, whose vectors are kept in the journal of the
            store.
        max_cost: Limit on the cost of a remote embedder in USD.
        confirm: Called with what a remote embedder will be sent, before anything is; any result but True stops the
            import. The file is then read twice.
        listener: Called with progress: stage ``embed``.

    Returns:
        Numbers of records, of those that were embedded, and of rejected rows.

    Raises:
        ConfigError: The extension is unknown or cannot be read, or the file does not exist.
        DataError: The file is damaged; or, with ``strict``, a row is not a record or its profile is not valid. The
            message names file and row. With ``strict`` nothing is written.
        BudgetError: Embedding more could cost more than ``max_cost``. What is embedded is kept.
        EmbedderError: The embedder failed, whatever the text. What is embedded is kept.
        EnhancerError: ``confirm`` did not return True.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], Iterator[tuple[int, Any]]]] = {
        ".jsonl": read_jsonl,
        ".parquet": read_parquet,
        ".safetensors": read_safetensors,
        ".csv": read_delimited,
        ".tsv": read_delimited,
    }
    read = readers[_extension(path, readers)]
    if not path.is_file():
        raise ConfigError(f"no file {path}")
    rejected: list[RejectedRow] = []
    n_rejected = 0
    lengths = None if embedder is None else VectorLengths(store, embedder)
    asks = confirm is not None and isinstance(embedder, RemoteEmbedder)
    if strict or asks:
        refuse = _refuse(path) if strict else _ignore
        first = _records(_notes(read(path), aspects, refuse), embedder, lengths, validate, complete, reject=refuse)
        plan = _plan(first, embedder if asks else None, config, store)
        if confirm is not None and plan is not None and not confirm(plan):
            raise EnhancerError("not confirmed: nothing was imported")

    def reject(number: int, values: Any, error: EnhancerError) -> None:
        nonlocal n_rejected
        n_rejected += 1
        if len(rejected) < REJECTED_SHOWN:
            id_ = values.get("id") if isinstance(values, dict) else None
            reason = "; ".join(filter(None, (error.message, error.hint)))
            rejected.append(RejectedRow(number, None if id_ is None else str(id_), reason))

    rows = _records(_notes(read(path), aspects, reject), embedder, lengths, validate, complete, reject=reject)
    done = embedded = 0
    with _texts(embedder, config, store, max_cost) as texts:
        while chunk := list(islice(rows, _CHUNK)):
            # What is to be embedded is stored part by part, so that Ctrl-C keeps what is embedded.
            complete_rows = texts is None or all(one.has_vector for one in chunk)
            size = len(chunk) if complete_rows or texts is None else texts.size
            for start in range(0, len(chunk), size):
                part = chunk[start : start + size]
                lacking = [one for one in part if not one.has_vector]
                failed = _embed(lacking, texts) if texts is not None else {}
                for one in lacking:
                    if one.number in failed:
                        reject(one.number, {"id": one.record.id}, DataError(failed[one.number]))
                put = [one.record for one in part if one.number not in failed]
                store.put(put)
                done, embedded = done + len(put), embedded + len(lacking) - len(failed)
                if lacking:
                    listener(Progress("embed", embedded, None, {}))
        usage = None if texts is None else texts.usage
    report = ImportReport(done, embedded, n_rejected, tuple(rejected))
    if usage is None:
        return report
    return replace(
        report,
        embedding_requests=usage.calls,
        embedding_failed_requests=usage.failed,
        embedding_tokens=usage.tokens[0],
        embedding_cost_usd=None if usage.unknown_cost else round(usage.cost_usd, 12),
    )


def _plan(
    rows: Iterable[_Imported], embedder: Embedder | None, config: EmbedderConfig | None, store: FeatureStore
) -> ImportPlan | None:
    """Read all rows; return what a remote embedder will be sent for them, None without one."""
    if not isinstance(embedder, RemoteEmbedder):
        for _ in rows:
            pass
        return None
    with contextlib.ExitStack() as stack:
        if (journal := Journal.find(store)) is not None:
            stack.enter_context(journal)
        estimate = EmbeddingEstimate(embedder, config, journal)
        rows = iter(rows)
        while chunk := list(islice(rows, _CHUNK)):
            estimate.add(embedding_text(one.record.profile, one.record.tags) for one in chunk if not one.has_vector)
    return ImportPlan(estimate.texts, estimate.requests, estimate.tokens, estimate.cost_usd)


def _embed(rows: Sequence[_Imported], texts: Encoder) -> dict[int, str]:
    """Set the vectors of rows; return why some have none, by the number of the row."""
    outcomes = texts.encode([embedding_text(one.record.profile, one.record.tags) for one in rows])
    failed = {}
    for one, outcome in zip(rows, outcomes, strict=True):
        if isinstance(outcome, NoVector):
            failed[one.number] = outcome.reason
        else:
            one.record.vector, one.record.embedder = outcome, texts.fingerprint
    return failed


@contextlib.contextmanager
def _texts(
    embedder: Embedder | None, config: EmbedderConfig | None, store: FeatureStore, max_cost: float | None
) -> Iterator[Encoder | None]:
    """Provide what embeds texts; None without an embedder."""
    if embedder is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        remote = isinstance(embedder, RemoteEmbedder)
        journal = stack.enter_context(Journal.of(store)) if remote else None
        yield stack.enter_context(encoder(embedder, config, journal, embedding_budget(max_cost)))


class _Imported(NamedTuple):
    """The record of a row."""

    number: int
    """Number of the row."""
    record: Record
    has_vector: bool
    """Whether it keeps its vector."""


Reject = Callable[[int, Any, EnhancerError], None]
"""Takes the number and the values of a row that is not a valid record, and the reason."""


def _ignore(number: int, values: Any, error: EnhancerError) -> None:
    del number, values, error


def _refuse(path: Path) -> Reject:
    def refuse(number: int, values: Any, error: EnhancerError) -> None:
        del values
        raise DataError(f"{path}, row {number}: {error.message}", hint=error.hint) from None

    return refuse


def _notes(
    rows: Iterable[tuple[int, Any]], aspects: Mapping[str, Collection[str]] | None, reject: Reject
) -> Iterator[tuple[int, Any]]:
    """Yield rows, those with a column for each note as a row for each note."""
    for number, values in rows:
        if aspects is None or not isinstance(values, dict):
            yield number, values
            continue
        try:
            notes = notes_of(values, aspects)
        except DataError as error:
            reject(number, values, error)
        else:
            yield from ((number, note) for note in notes)


def _records(
    rows: Iterable[tuple[int, Any]],
    embedder: Embedder | None,
    lengths: VectorLengths | None,
    validate: Validate | None,
    complete: Complete | None,
    *,
    reject: Reject,
) -> Iterator[_Imported]:
    """Yield the records of valid rows."""
    now = clock.now()
    for number, values in rows:
        try:
            if isinstance(values, DataError):
                raise values
            if complete is not None and isinstance(values, dict):
                values = {**complete(values), **{k: v for k, v in values.items() if v is not None}}  # noqa: PLW2901
            record, has_vector = _record(values, embedder, lengths, now)
            if validate is not None and holds_note(record.aspect):
                row = {"kind": record.kind, "aspect": record.aspect}
                validate({**row, "profile": record.profile, "tags": list(record.tags)})
            # Raises what a store would raise about its fields; there the whole chunk would fail.
            encode(record if has_vector else replace(record, vector=_ANY_VECTOR))
        except EnhancerError as error:
            if isinstance(values, dict) and values.get("aspect"):
                error.message = f"{values['aspect']}: {error.message}"
            reject(number, values, error)
        else:
            yield _Imported(number, record, has_vector)


_ANY_VECTOR = np.ones(1, np.float32)


def _record(values: Any, embedder: Embedder | None, lengths: VectorLengths | None, now: str) -> tuple[Record, bool]:
    if not isinstance(values, dict):
        raise DataError(f"not a record: {str(values)[:80]!r}")
    if unknown := sorted(map(str, set(values) - set(FIELDS))):
        hint = did_you_mean(unknown[0], FIELDS)
        if values.get("profile") is None and values.get("aspect") is None:
            hint = f"to import it as a note, name it in [prompts.{values.get('kind') or 'item'}] aspects"
        raise DataError(f"unknown field {unknown[0]!r}", hint=hint)
    for name in STRINGS:
        if values.get(name) is not None and not isinstance(values[name], str):
            raise DataError(f"{name} must be text, not {values[name]!r}")
    for name in (*COUNTS, "cost_usd"):
        number = values.get(name)
        if name in COUNTS and isinstance(number, float) and number.is_integer():
            number = values[name] = int(number)  # data frames turn integers into floats if one is missing
        wanted = int if name in COUNTS else int | float
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, wanted) or not math.isfinite(number)
        ):
            raise DataError(f"{name} must be a number or null, not {number!r}")
    fields = {"aspect": "", "profile": "", "embedder": "", "input_hash": "", "generated_at": now, "kind": "item"}
    fields |= {name: value for name, value in values.items() if value is not None}
    if "id" not in fields:
        raise DataError("field 'id' is missing")
    if fields["kind"] not in ("item", "user"):
        raise DataError(f"kind must be 'item' or 'user', not {fields['kind']!r}")
    tags = values.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise DataError(f"tags must be a list of texts, not {tags!r}")
    if not fields["profile"] and holds_note(fields["aspect"]):
        raise DataError("field 'profile' is missing or empty")
    vector = fields.pop("vector", None)
    ours = embedder is None or fields["embedder"] == embedder.fingerprint
    if vector is None or not ours:
        if not holds_note(fields["aspect"]):
            raise DataError(
                f"a record of the aspect {fields['aspect']!r} has no text to embed",
                hint="run `enhancer generate`, which embeds it",
            )
        if embedder is None:
            raise DataError("the row has no vector, and no embedder is given to make one")
        vector = None
    elif not fields["embedder"]:
        raise DataError("the row has a vector but no field 'embedder'")
    row = np.zeros(0, np.float32) if vector is None else check_vector(vector, str(fields["id"]))
    if lengths is not None and vector is not None and len(row) != (right := lengths.right(len(row))):
        raise DataError(
            f"its vector has {len(row):,} numbers, and those of its embedder have {right:,}",
            hint="leave out the vector, and the embedder makes it",
        )
    return Record(**{**fields, "tags": tuple(tags), "vector": row}), vector is not None  # type: ignore[arg-type]


def _extension(path: Path, known: Mapping[str, Any]) -> str:
    if (suffix := path.suffix.lower()) not in known:
        name = suffix or "(no extension)"
        raise ConfigError(f"{path}: unknown format {name!r}", hint=f"known extensions: {', '.join(known)}")
    return suffix
