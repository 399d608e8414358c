"""Read CSV, TSV and RecBole atomic files."""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from typing import IO, TYPE_CHECKING, Literal, NamedTuple, Protocol

from enhancer.data.readers.arrays import IrregularTableError
from enhancer.data.readers.plain_text import plain_blocks
from enhancer.data.readers.table_reader import Block, ColumnKind, TableOptions, TableReader, block_rows, check_names
from enhancer.data.readers.text_files import MAX_LINE, open_text
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from enhancer.data.readers.arrays import Column, ColumnRole

_ATOMIC_TYPES = frozenset({"token", "token_seq", "float", "float_seq"})
_KINDS: dict[str, ColumnKind] = {"float": "number", "token": "category", "token_seq": "words"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""First line by which Excel is told the separator."""


class _Segment(NamedTuple):
    """Part of a file that is read in one way, to its end or to the next segment."""

    row: int
    """First row."""
    line: int
    """Lines of the file before that row."""
    irregular: bool
    """Whether the rows are read with quotes in a file without, or with ``\\"`` for a quote."""


class _Problem(NamedTuple):
    """A row that cannot be read."""

    rows: int
    """Rows of the block before it."""
    line: int | None
    """Line since the beginning of the segment, if it is known."""
    message: str


class _Reader(Protocol):
    """A reader of the csv module."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


class DelimitedReader(TableReader):
    r"""Reader of CSV, TSV and RecBole atomic files.

    Where rows cannot be read by the rules of the format, two frequent deviations are tried: a quote within quotes that
    is written ``\"``, and quotes around fields with separators or line breaks in a format without quotes, which pandas
    writes.

    Args:
        path: Path of the file.
        delimiter: Field separator; None detects it from the header, or from a line ``sep=;`` above it.
        quoted: Whether fields may be quoted.
        typed: Whether header names carry a RecBole type, such as ``item_id:token``.
        options: How the file is read.
    """

    def __init__(
        self,
        path: Path,
        *,
        delimiter: str | None,
        quoted: bool,
        typed: bool,
        options: TableOptions | None = None,
    ) -> None:
        super().__init__(path)
        csv.field_size_limit(MAX_LINE)  # the csv module's limit is process-wide; long descriptions are valid
        self._encoding = (options or TableOptions()).encoding
        self._quoted = quoted
        self._delimiter = delimiter or ","
        self._lines_above = 0
        with open_text(path, self._encoding) as lines:
            above = [lines.readline()]
            if delimiter is None and (told := _SEPARATOR_LINE.fullmatch(above[0])):
                self._delimiter, self._lines_above, above = told[1], 1, []
            elif delimiter is None:
                self._delimiter = _delimiter_of(above[0])
            reader = csv.reader(
                itertools.chain(filter(None, above), lines),
                delimiter=self._delimiter,
                quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
                strict=True,
            )
            header = next(reader, None)
            lines_of_header = reader.line_num
        if header is None or not any(name.strip() for name in header):
            raise DataError(f"{path} is empty", hint="the first line must name the columns")
        names = [name.strip() for name in header]
        if not quoted:
            names = _unquoted(names)
        self._kinds: dict[str, ColumnKind] = {}
        if typed:
            declared = {_without_type(name): _KINDS.get(name.rpartition(":")[2]) for name in names}
            self._kinds = {name: kind for name, kind in declared.items() if kind is not None}
            names = [_without_type(name) for name in names]
        check_names(path, names, f", line {self._lines_above + 1}")
        self._header = names
        self._width = len(names)
        self._indices = {name: n for n, name in enumerate(names) if name}
        self._segments = [_Segment(0, self._lines_above + lines_of_header, irregular=False)]
        self.columns = list(self._indices)

    def column_kinds(self) -> dict[str, ColumnKind]:
        """Return the kinds that headers such as ``class:token_seq`` declare."""
        return dict(self._kinds)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        indices = [self._indices[name] for name in names]
        first = 0
        del self._segments[1:]
        for rows, irregular in self._rows():
            present: Sequence[int] = range(first, first + len(rows))
            first += len(rows)
            if set(map(len, rows)) != {self._width}:
                present = [n for n, row in zip(present, rows, strict=True) if not self._is_blank(row)]
                rows = [row for row in rows if not self._is_blank(row)]  # noqa: PLW2901 - without blank lines
            values = [[row[n] for row in rows] for n in indices]
            yield present, values if self._quoted or irregular else [_unquoted(column) for column in values]

    def array_blocks(self, roles: Mapping[str, ColumnRole]) -> Iterator[tuple[Sequence[int], list[Column]]]:
        """Stream columns as arrays, if the file is plain text."""
        if codecs.lookup(self._encoding).name != "utf-8":
            raise IrregularTableError
        return plain_blocks(self.path, self._header, self._delimiter, self._segments[0].line, roles)

    def _rows(self) -> Iterator[tuple[list[list[str]], bool]]:
        """Yield blocks of rows, blank lines included, and whether they are irregular."""
        while True:
            segment = self._segments[-1]
            row = segment.row
            with open_text(self.path, self._encoding) as lines:
                reader = self._reader(lines, segment)
                while True:
                    line = segment.line + reader.line_num
                    rows, problem = self._block(reader)
                    if problem is not None:
                        break
                    if not rows:
                        return
                    yield rows, segment.irregular
                    row += len(rows)
            irregular = _Segment(row, line, irregular=True)
            if segment.irregular or not self._reads_further(irregular, problem):
                raise self._error(problem, segment, row)
            self._segments.append(irregular)

    def _block(self, reader: _Reader) -> tuple[list[list[str]], _Problem | None]:
        """Return the next rows, and what is wrong with one of them."""
        rows: list[list[str]] = []
        try:
            rows.extend(itertools.islice(reader, block_rows(self._width)))
        except csv.Error as error:
            return rows, _Problem(len(rows), reader.line_num, str(error))
        if set(map(len, rows)) <= {self._width}:
            return rows, None
        for n, row in enumerate(rows):
            if len(row) != self._width and not self._is_blank(row):
                return rows, _Problem(n, None, f"{len(row)} fields, but the header has {self._width}")
        return rows, None

    def _reads_further(self, segment: _Segment, problem: _Problem) -> bool:
        """Check whether reading by a new segment passes the place of a problem."""
        with open_text(self.path, self._encoding) as lines:
            _, other = self._block(self._reader(lines, segment))
        return other is None or other.rows > problem.rows

    def _reader(self, lines: IO[str], segment: _Segment) -> _Reader:
        for _ in range(segment.line):
            next(lines, None)
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self._quoted or segment.irregular else csv.QUOTE_NONE
        source = map(self._with_doubled_quotes, lines) if segment.irregular and self._quoted else lines
        return csv.reader(source, delimiter=self._delimiter, quoting=quoting, strict=True)

    def _with_doubled_quotes(self, line: str) -> str:
        r"""Return a line with ``""`` for ``\"`` if this makes it a row, and it is none as it stands."""
        if '\\"' not in line or self._is_row(line):
            return line
        doubled = line.replace('\\"', '""')
        return doubled if self._is_row(doubled) else line

    def _is_row(self, line: str) -> bool:
        try:
            return len(next(csv.reader([line], delimiter=self._delimiter, strict=True))) == self._width
        except csv.Error:
            return False

    def _error(self, problem: _Problem, segment: _Segment, row: int) -> DataError:
        if problem.line is None:
            hint = "quote fields that contain the separator or a line break" if self._quoted else None
            return DataError(f"{self.path}, {self.location(row + problem.rows)}: {problem.message}", hint=hint)
        location = f"{self.path}, line {segment.line + problem.line}"
        if "new-line character" in problem.message:  # the csv module's message is about how the file was opened
            return DataError(f"{location}: carriage return within a field", hint="quote the field or remove it")
        if "field larger than" in problem.message:
            return DataError(f"{location}: a field is longer than {MAX_LINE >> 20} MiB", hint="check the quotes before")
        return DataError(f"{location}: {problem.message}", hint="check the quotes of the line")

    def _is_blank(self, row: list[str]) -> bool:
        return not row or (len(row) == 1 and self._width > 1 and not row[0].strip())

    def location(self, row: int) -> str:
        """Return the line on which a row ends. Reads the file again, because only error messages need it."""
        segment = next(segment for segment in reversed(self._segments) if segment.row <= row)
        with open_text(self.path, self._encoding) as lines:
            reader = self._reader(lines, segment)
            for n, _ in enumerate(reader, segment.row):
                if n == row:
                    return f"line {segment.line + reader.line_num}"
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
    if '"' not in "".join(values):
        return values
    return [
        v[1:-1].replace('""', '"') if v[:1] == '"' and len(v) > 1 and v[-1] == '"' and '"' not in _inner(v) else v
        for v in values
    ]


def _inner(value: str) -> str:
    return value[1:-1].replace('""', "")
