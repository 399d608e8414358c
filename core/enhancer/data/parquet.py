"""Parquet as a table; pyarrow is imported here alone."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from enhancer.data.jsonl import as_text
from enhancer.data.readers import BLOCK, Block, ColumnKind, Table
from enhancer.errors import DataError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class ParquetTable(Table):
    """Read by blocks of rows, and only the columns that are asked for."""

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
            raise DataError(f"{path} is empty or no Parquet file") from None
        if twice := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise DataError(f"{path}: two columns are called {twice[0]!r}", hint="rename one of them")
        self._kinds: dict[str, ColumnKind] = dict.fromkeys(lists, "list")

    def kinds(self) -> dict[str, ColumnKind]:
        """Which columns hold lists."""
        return dict(self._kinds)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        first = 0
        try:
            with self._open(self.path) as file:
                for batch in file.iter_batches(batch_size=8 * BLOCK, columns=list(names)):
                    if batch.num_rows:
                        values = [[_text(v) for v in batch.column(name).to_pylist()] for name in names]
                        yield first, values
                        first += batch.num_rows
        except self._error as error:
            raise DataError(f"{self.path}: damaged after row {first} ({type(error).__name__})") from None

    def place(self, row: int) -> str:
        """The row."""
        return f"row {row + 1}"


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (dt.datetime, dt.date)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    try:
        return as_text(value)
    except TypeError:  # a type that JSON lacks, such as a decimal
        return str(value)
