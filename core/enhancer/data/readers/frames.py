"""Read tables in memory: frames of pandas, Polars, PyArrow, DuckDB, datasets, and whatever Narwhals knows.

A frame is registered under a path, so that it goes wherever the file of a table does. It is held by whoever registered
it, and forgotten with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from enhancer.data.readers.arrays import IrregularTableError, read_ahead
from enhancer.data.readers.arrow_columns import arrow_array, arrow_cells, is_list
from enhancer.data.readers.table_reader import BLOCK_ROWS, Block, ColumnKind, TableOptions, TableReader, check_names
from enhancer.errors import ConfigError, DataError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from enhancer.data.readers.arrays import Column, ColumnRole

_ARRAY_ROWS = 1 << 18
_INSTALL = 'pip install "enhancer[frames]"'


class Frame:
    """A table in memory.

    Args:
        table: A ``pyarrow.Table``.
        name: What it is, for messages, such as ``items (pandas.DataFrame)``.
    """

    def __init__(self, table: Any, name: str) -> None:
        self.table = table
        self.name = name


_FRAMES: WeakValueDictionary[Path, Frame] = WeakValueDictionary()


def register_frame(path: Path, frame: Frame) -> None:
    """Have a path stand for a frame, as long as the frame is referred to."""
    _FRAMES[path] = frame


def frame_at(path: Path) -> Frame | None:
    """Return the frame that a path stands for; None for a file."""
    return _FRAMES.get(path)


def frame_of(given: object, table: str) -> Frame:
    """Return a data frame as a table in memory, without a copy where Arrow shares the memory.

    Args:
        given: A frame of any library that Narwhals knows, lazy or not, a ``datasets.Dataset``, or an object that hands
            out an Arrow stream.
        table: Table of ``[data]`` that it is, for messages.

    Raises:
        ConfigError: It is no data frame, or lacks what its library needs.
        DataError: A column holds values of different types.
        PluginError: pyarrow or Narwhals is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise PluginError(f"{table} is a data frame, which needs pyarrow", hint=_INSTALL) from None
    name = f"{table} ({type(given).__module__.partition('.')[0]}.{type(given).__name__})"
    try:
        made = _arrow(given, name, pa)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise DataError(
            f"{name}: {' '.join(str(error).split())[:300]}", hint="a column must hold values of one type"
        ) from None
    return Frame(made, name)


def _arrow(given: Any, name: str, pa: Any) -> Any:
    """Return a ``pyarrow.Table``."""
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, pa.RecordBatch):
        return pa.Table.from_batches([given])
    if hasattr(given, "with_format") and hasattr(given, "data"):  # a datasets.Dataset, whose rows may be a selection
        return pa.Table.from_batches(given.with_format("arrow")[:].to_batches())
    try:
        import narwhals as nw
    except ImportError:
        if hasattr(given, "__arrow_c_stream__"):
            return pa.table(given)
        raise PluginError(f"{name} needs Narwhals to be read", hint=_INSTALL) from None
    frame = nw.from_native(given, pass_through=True)
    if isinstance(frame, nw.LazyFrame):
        return frame.collect("pyarrow").to_native()
    if isinstance(frame, nw.DataFrame):
        return _without_index(frame.to_arrow())
    if hasattr(given, "__arrow_c_stream__"):
        return pa.table(given)
    raise ConfigError(
        f"{name} is no data frame",
        hint="pass a frame of pandas, Polars, PyArrow, DuckDB or datasets; for a file, set [data] in the settings",
    )


def _without_index(table: Any) -> Any:
    """Return a table without the columns that an index of pandas has left."""
    return table.select([name for name in table.column_names if not name.startswith("__index_level_")])


class FrameReader(TableReader):
    """Reader of a table in memory.

    Args:
        frame: The table.
        options: How cells are read.
    """

    def __init__(self, frame: Frame, options: TableOptions | None = None) -> None:
        super().__init__(Path(frame.name))
        self._table = frame.table
        self._short = options is not None and options.plain_cells
        self.columns = [str(name) for name in self._table.column_names]
        check_names(self.path, self.columns)

    def column_kinds(self) -> dict[str, ColumnKind]:
        """Return the columns that hold lists."""
        return {field.name: "list" for field in self._table.schema if is_list(field.type)}

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        first = 0
        for batch in self._batches(names, 8 * BLOCK_ROWS):
            cells = [arrow_cells(batch.column(name), short_floats=self._short) for name in names]
            yield range(first, first + batch.num_rows), cells
            first += batch.num_rows

    def array_blocks(self, roles: Mapping[str, ColumnRole]) -> Iterator[tuple[Sequence[int], list[Column]]]:
        """Stream columns as arrays."""
        if not roles.keys() <= set(self.columns):
            raise IrregularTableError
        first = 0
        batches = (
            (batch.num_rows, [arrow_array(batch.column(name), role) for name, role in roles.items()])
            for batch in self._batches(list(roles), _ARRAY_ROWS)
        )
        for count, columns in read_ahead(batches):
            yield range(first, first + count), columns
            first += count

    def location(self, row: int) -> str:
        """Return the row."""
        return f"row {row + 1}"

    def _batches(self, names: Sequence[str], size: int) -> Iterator[Any]:
        chosen = self._table.select(list(dict.fromkeys(names)))
        return (batch for batch in chosen.to_batches(max_chunksize=size) if batch.num_rows)
