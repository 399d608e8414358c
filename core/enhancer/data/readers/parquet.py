"""Read Parquet files, and folders of them. This is the only module of the readers that needs pyarrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np

from enhancer.data.readers.arrays import CodedColumn, IrregularTableError, TimeColumn, read_ahead
from enhancer.data.readers.cells import cell
from enhancer.data.readers.table_reader import BLOCK_ROWS, Block, ColumnKind, TableOptions, TableReader, check_names
from enhancer.errors import ConfigError, DataError, PluginError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.data.readers.arrays import Column, ColumnRole

_ARRAY_ROWS = 1 << 18
_DAY_SECONDS, _THOUSAND = 86_400, 1000
_DECIMALS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
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
                                _cells(batch.column(name), short_floats=self._short)
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
                        yield count, [_array(batch.column(name), role) for name, role in roles.items()]

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
        self._kinds.update({str(field.name): "list" for field in fields if _is_list(field.type)})
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


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    views = (getattr(pa.types, name, None) for name in ("is_list_view", "is_large_list_view"))
    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, *views)
    return any(check is not None and check(kind) for check in checks)


def _array(column: Any, role: ColumnRole) -> Column:
    """Return an Arrow array as a column; text for types that are no numbers, times or strings."""
    import pyarrow as pa

    kind, types = column.type, pa.types
    if role == "text":
        return _cells(column)
    if column.null_count:
        raise IrregularTableError
    if types.is_string(kind) or types.is_large_string(kind):
        column = column.dictionary_encode()
    if types.is_dictionary(column.type):
        if column.dictionary.null_count:
            raise IrregularTableError
        return CodedColumn(column.indices.to_numpy().astype(np.int32, copy=False), _cells(column.dictionary))
    if types.is_integer(kind) and kind != pa.uint64():
        integers: NDArray[np.int64] = column.to_numpy().astype(np.int64, copy=False)
        return integers
    if types.is_float64(kind) and role == "number":
        floats: NDArray[np.float64] = column.to_numpy()
        return floats
    if types.is_timestamp(kind) and role == "time":
        return _moments(column.cast(pa.int64()).to_numpy(), _DECIMALS[kind.unit])
    if types.is_date32(kind) and role == "time":
        return _moments(column.cast(pa.int32()).to_numpy().astype(np.int64) * _DAY_SECONDS, 0)
    return _cells(column)


def _moments(times: NDArray[np.int64], decimals: int) -> TimeColumn:
    """Return times with as few decimals as they need."""
    while decimals and not (times % _THOUSAND).any():
        times, decimals = times // _THOUSAND, decimals - 3
    while decimals and not (times % 10).any():
        times, decimals = times // 10, decimals - 1
    return TimeColumn(times, decimals)


def _cells(column: Any, *, short_floats: bool = False) -> list[str]:
    """Return the cells of an Arrow array."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        return _cells(column.dictionary_decode(), short_floats=short_floats)
    if short_floats and (width := _narrow_floats(kind)) is not None:
        return [cell(_shortened(value, width)) for value in column.to_pylist()]
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return _nanoseconds(column)
    coarser = _without_nanoseconds(kind)
    if coarser != kind:
        column = column.cast(coarser, safe=False)
    return [cell(value) for value in column.to_pylist()]


def _narrow_floats(kind: Any) -> type[np.floating] | None:
    """Return the NumPy type of floats of less than 64 bits, or of lists of them."""
    import pyarrow as pa

    if _is_list(kind):
        return _narrow_floats(kind.value_type)
    if pa.types.is_float32(kind):
        return np.float32
    return np.float16 if pa.types.is_float16(kind) else None


def _shortened(value: Any, width: type[np.floating]) -> Any:
    """Return a number with the fewest digits that tell it from others of its width; also within lists."""
    if isinstance(value, list):
        return [_shortened(part, width) for part in value]
    return None if value is None else float(str(width(value)))


def _without_nanoseconds(kind: Any) -> Any:
    """Return a type with microseconds for nanoseconds, however nested: pyarrow needs pandas for nanoseconds."""
    import pyarrow as pa

    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if pa.types.is_struct(kind):
        return pa.struct(
            [kind.field(n).with_type(_without_nanoseconds(kind.field(n).type)) for n in range(kind.num_fields)]
        )
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_nanoseconds(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_without_nanoseconds(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_without_nanoseconds(kind.value_type)), kind.list_size)
    return kind


def _nanoseconds(column: Any) -> list[str]:
    """Return ISO 8601. A datetime has no nanoseconds, and pyarrow needs pandas for them."""
    import pyarrow as pa

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
