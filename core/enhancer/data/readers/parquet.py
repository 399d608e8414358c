"""Read Parquet files, and folders of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from enhancer.data.readers.arrays import IrregularTableError, read_ahead
from enhancer.data.readers.arrow_columns import arrow_array, arrow_cells, is_list
from enhancer.data.readers.table_reader import BLOCK_ROWS, Block, ColumnKind, TableOptions, TableReader, check_names
from enhancer.errors import ConfigError, DataError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from enhancer.data.readers.arrays import Column, ColumnRole

_ARRAY_ROWS = 1 << 18
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


class ParquetReader(TableReader):
    """Reader of Parquet files. Only the requested columns are read, block by block.

    A folder is read as one table: its files in the order of their paths, with the columns of all, and a column for each
    folder that is named like ``year=1995``. Files whose name begins with ``.`` or ``_`` are left out.
    """

    def __init__(self, path: Path, options: TableOptions | None = None) -> None:
        super().__init__(path)
        self._short = options is not None and options.plain_cells
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError:
            raise PluginError(f"reading {path} needs pyarrow", hint='pip install "enhancer[parquet]"') from None
        self._open: Any = parquet.ParquetFile
        self._error: Any = pa.ArrowException
        self._kinds: dict[str, ColumnKind] = {}
        self._files = parquet_files(path) if path.is_dir() else [path]
        if not self._files:
            raise ConfigError(f"{path} is a folder, not a file", hint="a folder may hold .parquet files of one table")
        columns: dict[str, None] = {}
        for file in self._files:
            names = [*self._read_schema(file), *self._partition(file)]
            check_names(file, names)
            columns.update(dict.fromkeys(names))
        check_names(path, list(columns))
        self.columns = list(columns)

    def column_kinds(self) -> dict[str, ColumnKind]:
        """Return the columns that hold lists."""
        return dict(self._kinds)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        first = 0
        try:
            for path in self._files:
                given = self._partition(path)
                with self._open(path) as file:
                    own = set(file.schema_arrow.names)
                    wanted = [name for name in names if name in own]
                    for batch in file.iter_batches(batch_size=8 * BLOCK_ROWS, columns=wanted):
                        if not (count := batch.num_rows):
                            continue
                        yield (
                            range(first, first + count),
                            [
                                arrow_cells(batch.column(name), short_floats=self._short)
                                if name in own
                                else [given.get(name, "")] * count
                                for name in names
                            ],
                        )
                        first += count
        except self._error as error:
            raise DataError(f"{self.path}: damaged after row {first} ({type(error).__name__})") from None

    def array_blocks(self, roles: Mapping[str, ColumnRole]) -> Iterator[tuple[Sequence[int], list[Column]]]:
        """Stream columns as arrays."""
        first = 0
        try:
            for count, columns in read_ahead(self._batches(roles)):
                yield range(first, first + count), columns
                first += count
        except self._error:
            raise IrregularTableError from None

    def _batches(self, roles: Mapping[str, ColumnRole]) -> Iterator[tuple[int, list[Column]]]:
        for path in self._files:
            if self._partition(path):
                raise IrregularTableError
            with self._open(path) as file:
                if not roles.keys() <= set(file.schema_arrow.names):
                    raise IrregularTableError
                for batch in file.iter_batches(batch_size=_ARRAY_ROWS, columns=list(roles)):
                    if count := batch.num_rows:
                        yield count, [arrow_array(batch.column(name), role) for name, role in roles.items()]

    def location(self, row: int) -> str:
        """Return the row."""
        return f"row {row + 1}"

    def _read_schema(self, path: Path) -> list[str]:
        """Return the names of the columns of a file, and remember which hold lists."""
        try:
            with self._open(path) as file:
                fields = list(file.schema_arrow)
        except self._error:
            raise DataError(f"{path} is empty or not a Parquet file") from None
        self._kinds.update({str(field.name): "list" for field in fields if is_list(field.type)})
        return [str(field.name) for field in fields]

    def _partition(self, path: Path) -> dict[str, str]:
        """Return the columns that the folders of a file state, such as ``year=1995``."""
        folders = path.relative_to(self.path).parts[:-1] if path != self.path else ()
        stated = (folder.partition("=") for folder in folders if "=" in folder)
        return {unquote(name): "" if value == _NO_PARTITION else unquote(value) for name, _, value in stated}


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder in the order of their paths, without hidden ones."""
    found = sorted(folder.rglob("*.parquet"))
    return [
        path
        for path in found
        if path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    ]
