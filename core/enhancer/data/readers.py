"""Tables as streams of text, whatever their format; a file's ending names it.

=====================  ======================================================================================
ending                 format
=====================  ======================================================================================
.csv                   RFC 4180, first line names the columns; ``;``, tab or ``|`` where the header has them
.tsv                   tabs, no quoting (a field that is quoted as a whole is unquoted)
.jsonl, .ndjson        a JSON object a line
.parquet               needs the extra ``parquet``
.item, .user, .inter   RecBole's atomic files: tabs, and headers such as ``item_id:token``
=====================  ======================================================================================

Rows come in blocks, column by column: nothing is kept of a row that was read. All text is UTF-8, with or without a
byte-order mark.
"""

from __future__ import annotations

import csv
import itertools
from abc import ABC, abstractmethod
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Literal

from enhancer.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

BLOCK = 2048
"""Rows in a block: few enough to stay in the cache of the processor, which doubles the speed."""
_ATOMIC_TYPES = frozenset({"token", "token_seq", "float", "float_seq"})
_HEAD = 1 << 16
"""Bytes in which a file shows how its lines end."""
_NO_LIMIT = 2**31 - 1

ColumnKind = Literal["number", "category", "words", "list"]
"""``words``: several, with blanks between; ``list``: several, which come joined by a comma and a blank."""
_KINDS: dict[str, ColumnKind] = {"float": "number", "token": "category", "token_seq": "words"}

Block = tuple[int, list[list[str]]]
"""Number of its first row (from 0, blank lines counted), and one list of values for each column asked for."""


class Table(ABC):
    """A file of rows.

    Attributes:
        path: The file.
        columns: Names of its columns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns: list[str] = []

    def look_through(self) -> None:
        """Find every column, where the beginning of the file does not tell them all."""

    def kinds(self) -> dict[str, ColumnKind]:
        """What the file itself says of its columns: by name, for those of which it says anything."""
        return {}

    @abstractmethod
    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns. May be called again; each call reads the file anew.

        Raises:
            DataError: The file holds something that is no row.
        """

    @abstractmethod
    def place(self, row: int) -> str:
        """Where a row stands, for people, such as ``line 12``."""

    def fault(self, row: int, column: str, what: str, *, hint: str | None = None) -> DataError:
        """The error for one value."""
        return DataError(f"{self.path}, {self.place(row)}, column {column!r}: {what}", hint=hint)

    def require(self, name: str, setting: str) -> str:
        """Check that a column is there.

        Args:
            name: The column.
            setting: The key that names it, for the message.

        Raises:
            ConfigError: It is not; names the nearest.
        """
        if not name.strip():
            raise ConfigError(f"[data.columns] {setting} is empty", hint="name a column, or leave the key out")
        if name not in self.columns:
            named = f" (see [data.columns] {setting})"
            raise ConfigError(f"{self.path} has no column {name!r}{named}", hint=did_you_mean(name, self.columns))
        return name


class _Delimited(Table):
    """CSV, TSV and RecBole's atomic files."""

    def __init__(self, path: Path, *, delimiter: str | None, quoted: bool, typed: bool) -> None:
        super().__init__(path)
        csv.field_size_limit(_NO_LIMIT)  # process-wide in the csv module; a long description is no fault
        self._quoted = quoted
        self._quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        self._unquote = not quoted and not typed
        self._delimiter = delimiter or ","
        with text_lines(path) as lines:
            if delimiter is None:
                self._delimiter = _delimiter_of(lines.readline())
                lines.seek(0)
            header = next(self._reader(lines), None)
        if header is None or not any(name.strip() for name in header):
            raise DataError(f"{path} is empty", hint="its first line names the columns")
        names = [name.strip() for name in header]
        if self._unquote:
            names = _unquoted(names)
        self._kinds: dict[str, ColumnKind] = {}
        if typed:
            said = {_without_type(name): _KINDS.get(name.rpartition(":")[2]) for name in names}
            self._kinds = {name: kind for name, kind in said.items() if kind is not None}
            names = [_without_type(name) for name in names]
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice:
            raise DataError(f"{path}, line 1: two columns are called {twice[0]!r}", hint="rename one of them")
        self._names = names
        self.columns = [name for name in names if name]

    def kinds(self) -> dict[str, ColumnKind]:
        """What a header such as ``class:token_seq`` says."""
        return dict(self._kinds)

    def _reader(self, lines: IO[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self._delimiter, quoting=self._quoting, strict=True)

    def blocks(self, names: Sequence[str]) -> Iterator[Block]:
        """Stream the named columns."""
        at = [self._names.index(name) for name in names]
        width = len(self._names)
        with text_lines(self.path) as lines:
            reader = self._reader(lines)
            next(reader, None)
            first = 0
            while True:
                try:
                    rows = list(itertools.islice(reader, BLOCK))
                except csv.Error as error:
                    raise self._unreadable(reader.line_num, error) from None  # type: ignore[attr-defined]
                if not rows:
                    return
                if set(map(len, rows)) != {width}:
                    rows = self._without_blanks(rows, first)
                values = [[row[n] for row in rows] for n in at]
                yield first, [_unquoted(v) for v in values] if self._unquote else values
                first += len(rows)

    def _unreadable(self, line: int, error: csv.Error) -> DataError:
        where = f"{self.path}, line {line}"
        if "new-line character" in str(error):  # the csv module's own words are about how the file was opened
            return DataError(f"{where}: a carriage return within a field", hint="quote the field, or take it out")
        return DataError(f"{where}: {error}", hint="check its quotes")

    def _without_blanks(self, rows: list[list[str]], first: int) -> list[list[str]]:
        """Refuse a ragged row; blank lines become rows of nothing but the mark ``BLANK``, to keep the count."""
        width = len(self._names)
        for n, row in enumerate(rows):
            if not row or (len(row) == 1 and width > 1 and not row[0].strip()):
                rows[n] = [BLANK] * width
            elif len(row) != width:
                raise DataError(
                    f"{self.path}, {self.place(first + n)}: {len(row)} fields where the header names {width}",
                    hint="quote fields that hold the separator or a line break" if self._quoted else None,
                )
        return rows

    def place(self, row: int) -> str:
        """The line on which a row ends, found by reading again: only messages need it."""
        with text_lines(self.path) as lines:
            reader = csv.reader(lines, delimiter=self._delimiter, quoting=self._quoting)
            for n, _ in enumerate(reader):
                if n == row + 1:
                    return f"line {reader.line_num}"
        return f"row {row + 1}"


BLANK = "\x00blank\x00"
"""Stands in every column of a line that is blank."""


@contextmanager
def text_lines(path: Path) -> Iterator[IO[str]]:
    """Open a text file; bytes that are not UTF-8 become an error that names their line.

    Raises:
        DataError: Naming the line.
    """
    with path.open("rb") as file:
        # To look for every kind of line end takes three times as long; a file whose lines end in CR alone is rare.
        newline = "\n" if b"\n" in file.read(_HEAD) else ""
    with path.open(encoding="utf-8-sig", newline=newline) as lines:
        try:
            yield lines
        except UnicodeDecodeError:
            raise DataError(f"{path}, line {_first_bad_line(path)}: not UTF-8", hint="save the file as UTF-8") from None


def _first_bad_line(path: Path) -> int:
    number = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):  # noqa: B007 - the number is the result
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                break
    return number


def _delimiter_of(header: str) -> str:
    """The first of ``, ; tab |`` that the header has."""
    return next((mark for mark in (",", ";", "\t", "|") if mark in header), ",")


def _without_type(name: str) -> str:
    """RecBole's ``item_id:token`` is ``item_id``."""
    bare, _, kind = name.rpartition(":")
    return bare if bare and kind in _ATOMIC_TYPES else name


def _unquoted(values: list[str]) -> list[str]:
    """Take off quotes that enclose a whole field."""
    return [
        v[1:-1].replace('""', '"') if v[:1] == '"' and len(v) > 1 and v[-1] == '"' and '"' not in _inner(v) else v
        for v in values
    ]


def _inner(value: str) -> str:
    return value[1:-1].replace('""', "")


def open_table(path: Path) -> Table:
    """Open a table by its ending.

    Raises:
        ConfigError: There is no such file, it is a folder, its ending is unknown, or a library is missing.
        DataError: It is empty, or its header is damaged.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, not a file")
    if not path.exists():
        near = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, near[:1000])
        raise ConfigError(f"no such file: {path}", hint=hint if hint and hint.startswith("did") else None)
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        shown = f"ending {ending!r}" if ending else "file without an ending"
        raise ConfigError(f"{path}: unknown {shown}", hint=f"known: {', '.join(ENDINGS)}")
    try:
        if ending == ".csv":
            return _Delimited(path, delimiter=None, quoted=True, typed=False)
        if ending == ".tsv":
            return _Delimited(path, delimiter="\t", quoted=False, typed=False)
        if ending in {".item", ".user", ".inter"}:
            return _Delimited(path, delimiter="\t", quoted=False, typed=True)
        if ending == ".parquet":
            from enhancer.data.parquet import ParquetTable

            return ParquetTable(path)
        from enhancer.data.jsonl import JsonLines

        return JsonLines(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except csv.Error as error:
        raise DataError(f"{path}, line 1: {error}") from None


ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".item", ".user", ".inter")
"""Known endings."""
