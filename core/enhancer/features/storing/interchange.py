"""Records to a file and back; the file's ending names the format. Nothing is executed by being read.

==================  ==================================================================  ==========
ending              holds                                                               read back
==================  ==================================================================  ==========
``.jsonl``          a record a line                                                     yes
``.parquet``        a record a row; vectors as Arrow fixed-size lists of float32        yes
``.safetensors``    ``vectors`` float32 ``[n, dim]``, ``records`` (JSON lines, UTF-8)   yes
``.itememb``        RecBole: item id and vector                                         no
``.useremb``        RecBole: user id and vector                                         no
==================  ==================================================================  ==========
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from enhancer.contracts.record import PROFILE_ASPECT, TEXT_ASPECT, Record
from enhancer.errors import ConfigError, DataError, EnhancerError, did_you_mean
from enhancer.features.storing import arrow
from enhancer.features.storing.record_fields import (
    COUNTS,
    FIELDS,
    STRINGS,
    Row,
    one_dim,
    record_to_json,
    without_vector,
)
from enhancer.features.storing.records import embedding_text
from enhancer.files import atomic_replace, check_output_path
from enhancer.harness import clock
from enhancer.storekit.codec import check_vector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore

__all__ = ["FIELDS", "ImportReport", "export_records", "import_records", "record_to_json"]

_BATCH: Final = 512
"""Records in memory at once."""

Validate = Callable[[Mapping[str, Any]], None]
"""Given ``{"profile": ..., "tags": [...]}``; raises an ``EnhancerError`` that says what is wrong with it."""
Complete = Callable[[Row], Mapping[str, Any]]
"""Given a row; returns fields to fill in where the row lacks them."""


@dataclass(frozen=True)
class ImportReport:
    """What an import did."""

    records: int
    """Records put into the store."""
    embedded: int
    """Of these, how many had no vector, or one of another embedder, and were embedded."""

    def to_json(self) -> dict[str, int]:
        """Both counts, by name."""
        return {"records": self.records, "embedded": self.embedded}


def export_records(
    store: FeatureStore, path: str | Path, *, kind: Kind | None = None, aspect: str | None = None
) -> int:
    """Write records to a file, whole or not at all, as a stream.

    Args:
        store: Where from.
        path: The file; a file that is there is replaced when all is written.
        kind: Items or users alone.
        aspect: One aspect alone. RecBole's formats, which hold one vector an id, take the profiles if not told
            otherwise, or the raw texts where there are no profiles.

    Returns:
        How many were written.

    Raises:
        ConfigError: The ending names no format, or the file cannot be written.
        DataError: Nothing is of that kind and aspect.
        StoreMismatchError: The format takes vectors of one length, and these are not.
        StoreCorruptError: A record is damaged.
    """
    path = Path(path)
    writers: dict[str, Callable[[Path, Iterable[Record]], int]] = {
        ".jsonl": _write_jsonl,
        ".parquet": arrow.write_parquet,
        ".safetensors": _write_safetensors,
        ".itememb": partial(_write_recbole, "item"),
        ".useremb": partial(_write_recbole, "user"),
    }
    write = writers[_ending(path, writers)]
    check_output_path(path)
    of_format: dict[str, Kind] = {".itememb": "item", ".useremb": "user"}
    wanted = of_format.get(path.suffix.lower(), kind)
    if path.suffix.lower() in of_format and aspect is None:
        aspect = _one_aspect(store, wanted)
    try:
        with atomic_replace(path) as draft:
            done = write(draft, store.scan(kind=wanted, aspect=aspect))
            if not done and (wanted is not None or aspect is not None):
                part = " and ".join([f"kind {wanted!r}"] * bool(wanted) + [f"aspect {aspect!r}"] * (aspect is not None))
                raise DataError(f"there are no records of {part}: nothing was written to {path}")
            return done
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None


def _one_aspect(store: FeatureStore, kind: Kind | None) -> str:
    """For formats that hold one vector an id: the profiles', or the raw texts' where there are no profiles."""
    return TEXT_ASPECT if next(store.scan(kind=kind, aspect=PROFILE_ASPECT), None) is None else PROFILE_ASPECT


def import_records(
    store: FeatureStore,
    path: str | Path,
    embedder: Embedder | None = None,
    *,
    validate: Validate | None = None,
    complete: Complete | None = None,
) -> ImportReport:
    """Put the records of a file into a store, replacing those of equal key, as a stream.

    Args:
        store: Where to.
        path: ``.jsonl``, ``.parquet`` or ``.safetensors``. A row needs an ``id`` and a ``profile`` (for the aspect
            ``text``: a vector); every other field has a default.
        embedder: Embeds the rows that have no vector, or one that another embedder made. Without it every row must
            have a vector and name its ``embedder``.
        validate: Judges profile and tags as generated ones are judged; not asked about the aspect ``text``.
        complete: Fills in what a row lacks, such as ``input_hash`` and ``prompt_version``.

    Returns:
        What was done.

    Raises:
        ConfigError: The ending names no format that can be read, or there is no such file.
        DataError: A row is no record or its profile is not valid; file and row are named. Batches of 512 records
            before it are in the store.
    """
    path = Path(path)
    readers: dict[str, Callable[[Path], Iterator[tuple[int, Any]]]] = {
        ".jsonl": _read_jsonl,
        ".parquet": arrow.read_parquet,
        ".safetensors": _read_safetensors,
    }
    read = readers[_ending(path, readers)]
    if not path.is_file():
        raise ConfigError(f"no file {path}")
    rows = _drafts(path, read(path), embedder, validate, complete)
    done = embedded = 0
    while batch := list(islice(rows, _BATCH)):
        lacking = [record for record, has_vector in batch if not has_vector]
        if lacking:
            assert embedder is not None
            vectors = embedder.encode([embedding_text(record.profile, record.tags) for record in lacking])
            for record, vector in zip(lacking, vectors, strict=True):
                record.vector, record.embedder = vector, embedder.fingerprint
        store.put([record for record, _ in batch])
        done, embedded = done + len(batch), embedded + len(lacking)
    return ImportReport(done, embedded)


# --- rows ---------------------------------------------------------------------------------------------------------


def _drafts(
    path: Path,
    rows: Iterable[tuple[int, Any]],
    embedder: Embedder | None,
    validate: Validate | None,
    complete: Complete | None,
) -> Iterator[tuple[Record, bool]]:
    """Records, and whether each has a vector that can be kept."""
    now = clock.now()
    for number, values in rows:
        try:
            if complete is not None and isinstance(values, dict):
                values = {**complete(values), **{k: v for k, v in values.items() if v is not None}}  # noqa: PLW2901
            record, has_vector = _draft(values, embedder, now)
            if validate is not None and record.aspect != TEXT_ASPECT:
                validate({"profile": record.profile, "tags": list(record.tags)})
        except EnhancerError as error:
            raise DataError(f"{path}, row {number}: {error.message}", hint=error.hint) from None
        yield record, has_vector


def _draft(values: Any, embedder: Embedder | None, now: str) -> tuple[Record, bool]:
    if not isinstance(values, dict):
        raise DataError(f"not a record: {str(values)[:80]!r}")
    if unknown := sorted(map(str, set(values) - set(FIELDS))):
        raise DataError(f"unknown field {unknown[0]!r}", hint=did_you_mean(unknown[0], FIELDS))
    for name in STRINGS:
        if values.get(name) is not None and not isinstance(values[name], str):
            raise DataError(f"{name} must be text, not {values[name]!r}")
    for name in (*COUNTS, "cost_usd"):
        number = values.get(name)
        if name in COUNTS and isinstance(number, float) and number.is_integer():
            number = values[name] = int(number)  # data frames make floats of whole numbers where one is missing
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
    if not fields["profile"] and fields["aspect"] != TEXT_ASPECT:
        raise DataError("field 'profile' is missing or empty")
    vector = fields.pop("vector", None)
    ours = embedder is None or fields["embedder"] == embedder.fingerprint
    if vector is None or not ours:
        if fields["aspect"] == TEXT_ASPECT:
            raise DataError(
                "a record of the aspect 'text' holds no text to embed anew",
                hint="`enhancer generate` makes it from the table",
            )
        if embedder is None:
            raise DataError("there is no vector, and no embedder to make one")
        vector = None
    elif not fields["embedder"]:
        raise DataError("a vector without the field 'embedder', which says what made it")
    row = np.zeros(0, np.float32) if vector is None else check_vector(vector, str(fields["id"]))
    if embedder is not None and vector is not None and len(row) != embedder.dim:
        raise DataError(
            f"its vector has {len(row):,} numbers, and the embedder that it names makes {embedder.dim:,}",
            hint="leave the vector out to have it made",
        )
    return Record(**{**fields, "tags": tuple(tags), "vector": row}), vector is not None  # type: ignore[arg-type]


def _ending(path: Path, known: Mapping[str, Any]) -> str:
    if (suffix := path.suffix.lower()) not in known:
        raise ConfigError(f"{path}: unknown format {suffix or '(no ending)'!r}", hint=f"end it in {', '.join(known)}")
    return suffix


# --- JSONL --------------------------------------------------------------------------------------------------------


def _write_jsonl(path: Path, records: Iterable[Record]) -> int:
    done = 0
    with path.open("w", encoding="ascii") as file:
        for record in records:
            file.write(json.dumps(record_to_json(record)) + "\n")
            done += 1
    return done


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        yield from _json_lines(path, file)


def _json_lines(path: Path, lines: Iterable[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                raise DataError(f"{path}, row {number}: not UTF-8: {error.reason} at byte {error.start}") from None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{path}, row {number}: not JSON: {error}") from None


# --- safetensors --------------------------------------------------------------------------------------------------


def _write_safetensors(path: Path, records: Iterable[Record]) -> int:
    """The header names sizes that are known only at the end: both tensors are gathered in files first."""
    with tempfile.TemporaryFile(dir=path.parent) as vectors, tempfile.TemporaryFile(dir=path.parent) as lines:
        done, dim = 0, None
        for record in records:
            dim = one_dim(record, dim)
            vectors.write(np.ascontiguousarray(record.vector, dtype="<f4").tobytes())
            lines.write(json.dumps(without_vector(record)).encode("ascii") + b"\n")
            done += 1
        first, second = vectors.tell(), lines.tell()
        header = {
            "vectors": {"dtype": "F32", "shape": [done, dim or 0], "data_offsets": [0, first]},
            "records": {"dtype": "U8", "shape": [second], "data_offsets": [first, first + second]},
        }
        text = json.dumps(header).encode("ascii")
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for part in (vectors, lines):
                part.seek(0)
                shutil.copyfileobj(part, file, 1 << 20)
    return done


def _read_safetensors(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file, path.open("rb") as rows:
        size = os.fstat(file.fileno()).st_size
        count = int.from_bytes(file.read(8), "little")
        try:
            if count > size - 8:
                raise ValueError("its header is longer than the file")  # noqa: TRY301 - all of these say the same
            header = json.loads(file.read(count))
            (n, dim), (begin, end) = header["vectors"]["shape"], header["vectors"]["data_offsets"]
            start, stop = header["records"]["data_offsets"]
            if header["vectors"]["dtype"] != "F32" or header["records"]["dtype"] != "U8" or end - begin != 4 * n * dim:
                raise ValueError("its tensors are of other types or sizes")  # noqa: TRY301 - likewise
            if not (0 <= begin <= end <= size - 8 - count and 0 <= start <= stop <= size - 8 - count):
                raise ValueError("a tensor lies outside of the file")  # noqa: TRY301 - likewise
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(f"{path} is no safetensors file of records: {error}") from None
        file.seek(8 + count + begin)
        rows.seek(8 + count + start)
        done = 0
        for number, row in _json_lines(path, _lines(rows, stop - start)):
            if not isinstance(row, dict) or number > n:
                raise DataError(f"{path}: {n} vectors for more or other records")
            yield number, {**row, "vector": np.frombuffer(file.read(4 * dim), dtype="<f4")}
            done += 1
        if done != n:
            raise DataError(f"{path}: {n} vectors for {done} records")


def _lines(file: IO[bytes], left: int) -> Iterator[bytes]:
    while left > 0:
        line = file.readline(left)
        if not line:
            return
        left -= len(line)
        yield line


# --- RecBole ------------------------------------------------------------------------------------------------------


def _write_recbole(kind: str, path: Path, records: Iterable[Record]) -> int:
    """RecBole's atomic format: a header that names field and type, then tab-separated columns.

    The id's column may not have the name that it has in the interactions: RecBole asks for another one, and to be told
    that both are the same (``alias_of_item_id: [iid]``).
    """
    done, dim = 0, None
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{kind[0]}id:token\t{kind}_emb:float_seq\n")
        for record in records:
            dim = one_dim(record, dim)
            if any(mark in record.id for mark in "\t\r\n"):
                raise DataError(f"RecBole's format cannot hold the id {record.id!r}", hint="export to .jsonl")
            file.write(f"{record.id}\t{' '.join(map(repr, record.vector.tolist()))}\n")
            done += 1
    return done
