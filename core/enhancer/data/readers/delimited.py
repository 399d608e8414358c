"""Read CSV, TSV and RecBole atomic files."""

from __future__ import annotations

import csv
import itertools
from typing import IO, TYPE_CHECKING, Literal

from enhancer.data.readers.table_reader import BLANK, BLOCK_ROWS, Block, ColumnKind, TableReader, open_utf8
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_ATOMIC_TYPES = frozenset({"token", "token_seq", "float", "float_seq"})
_KINDS: dict[str, ColumnKind] = {"float": "number", "token": "category", "token_seq": "words"}
_NO_LIMIT = 2**31 - 1


class DelimitedReader(TableReader):
    """Reader of CSV, TSV and RecBole atomic files.

    Args:
        path: Path of the file.
        delimiter: Field separator; None detects it from the header.
        quoted: Whether fields may be quoted.
        typed: Whether header names carry a RecBole type, such as ``item_id:token``.
    """

    def __init__(self, path: Path, *, delimiter: str | None, quoted: bool, typed: bool) -> None:
        super().__init__(path)
        csv.field_size_limit(_NO_LIMIT)  # the csv module's limit is process-wide; long descriptions are valid
        self._quoted = quoted
        self._quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        self._unquote = not quoted and not typed
        self._delimiter = delimiter or ","
        with open_utf8(path) as lines:
            if delimiter is None:
                self._delimiter = _delimiter_of(lines.readline())
                lines.seek(0)
            header = next(self._reader(lines), None)
        if header is None or not any(name.strip() for name in header):
            raise DataError(f"{path} is empty", hint="the first line must name the columns")
        names = [name.strip() for name in header]
        if self._unquote:
            names = _unquoted(names)
        self._kinds: dict[str, ColumnKind] = {}
        if typed:
            declared = {_without_type(name): _KINDS.get(name.rpartition(":")[2]) for name in names}
            self._kinds = {name: kind for name, kind in declared.items() if kind is not None}
            names = [_without_type(name) for name in names]
        duplicates = sorted({name for name in names if name and names.count(name) > 1})
        if duplicates:
            raise DataError(
                f"{path}, line 1: two columns are called {duplicates[0]!r}", hint="rename one of the columns"
            )
        self._names = names
        self.columns = [name for name in names if name]

    def column_kinds(self) -> dict[str, ColumnKind]:
        """Return the kinds that headers such as ``class:token_seq`` declare."""
        return dict(self._kinds)

    def _reader(self, lines: IO[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, quoting=self._quoting, strict=True)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        indices = [self._names.index(name) for name in names]
        width = len(self._names)
        with open_utf8(self.path) as lines:
            reader = self._reader(lines)
            next(reader, None)
            first = 0
            while True:
                try:
                    rows = list(itertools.islice(reader, BLOCK_ROWS))
                except csv.Error as error:
                    raise self._parse_error(reader.line_num, error) from None  # type: ignore[attr-defined]
                if not rows:
                    return
                if set(map(len, rows)) != {width}:
                    rows = self._fill_blank_lines(rows, first)
                values = [[row[n] for row in rows] for n in indices]
                yield first, [_unquoted(v) for v in values] if self._unquote else values
                first += len(rows)

    def _parse_error(self, line: int, error: csv.Error) -> DataError:
        location = f"{self.path}, line {line}"
        if "new-line character" in str(error):  # the csv module's message is about how the file was opened
            return DataError(f"{location}: carriage return within a field", hint="quote the field or remove it")
        return DataError(f"{location}: {error}", hint="check the quotes of the line")

    def _fill_blank_lines(self, rows: list[list[str]], first: int) -> list[list[str]]:
        """Replace blank lines by rows of ``BLANK``, which keeps row numbers right; raise for rows of another length."""
        width = len(self._names)
        for n, row in enumerate(rows):
            if not row or (len(row) == 1 and width > 1 and not row[0].strip()):
                rows[n] = [BLANK] * width
            elif len(row) != width:
                raise DataError(
                    f"{self.path}, {self.location(first + n)}: {len(row)} fields, but the header has {width}",
                    hint="quote fields that contain the separator or a line break" if self._quoted else None,
                )
        return rows

    def location(self, row: int) -> str:
        """Return the line on which a row ends. Reads the file again, because only error messages need it."""
        with open_utf8(self.path) as lines:
            reader = csv.reader(lines, delimiter=self._delimiter, quoting=self._quoting)
            for n, _ in enumerate(reader):
                if n == row + 1:
                    return f"line {reader.line_num}"
        return f"row {row + 1}"


def _delimiter_of(header: str) -> str:
    """Return the first of ``, ; tab |`` that the header contains."""
    return next((mark for mark in (",", ";", "\t", "|") if mark in header), ",")


def _without_type(name: str) -> str:
    """Remove the RecBole type from a header name: ``item_id:token`` becomes ``item_id``."""
    bare, _, kind = name.rpartition(":")
    return bare if bare and kind in _ATOMIC_TYPES else name


def _unquoted(values: list[str]) -> list[str]:
    """Remove quotes that enclose a whole field."""
    return [
        v[1:-1].replace('""', '"') if v[:1] == '"' and len(v) > 1 and v[-1] == '"' and '"' not in _inner(v) else v
        for v in values
    ]


def _inner(value: str) -> str:
    return value[1:-1].replace('""', "")
