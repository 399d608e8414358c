"""Looking after what a store holds: to a file and back, and without what is gone."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts.record import Record
from enhancer.errors import ConfigError, DataError, EnhancerError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from pathlib import Path

    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore

_BATCH = 512
"""Records in memory at once."""
_TEXT = ("id", "kind", "aspect", "profile", "prompt_version", "model", "embedder", "generated_at", "input_hash")
_COUNTS = ("prompt_tokens", "completion_tokens")
FIELDS = (*_TEXT, *_COUNTS, "cost_usd", "tags", "vector")
"""The columns of an exported file: the fields of :class:`~enhancer.contracts.Record`."""
FORMATS = (".jsonl", ".parquet")


def record_to_json(record: Record) -> dict[str, Any]:
    """A record as JSON values; floats keep every bit of their float32.

    >>> from enhancer.contracts import Record
    >>> made = dict(profile="p", embedder="e", generated_at="2025-01-01T00:00:00Z", input_hash="h")
    >>> record_to_json(Record(id="1", vector=np.array([0.5, 1], np.float32), **made))["vector"]
    [0.5, 1.0]
    """
    values = {name: getattr(record, name) for name in FIELDS}
    return {**values, "tags": list(record.tags), "vector": [float(value) for value in record.vector]}


def record_from_json(values: Any) -> Record:
    """Inverse of :func:`record_to_json`. Missing fields take their defaults; unknown ones are errors.

    Raises:
        DataError: A field is missing, unknown or of a wrong type.
    """
    if not isinstance(values, dict):
        raise DataError(f"not a record: {str(values)[:80]!r}")
    if unknown := sorted(set(values) - set(FIELDS)):
        raise DataError(f"unknown field {unknown[0]!r}", hint=did_you_mean(unknown[0], FIELDS))
    for name in _TEXT:
        if name in values and not isinstance(values[name], str):
            raise DataError(f"{name} must be text, not {values[name]!r}")
    if values.get("kind", "item") not in ("item", "user"):
        raise DataError(f"kind must be 'item' or 'user', not {values['kind']!r}")
    for name in (*_COUNTS, "cost_usd"):
        number = values.get(name)
        if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise DataError(f"{name} must be a number or null, not {number!r}")
    tags = values.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise DataError(f"tags must be a list of texts, not {tags!r}")
    try:
        vector = np.asarray(values["vector"], dtype=np.float32)
        return Record(**{**values, "tags": tuple(tags), "vector": vector})
    except KeyError as error:
        raise DataError(f"field {error} is missing") from None
    except TypeError as error:  # the constructor names the fields that it lacks
        raise DataError(str(error).replace("Record.__init__() ", "")) from None
    except ValueError as error:
        raise DataError(f"vector: {error}") from None


def export_records(store: FeatureStore, path: Path) -> int:
    """Write every record to a file, whole or not at all.

    Args:
        store: Where from.
        path: ``.jsonl`` (one record a line) or ``.parquet``.

    Returns:
        How many were written.

    Raises:
        ConfigError: The ending names no known format, or the file cannot be written.
    """
    write = {".jsonl": _write_jsonl, ".parquet": _write_parquet}[_format(path)]
    with _replacing(path) as draft:
        return write(draft, store.scan())


def import_records(store: FeatureStore, path: Path) -> int:
    """Put the records of a file into a store, replacing those of equal key.

    Args:
        store: Where to.
        path: ``.jsonl`` or ``.parquet``, as :func:`export_records` writes them.

    Returns:
        How many were read.

    Raises:
        ConfigError: The ending names no known format, or the file cannot be read.
        DataError: A row is not a record; the message names it. Batches before it are in the store.
    """
    read = {".jsonl": _read_jsonl, ".parquet": _read_parquet}[_format(path)]
    if not path.is_file():
        raise ConfigError(f"no file {path}")
    done = 0
    rows = _records(path, read(path))
    while batch := list(islice(rows, _BATCH)):
        store.put(batch)
        done += len(batch)
    return done


def collect_garbage(store: FeatureStore, kind: Kind, known: Container[str]) -> int:
    """Remove the records of entities that are not known any more.

    Args:
        store: Where from.
        kind: Items or users.
        known: Ids of the entities that there are.

    Returns:
        How many records were removed.
    """
    gone: dict[str, list[str]] = {}
    for record in store.scan(kind=kind):
        if record.id not in known:
            gone.setdefault(record.aspect, []).append(record.id)
    return sum(
        store.delete(ids[start : start + _BATCH], kind=kind, aspect=aspect)
        for aspect, ids in gone.items()
        for start in range(0, len(ids), _BATCH)
    )


def _format(path: Path) -> str:
    if (suffix := path.suffix.lower()) not in FORMATS:
        raise ConfigError(
            f"{path}: unknown format {suffix or '(no ending)'!r}", hint=f"end it in {' or '.join(FORMATS)}"
        )
    return suffix


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A draft beside the file, which takes its place when all went well."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield draft
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)


def _records(path: Path, rows: Iterable[tuple[int, Any]]) -> Iterator[Record]:
    for number, values in rows:
        try:
            yield record_from_json(values)
        except EnhancerError as error:
            raise DataError(f"{path}, row {number}: {error.message}", hint=error.hint) from None


def _write_jsonl(path: Path, records: Iterable[Record]) -> int:
    done = 0
    with path.open("w", encoding="utf-8", errors="surrogatepass") as file:
        for done, record in enumerate(records, start=1):  # noqa: B007  counts what was written
            file.write(json.dumps(record_to_json(record), ensure_ascii=True) + "\n")
    return done


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8") as file:
        try:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, json.loads(line)
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8: {error}") from None
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, row {number}: not JSON: {error}") from None


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet  # makes ``pa.parquet`` there
    except ImportError:
        raise ConfigError("Parquet needs pyarrow", hint='pip install "enhancer[parquet]"') from None
    return pa


def _write_parquet(path: Path, records: Iterable[Record]) -> int:
    pa = _pyarrow()
    columns = {name: pa.string() for name in _TEXT} | {name: pa.int64() for name in _COUNTS}
    columns |= {"cost_usd": pa.float64(), "tags": pa.list_(pa.string()), "vector": pa.list_(pa.float32())}
    schema = pa.schema([(name, columns[name]) for name in FIELDS])
    done = 0
    stream = iter(records)
    with pa.parquet.ParquetWriter(path, schema) as writer:
        while batch := list(islice(stream, _BATCH)):
            rows = [record_to_json(record) for record in batch]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            done += len(batch)
    return done


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    pa = _pyarrow()
    try:
        with pa.parquet.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} does not read as Parquet: {error}") from None
