"""Read lines of text in any encoding of the native formats, and tables whose rows are made from lines."""

from __future__ import annotations

from abc import abstractmethod
from itertools import zip_longest
from typing import TYPE_CHECKING

from enhancer.data.readers.arrays import CodedColumn, IrregularTableError
from enhancer.data.readers.plain_text import plain_blocks
from enhancer.data.readers.table_reader import Block, ColumnKind, TableReader
from enhancer.data.readers.text_files import open_binary
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from enhancer.data.readers.arrays import Column, ColumnRole

_CHUNK = 1 << 17
_HEAD_BYTES = 1 << 16
_HEAD_LINES = 50


def decode(raw: bytes) -> str:
    """Decode UTF-8, or Windows-1252 (the usual reading of Latin-1) if it is not UTF-8.

    >>> decode("Été".encode()), decode("Été".encode("latin-1"))
    ('Été', 'Été')
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return raw.decode("cp1252")
    except UnicodeDecodeError:  # five bytes mean nothing in Windows-1252
        return raw.decode("latin-1")


def line_blocks(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Stream the lines of a file in blocks, without their ends.

    Each line is decoded by itself where a block is not UTF-8, because some files mix encodings.

    Yields:
        Number of the first line of the block, from 1, and its lines.

    Raises:
        DataError: A line is too long, or compressed data are damaged.
    """
    number = 1
    pieces: list[bytes] = []
    with open_binary(path) as file:
        chunk = file.read(_CHUNK).removeprefix(b"\xef\xbb\xbf")
        while chunk:
            whole, newline, rest = chunk.rpartition(b"\n")
            if newline:
                lines = _lines(b"".join([*pieces, whole]))
                yield number, lines
                number += len(lines)
                pieces = [rest]
            else:
                pieces.append(chunk)
            chunk = file.read(_CHUNK)
    if last := b"".join(pieces):
        yield number, _lines(last)


def _lines(block: bytes) -> list[str]:
    try:
        lines = block.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        lines = [decode(line) for line in block.split(b"\n")]
    return [line.removesuffix("\r") for line in lines] if b"\r" in block else lines


def first_lines(path: Path) -> list[str]:
    """Return the first lines that are not blank, without their ends."""
    with open_binary(path) as file:
        raw = file.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf")
    lines = raw.split(b"\n")
    if len(raw) >= _HEAD_BYTES and len(lines) > 1:
        del lines[-1]  # cut off
    return [text.removesuffix("\r") for line in lines[:_HEAD_LINES] if (text := decode(line)).strip()]


class RowReader(TableReader):
    """Base of readers that make rows from lines. Lines that make no row are skipped.

    Args:
        path: Path of the file.
        columns: Names of the columns.
        kinds: Kinds of the columns, by name.

    Raises:
        DataError: The file holds no row.
    """

    def __init__(self, path: Path, columns: Sequence[str], kinds: Mapping[str, ColumnKind] | None = None) -> None:
        super().__init__(path)
        self.columns = list(columns)
        self._kinds = dict(kinds or {})

    def column_kinds(self) -> dict[str, ColumnKind]:
        """Return the kinds that the format fixes."""
        return dict(self._kinds)

    @abstractmethod
    def chunks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Stream the rows in chunks: the number of the line of each row, and the rows."""

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        indices = [self.columns.index(name) for name in names]
        first = 0
        for _, rows in self.chunks():
            if rows:
                yield range(first, first + len(rows)), [[row[n] for row in rows] for n in indices]
                first += len(rows)

    def location(self, row: int) -> str:
        """Return the line of a row. Reads the file again, because only error messages need it."""
        first = 0
        for lines, rows in self.chunks():
            if row < first + len(rows):
                return f"line {lines[row - first]}"
            first += len(rows)
        return f"row {row + 1}"

    def line_error(self, line: int, problem: str, *, hint: str | None = None) -> DataError:
        """Return the error for a line that makes no row."""
        return DataError(f"{self.path}, line {line}: {problem}", hint=hint)


class SplitRows(RowReader):
    """Reader of files in which each line is a row of fields without quotes.

    Args:
        path: Path of the file.
        columns: Names of the columns.
        separator: Text between fields.
        kinds: Kinds of the columns, by name.
        header: Whether the first line names the columns, and is skipped.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[str],
        separator: str,
        kinds: Mapping[str, ColumnKind] | None = None,
        *,
        header: bool = False,
    ) -> None:
        super().__init__(path, columns, kinds)
        self._separator = separator
        self._skipped = 1 if header else 0

    def fields(self, line: str) -> Sequence[str]:
        """Return the fields of a line."""
        return line.split(self._separator)

    def finish(self, rows: list[Sequence[str]]) -> Sequence[Sequence[str]]:
        """Turn rows of fields into rows of the table."""
        return rows

    def chunks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Stream the rows in chunks."""
        for first, block in line_blocks(self.path):
            numbers: Sequence[int] = range(first, first + len(block))
            lines = block
            if first <= self._skipped or "" in lines or not all(map(str.strip, lines)):
                kept = [(n, line) for n, line in zip(numbers, lines, strict=True) if line.strip() and n > self._skipped]
                numbers, lines = [n for n, _ in kept], [line for _, line in kept]
            rows = [self.fields(line) for line in lines]
            width = self.width
            if set(map(len, rows)) - {width}:
                number, row = next(pair for pair in zip(numbers, rows, strict=True) if len(pair[1]) != width)
                raise self.line_error(number, f"{len(row)} fields instead of {width}")
            yield numbers, self.finish(rows)

    @property
    def width(self) -> int:
        """Number of fields of a line."""
        return len(self.columns)


class NumberRows(SplitRows):
    """Reader of rows of ids and numbers, which can be read as arrays."""

    def array_blocks(self, roles: Mapping[str, ColumnRole]) -> Iterator[tuple[Sequence[int], list[Column]]]:
        """Stream columns as arrays, if the file is plain text."""
        # Between two colons of a separator stands an empty field.
        gaps = [f"gap {n}" for n in range(len(self.columns) - 1)] if self._separator == "::" else []
        names = [name for pair in zip_longest(self.columns, gaps) for name in pair if name] if gaps else self.columns
        wanted: dict[str, ColumnRole] = {**roles, **dict.fromkeys(gaps, "id")}
        for rows, columns in plain_blocks(self.path, names, self._separator[0], self._skipped, wanted):
            for gap in columns[len(roles) :]:
                if not isinstance(gap, CodedColumn) or any(gap.texts):
                    raise IrregularTableError
            yield rows, columns[: len(roles)]
