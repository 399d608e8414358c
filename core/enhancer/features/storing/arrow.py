"""Convert records to Arrow tables and Parquet files, for pandas, Polars, DuckDB and torch.

Vectors are a column of fixed-size lists of float32. Arrow stores its numbers contiguously, so a chunk is a matrix:
``chunk.flatten().to_numpy()`` copies nothing, nor does sharing the result with torch.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from enhancer.errors import ConfigError, DataError
from enhancer.features.storing.record_fields import COUNTS, FIELDS, STRINGS, Row, one_dim, without_vector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from enhancer.contracts.record import Kind, Record
    from enhancer.contracts.store import FeatureStore

_READ: Final = 512
"""Rows read at once."""
_GROUP: Final = 8192
"""Largest number of rows in a row group. Small row groups cost every reader time for statistics and chunks."""
_GROUP_BYTES: Final = 16 << 20
"""Largest size of the vectors in a row group, in bytes: they are in memory while it is written."""
_REPEATED: Final = ("kind", "aspect", "prompt_version", "model", "embedder", "tags.list.element")
"""Columns with few distinct values, which are dictionary-encoded."""


def to_arrow(store: FeatureStore, *, kind: Kind | None = None, aspect: str | None = None) -> Any:
    """Return records as one ``pyarrow.Table`` with a column for each field.

    Every column is a single chunk, so the vectors are one matrix.

    Args:
        store: The store.
        kind: Only ``"item"`` or ``"user"`` records.
        aspect: Only one aspect.

    Raises:
        ConfigError: pyarrow is not installed.
        StoreMismatchError: The vectors differ in length.
        DataError: An id or text cannot be stored as an Arrow string.
    """
    pa = _pyarrow()
    schema, batches = _record_batches(pa, store.scan(kind=kind, aspect=aspect))
    return pa.Table.from_batches(list(batches), schema=schema).combine_chunks()


def to_pandas(store: FeatureStore, *, kind: Kind | None = None, aspect: str | None = None) -> Any:
    """Return records as a ``pandas.DataFrame``: one array per row in the column ``vector``. See :func:`to_arrow`.

    Raises:
        ConfigError: pyarrow or pandas is not installed.
    """
    try:
        return to_arrow(store, kind=kind, aspect=aspect).to_pandas()
    except ImportError:
        raise ConfigError("a data frame of pandas needs pandas", hint="pip install pandas") from None


def to_polars(store: FeatureStore, *, kind: Kind | None = None, aspect: str | None = None) -> Any:
    """Return records as a ``polars.DataFrame``, without a copy; vectors have the type ``Array``. See :func:`to_arrow`.

    Raises:
        ConfigError: pyarrow or Polars is not installed.
    """
    table = to_arrow(store, kind=kind, aspect=aspect)
    try:
        import polars as pl
    except ImportError:
        raise ConfigError("a data frame of Polars needs polars", hint="pip install polars") from None
    return pl.from_arrow(table)


def write_parquet(path: Path, records: Iterable[Record]) -> int:
    """Write records as a stream; return the number of records."""
    pa = _pyarrow()
    schema, batches = _record_batches(pa, records)
    done = 0
    # Vectors hardly compress; uncompressed, they are read at the speed of the disk.
    options = {
        "use_dictionary": list(_REPEATED),
        "compression": {name: "NONE" if name.startswith("vector") else "ZSTD" for name in _leaves(schema)},
    }
    with pa.parquet.ParquetWriter(path, schema, **options) as writer:
        for batch in batches:
            writer.write_batch(batch)
            done += batch.num_rows
    return done


def read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield rows with their numbers, from 1; vectors are numpy arrays if the file stores fixed-size lists.

    Raises:
        DataError: The file is not a Parquet file.
    """
    pa = _pyarrow()
    number = 0
    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_READ):
                for row in _rows(pa, batch):
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from None


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError:
        raise ConfigError("Arrow and Parquet need pyarrow", hint='pip install "enhancer[parquet]"') from None
    return pa


def _record_batches(pa: Any, records: Iterable[Record]) -> tuple[Any, Iterator[Any]]:
    """Return the schema, with the vector length of the first record, and a stream of Arrow record batches."""
    stream = iter(records)
    first = list(islice(stream, 1))
    dim = one_dim(first[0], None) if first else 0
    columns = {name: pa.string() for name in STRINGS} | {name: pa.int64() for name in COUNTS}
    columns |= {"cost_usd": pa.float64(), "tags": pa.list_(pa.string()), "vector": pa.list_(pa.float32(), dim)}
    schema = pa.schema([(name, columns[name]) for name in FIELDS])
    size = max(_READ, min(_GROUP, _GROUP_BYTES // (4 * max(1, dim))))

    def batches() -> Iterator[Any]:
        chunk = first + list(islice(stream, size - 1))
        while chunk:
            yield _record_batch(pa, chunk, schema, dim)
            chunk = list(islice(stream, size))

    return schema, batches()


def _record_batch(pa: Any, records: list[Record], schema: Any, dim: int) -> Any:
    matrix = np.empty((len(records), dim), np.float32)
    for row, record in zip(matrix, records, strict=True):
        one_dim(record, dim)
        row[:] = record.vector
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), dim)
    rows = [without_vector(record) for record in records]
    try:
        rest = [pa.array([row[field.name] for row in rows], field.type) for field in list(schema)[:-1]]
    except (pa.ArrowInvalid, UnicodeEncodeError) as error:
        raise DataError(f"Arrow cannot store these records: {error}", hint="export to .jsonl") from None
    return pa.RecordBatch.from_arrays([*rest, vectors], schema=schema)


def _leaves(schema: Any) -> list[str]:
    """Return the Parquet names of the columns."""
    nested = {"tags": "tags.list.element", "vector": "vector.list.element"}
    return [nested.get(name, name) for name in schema.names]


def _rows(pa: Any, batch: Any) -> Iterator[Row]:
    place = batch.schema.get_field_index("vector")
    kind = batch.schema.field(place).type if place >= 0 else None
    if kind is None or not pa.types.is_fixed_size_list(kind) or batch.column(place).null_count:
        yield from batch.to_pylist()
        return
    numbers = batch.column(place).flatten()
    if not pa.types.is_floating(kind.value_type) or numbers.null_count:
        yield from batch.to_pylist()
        return
    matrix = numbers.to_numpy(zero_copy_only=False).reshape(batch.num_rows, kind.list_size)
    others = batch.select([name for name in batch.schema.names if name != "vector"]).to_pylist()
    for row, vector in zip(others, matrix, strict=True):
        yield {**row, "vector": vector}
