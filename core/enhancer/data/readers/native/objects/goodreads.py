"""Read Goodreads (UCSD Book Graph, 2017): books, and what users did with them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from enhancer.data.readers.native.formats import NativeFormat
from enhancer.data.readers.native.objects.records import Record, RecordReader, names_in

if TYPE_CHECKING:
    from collections.abc import Iterable

_DATE = re.compile(r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) (\d\d) (\d\d:\d\d:\d\d) ([-+]\d\d)(\d\d) (\d{4})")
_MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: f"{n:02}" for n, name in enumerate(_MONTH_NAMES, 1)}
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
)
