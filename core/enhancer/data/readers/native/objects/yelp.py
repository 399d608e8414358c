"""Read the Yelp Open Dataset: JSON lines of businesses, reviews, tips and users."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.data.readers.native.formats import NativeFormat, Setting
from enhancer.data.readers.native.objects.records import Record, RecordReader

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOUCHED: dict[str, Setting] = {"item_id": "business_id", "timestamp": "date"}


def _with_lists(record: Record) -> Iterable[Record]:
    """Take apart the texts that are lists: categories, friends, and the years of an elite user."""
    row = dict(record)
    for name in ("categories", "friends", "elite"):
        value = row.get(name)
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(",")]
            row[name] = [part for part in parts if part not in ("", "None")]
    yield row


FORMATS = (
    NativeFormat(
        name="yelp",
        role="items",
        recognise=lambda head: head.keys >= {"business_id", "name", "categories"},
        open=lambda path: RecordReader(path, _with_lists),
        columns={"item_id": "business_id", "item_text": ["name", "categories", "city", "state"]},
    ),
    NativeFormat(
        name="yelp",
        role="interactions",
        recognise=lambda head: head.keys >= {"user_id", "business_id", "stars", "date"},
        open=lambda path: RecordReader(path, lambda record: (record,)),
        columns={**_TOUCHED, "rating": "stars"},
    ),
    NativeFormat(
        name="yelp",
        role="interactions",
        recognise=lambda head: head.keys >= {"user_id", "business_id", "text", "date"} and "stars" not in head.keys,
        open=lambda path: RecordReader(path, lambda record: (record,)),
        columns=_TOUCHED,
    ),
    NativeFormat(
        name="yelp",
        role="users",
        recognise=lambda head: head.keys >= {"user_id", "yelping_since"},
        open=lambda path: RecordReader(path, _with_lists),
        columns={"user_text": ["yelping_since", "elite"]},
    ),
)
