"""Read Goodreads (UCSD Book Graph, 2017): books, and what users did with them."""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

from enhancer.data.readers.native.formats import NativeFormat
from enhancer.data.readers.native.objects.records import Record, RecordReader, names_in
from enhancer.data.readers.native.text_rows import SplitRows, line_blocks
from enhancer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_DATE = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) (\d\d) (\d\d:\d\d:\d\d) ([-+]\d\d)(\d\d) (\d{4})")
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: f"{n:02}" for n, name in enumerate(_MONTH_NAMES, 1)}
_NUMBERED = ("user_id", "book_id", "is_read", "rating", "is_reviewed")
_MAP = "book_id_map.csv"
_DATES = ("date_added", "date_updated", "read_at", "started_at")


def _book(record: Record) -> Iterable[Record]:
    """Of shelves and authors, keep their names or ids."""
    row = dict(record)
    for name, key in (("popular_shelves", "name"), ("authors", "author_id")):
        if isinstance(row.get(name), list):
            row[name] = names_in(row[name], key)
    yield row


def _touch(record: Record) -> Iterable[Record]:
    """Write dates such as ``Wed Mar 22 10:25:22 -0700 2017`` in the order of ISO 8601."""
    dates = {name: _iso(value) for name in _DATES if isinstance(value := record.get(name), str)}
    yield {**record, **dates}


def _iso(text: str) -> str:
    match = _DATE.fullmatch(text.strip())
    if match is None or match[1] not in _MONTHS:
        return text
    month, day, clock, hours, minutes, year = match.groups()
    return f"{year}-{_MONTHS[month]}-{day}T{clock}{hours}:{minutes}"


class _Numbered(SplitRows):
    """``goodreads_interactions.csv``, whose books are numbers that ``book_id_map.csv`` beside it translates to ids."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, ("user_id", *_NUMBERED[1:]), ",", header=True)
        self._ids = _ids_beside(path)

    def finish(self, rows: list[Sequence[str]]) -> Sequence[Sequence[str]]:
        return [(user, self._id(book), *more) for user, book, *more in rows]

    def _id(self, book: str) -> str:
        try:
            return str(self._ids[int(book)])
        except (ValueError, IndexError):
            raise DataError(
                f"{self.path}: {_MAP} has no book {book[:40]!r}", hint="fetch both files of the same version"
            ) from None


def _ids_beside(path: Path) -> array[int]:
    """Return the id of each number of a book."""
    listing = path.with_name(_MAP)
    if not listing.is_file():
        raise ConfigError(
            f"{path} names books by numbers that {_MAP} beside it translates, and there is no such file",
            hint='download it, too; or, if your items have these numbers, set [data] interactions_format = "auto"',
        )
    ids = array("q")
    for first, lines in line_blocks(listing):
        for number, line in enumerate(lines, first):
            if number == 1 or not line.strip():
                continue
            place, _, book = line.partition(",")
            try:
                if int(place) != len(ids):
                    raise ValueError(place)  # noqa: TRY301 - the same problem as text that is no number
                ids.append(int(book))
            except ValueError:
                raise DataError(f"{listing}, line {number}: expected the number {len(ids)} and an id") from None
    return ids


FORMATS = (
    NativeFormat(
        name="goodreads",
        role="items",
        recognise=lambda head: head.keys >= {"book_id", "title"} and "user_id" not in head.keys,
        open=lambda path: RecordReader(path, _book),
        columns={
            "item_id": "book_id",
            "item_text": ["title", "publisher", "publication_year", "description", "popular_shelves"],
        },
    ),
    NativeFormat(
        name="goodreads",
        role="interactions",
        recognise=lambda head: head.keys >= {"user_id", "book_id", "date_added"},
        open=lambda path: RecordReader(path, _touch),
        columns={"item_id": "book_id", "rating": False, "timestamp": "date_added"},
        remarks={"rating": 'in "rating", 0 stands for no rating'},
    ),
    NativeFormat(
        name="goodreads",
        role="interactions",
        recognise=lambda head: bool(head.lines) and head.lines[0] == ",".join(_NUMBERED),
        open=_Numbered,
        columns={"item_id": "book_id", "rating": False},
        remarks={"rating": 'in "rating", 0 stands for no rating'},
        automatic=False,
    ),
)
