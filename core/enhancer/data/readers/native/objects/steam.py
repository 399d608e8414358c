"""Read the Steam data sets of the McAuley lab: Python literals of games, reviews, and libraries of users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.data.readers.native.formats import NativeFormat
from enhancer.data.readers.native.objects.records import Record, RecordReader

if TYPE_CHECKING:
    from collections.abc import Iterable


def _game(record: Record) -> Iterable[Record]:
    """Leave out what has no id, as a few lines of ``steam_games.json.gz`` have none."""
    if record.get("id") not in (None, ""):
        yield record


def _each(record: Record, key: str) -> Iterable[Record]:
    """Make a row of each object in a list, with the user that the list belongs to."""
    inner = record.get(key)
    for each in inner if isinstance(inner, list) else ():
        if isinstance(each, dict):
            yield {"user_id": record.get("user_id"), **each}


FORMATS = (
    NativeFormat(
        name="steam",
        role="items",
        recognise=lambda head: head.keys >= {"id", "app_name"} and not {"specs", "reviews_url"}.isdisjoint(head.keys),
        open=lambda path: RecordReader(path, _game),
        columns={
            "items_id": "id",
            "title": "app_name",
            "item_text": ["app_name", "developer", "publisher", "release_date", "genres", "tags", "specs"],
        },
    ),
    NativeFormat(
        name="steam",
        role="interactions",
        recognise=lambda head: head.keys >= {"username", "product_id", "text"},
        open=lambda path: RecordReader(path, lambda record: (record,)),
        columns={"user_id": "username", "item_id": "product_id", "timestamp": "date"},
    ),
    NativeFormat(
        name="steam",
        role="interactions",
        recognise=lambda head: head.keys >= {"user_id", "items_count", "items"},
        open=lambda path: RecordReader(path, lambda record: _each(record, "items")),
    ),
    NativeFormat(
        name="steam",
        role="interactions",
        recognise=lambda head: head.keys >= {"user_id", "user_url", "reviews"},
        open=lambda path: RecordReader(path, lambda record: _each(record, "reviews")),
    ),
)
