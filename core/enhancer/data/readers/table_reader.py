"""Define the interface of a table reader and the blocks that it yields."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Literal

from enhancer.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BLOCK_ROWS = 2048
"""Rows per block. A block of this size fits the processor's cache, which doubles the speed."""
BLANK = "\x00blank\x00"
"""Value of every column of a blank line."""
_SAMPLE_BYTES = 1 << 16
"""Bytes read to detect the line ending of a file."""

ColumnKind = Literal["number", "category", "words", "list"]
"""Kind of a column. ``words``: words separated by blanks; ``list``: values joined by a comma and a blank."""

Block = tuple[int, list[list[str]]]
"""Number of the first row (from 0, blank lines included) and one list of values per requested column."""


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


@contextmanager
def open_utf8(path: Path) -> Iterator[IO[str]]:
    """Open a UTF-8 text file.

    Raises:
        DataError: The file is not UTF-8. The message names the line.
    """
    with path.open("rb") as file:
        # Detecting every kind of line ending takes three times as long; files that use CR alone are rare.
        newline = "\n" if b"\n" in file.read(_SAMPLE_BYTES) else ""
    with path.open(encoding="utf-8-sig", newline=newline) as lines:
        try:
            yield lines
        except UnicodeDecodeError:
            raise DataError(
                f"{path}, line {_first_undecodable_line(path)}: not UTF-8", hint="save the file as UTF-8"
            ) from None


def _first_undecodable_line(path: Path) -> int:
    number = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):  # noqa: B007 - the number is the result
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                break
    return number
