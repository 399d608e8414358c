"""Read Parquet files. This is the only module that imports pyarrow."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from enhancer.data.readers.json_text import json_text
from enhancer.data.readers.table_reader import BLOCK_ROWS, Block, ColumnKind, TableReader
from enhancer.errors import DataError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class ParquetReader(TableReader):
    """Reader of Parquet files. Only the requested columns are read, block by block."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError:
            raise PluginError(f"reading {path} needs pyarrow", hint='pip install "enhancer[parquet]"') from None
        self._open: Any = parquet.ParquetFile
        self._error: Any = pa.ArrowException
        try:
            with self._open(path) as file:
                self.columns = [str(name) for name in file.schema_arrow.names]
                lists = [str(each.name) for each in file.schema_arrow if pa.types.is_list(each.type)]
        except self._error:
            raise DataError(f"{path} is empty or not a Parquet file") from None
        if duplicates := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise DataError(f"{path}: two columns are called {duplicates[0]!r}", hint="rename one of the columns")
        self._kinds: dict[str, ColumnKind] = dict.fromkeys(lists, "list")

    def column_kinds(self) -> dict[str, ColumnKind]:
        """Return the columns that hold lists."""
        return dict(self._kinds)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        first = 0
        try:
            with self._open(self.path) as file:
                for batch in file.iter_batches(batch_size=8 * BLOCK_ROWS, columns=list(names)):
                    if batch.num_rows:
                        values = [_texts(batch.column(name)) for name in names]
                        yield first, values
                        first += batch.num_rows
        except self._error as error:
            raise DataError(f"{self.path}: damaged after row {first} ({type(error).__name__})") from None

    def location(self, row: int) -> str:
        """Return the row."""
        return f"row {row + 1}"


def _texts(column: Any) -> list[str]:
    import pyarrow as pa

    if not pa.types.is_timestamp(column.type) or column.type.unit != "ns":
        return [_text(value) for value in column.to_pylist()]
    # A datetime has no nanoseconds, and pyarrow needs pandas for them.
    nanoseconds = column.cast(pa.int64()).to_pylist()
    microseconds = [None if value is None else value // 1000 for value in nanoseconds]
    moments = pa.array(microseconds, pa.timestamp("us", column.type.tz)).to_pylist()
    return [
        "" if moment is None else _with_nanoseconds(moment, value % 1000)
        for moment, value in zip(moments, nanoseconds, strict=True)
    ]


def _with_nanoseconds(moment: dt.datetime, rest: int) -> str:
    if not rest:
        return moment.isoformat()
    text = moment.isoformat(timespec="microseconds")
    end = text.index(".") + 7
    return f"{text[:end]}{rest:03}{text[end:]}"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dt.datetime, dt.date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return json_text(value)
    except TypeError:  # a type without a JSON form, such as a decimal
        return str(value)
