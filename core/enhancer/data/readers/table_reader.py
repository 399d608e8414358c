"""Define the interface of a table reader and the blocks that it yields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from enhancer.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from enhancer.config.data import DataConfig
    from enhancer.data.readers.arrays import Column, ColumnRole

BLOCK_ROWS = 2048
"""Rows per block. A block of this size fits the processor's cache, which doubles the speed."""
MAX_COLUMNS = 100_000
"""Largest number of columns."""
BLOCK_CELLS = 1 << 17
"""Cells per block of a very wide table."""

ColumnKind = Literal["number", "category", "words", "list"]
"""Kind of a column. ``words``: words separated by blanks; ``list``: lists, whose cells are
:class:`~enhancer.data.readers.cells.ListCell`."""

Block = tuple[Sequence[int], list[list[str]]]
"""Row numbers (from 0, blank lines counted and left out), and one list of cells per requested column."""


Role = Literal["items", "users", "interactions"]
"""Roles of files of public data sets. Reviews are interactions."""
Table = Literal["items", "users", "interactions", "reviews"]
"""Table of ``[data]``."""
AUTO = "auto"
"""Format of a file that is to be recognised."""


@dataclass(frozen=True)
class TableOptions:
    """Options of reading a table."""

    encoding: str = "utf-8"
    """Encoding of text; UTF-8 is read as such beside any encoding of one byte per character."""
    plain_cells: bool = False
    """Whether texts show any list as its elements, and 32-bit numbers by their shortest digits."""
    format: str = AUTO
    """Name of a native format, or :data:`AUTO`; see :mod:`enhancer.data.readers.native`."""
    table: Table = "items"
    """Table of ``[data]`` that the file is, which the name of a native format leaves open."""

    @property
    def role(self) -> Role:
        """Role of the file in a native format."""
        return "interactions" if self.table == "reviews" else self.table

    @classmethod
    def of(cls, data: DataConfig, table: Table) -> Self:
        """Return how ``[data]`` wants a table to be read."""
        formats = {
            "items": data.items_format,
            "users": data.users_format,
            "interactions": data.interactions_format,
            "reviews": data.reviews_format,
        }
        return cls(encoding=data.encoding, plain_cells=data.plain_cells, format=formats[table], table=table)


class TableReader(ABC):
    """A file of rows.

    Attributes:
        path: Path of the file.
        columns: Names of its columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []

    def scan_columns(self) -> None:
        """Find all columns, for formats in which the beginning of the file may not name all of them."""

    def column_kinds(self) -> dict[str, ColumnKind]:
        """Return the kinds of the columns whose kind the file declares, by name."""
        return {}

    @abstractmethod
    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns. Each call reads the file again.

        Raises:
            DataError: The file holds something that is not a row.
        """

    def array_blocks(self, roles: Mapping[str, ColumnRole]) -> Iterator[tuple[Sequence[int], list[Column]]]:
        """Stream columns as arrays where the format allows it; by default as :meth:`blocks` does.

        Args:
            roles: Use of each column, by name.

        Raises:
            IrregularTableError: The rows, or some of them, have to be read by :meth:`blocks`.
        """
        for rows, columns in self.blocks(list(roles)):
            yield rows, list(columns)

    @abstractmethod
    def location(self, row: int) -> str:
        """Return the location of a row for error messages, such as ``line 12``."""

    def value_error(self, row: int, column: str, problem: str, *, hint: str | None = None) -> DataError:
        """Return the error for an invalid value."""
        return DataError(f"{self.path}, {self.location(row)}, column {column!r}: {problem}", hint=hint)

    def require(self, name: str, setting: str) -> str:
        """Return ``name`` after checking that the column exists.

        Args:
            name: Name of the column.
            setting: Configuration key that names it, for the message.

        Raises:
            ConfigError: There is no such column. The hint names the closest one.
        """
        if not name.strip():
            raise ConfigError(f"[data.columns] {setting} is empty", hint="name a column or remove the key")
        if name not in self.columns:
            raise ConfigError(
                f"{self.path} has no column {name!r} (see [data.columns] {setting})",
                hint=did_you_mean(name, self.columns),
            )
        return name


def block_rows(width: int) -> int:
    """Return the rows of a block of so many columns: fewer than :data:`BLOCK_ROWS` in a very wide table."""
    return max(1, min(BLOCK_ROWS, BLOCK_CELLS // max(1, width)))


def check_names(path: Path, names: Sequence[str], location: str = "") -> None:
    """Check that no two columns have the same name, and that there are not too many.

    Args:
        path: Path of the file.
        names: Names of the columns; empty ones may repeat.
        location: What to append to the path in messages, such as ``", line 1"``.

    Raises:
        DataError: A name occurs twice, or there are more than :data:`MAX_COLUMNS`.
    """
    check_width(path, len(names), location)
    if duplicates := sorted(name for name, count in Counter(names).items() if name and count > 1):
        raise DataError(f"{path}{location}: two columns are called {duplicates[0]!r}", hint="rename one of the columns")


def check_width(path: Path, width: int, location: str = "") -> None:
    """Check that there are not too many columns.

    Args:
        path: Path of the file.
        width: Number of columns.
        location: As in :func:`check_names`.

    Raises:
        DataError: There are more than :data:`MAX_COLUMNS`.
    """
    if width > MAX_COLUMNS:
        raise DataError(
            f"{path}{location}: more than {MAX_COLUMNS:,} columns",
            hint="keep such values in rows or lists instead of columns",
        )
