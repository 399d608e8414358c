r"""Read Book-Crossing (2004): quoted fields separated by ``;``, with ``\"`` for a quote."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from enhancer.data.readers.native.formats import FileHead, NativeFormat
from enhancer.data.readers.native.text_rows import RowReader, first_lines, line_blocks
from enhancer.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FIELD = re.compile(
    r'\s*(?:"(?P<quoted>[^"\\]*(?:(?:\\.|"(?!\s*(?:;|$)))[^"\\]*)*)"\s*|(?P<bare>[^;"]*))(?:;|$)', re.DOTALL
)
"""A field. A quote that is followed by neither ``;`` nor the end of the line belongs to the text."""
_ESCAPE = re.compile(r'\\(.)|""', re.DOTALL)
_MAX_LINES = 20
"""Largest number of lines of one row."""


class _Rows(RowReader):
    """Rows of a file with a header. A field in quotes may hold line breaks."""

    def __init__(self, path: Path) -> None:
        header = _fields(next(iter(first_lines(path)), ""))
        if not header or not all(header):
            raise DataError(f"{path}, line 1: no names of columns", hint='such as "User-ID";"ISBN";"Book-Rating"')
        super().__init__(path, header)
        self._year = header.index("Year-Of-Publication") if "Year-Of-Publication" in header else None

    def chunks(self) -> Iterator[tuple[Sequence[int], Sequence[Sequence[str]]]]:
        """Stream the rows in chunks."""
        waiting: list[str] = []
        number = 0
        for first, lines in line_blocks(self.path):
            numbers: list[int] = []
            rows: list[Sequence[str]] = []
            for number, line in enumerate(lines, first):
                if number == 1 or not (line.strip() or waiting):
                    continue
                waiting.append(line)
                fields = _fields("\n".join(waiting))
                if fields is None and len(waiting) < _MAX_LINES:
                    continue
                rows.append(self._row(number - len(waiting) + 1, fields))
                numbers.append(number - len(waiting) + 1)
                waiting.clear()
            yield numbers, rows
        if waiting:
            raise self.line_error(number - len(waiting) + 1, "a quote never ends")

    def _row(self, line: int, fields: list[str] | None) -> list[str]:
        if fields is None:
            raise self.line_error(line, "a quote never ends")
        if len(fields) != len(self.columns):
            raise self.line_error(line, f"{len(fields)} fields, but the header has {len(self.columns)}")
        if self._year is not None and fields[self._year] == "0":
            fields[self._year] = ""
        return fields


def _fields(line: str) -> list[str] | None:
    """Return the fields of a line, ``NULL`` as an empty one; None if a quote never ends."""
    found: list[str] = []
    end = 0
    while end < len(line) or line.endswith(";", 0, end):
        match = _FIELD.match(line, end)
        if match is None:
            return None
        quoted = match["quoted"]
        if quoted is None:
            bare = match["bare"].strip()
            found.append("" if bare == "NULL" else bare)
        else:
            found.append(_ESCAPE.sub(lambda escape: escape[1] or '"', quoted))
        end = match.end()
        if not match[0].endswith(";"):
            break
    return found


def _has(head: FileHead, *names: str) -> bool:
    header = _fields(head.lines[0]) if head.lines else None
    return header is not None and len(header) > 1 and header[: len(names)] == [*names] and ";" in head.lines[0]


FORMATS = (
    NativeFormat(
        name="book-crossing",
        role="items",
        recognise=lambda head: _has(head, "ISBN", "Book-Title"),
        open=_Rows,
        columns={
            "item_id": "ISBN",
            "title": "Book-Title",
            "item_text": ["Book-Title", "Book-Author", "Year-Of-Publication", "Publisher"],
        },
        automatic=False,
    ),
    NativeFormat(
        name="book-crossing",
        role="interactions",
        recognise=lambda head: _has(head, "User-ID", "ISBN"),
        open=_Rows,
        columns={"item_id": "ISBN", "user_id": "User-ID", "rating": False},
        remarks={"rating": 'in "Book-Rating", 0 stands for no rating'},
        automatic=False,
    ),
    NativeFormat(
        name="book-crossing",
        role="users",
        recognise=lambda head: _has(head, "User-ID", "Location"),
        open=_Rows,
        columns={"user_id": "User-ID", "user_text": ["Location", "Age"]},
        automatic=False,
    ),
)
