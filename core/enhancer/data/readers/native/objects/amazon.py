"""Read the Amazon review data of 2014, 2018 and 2023: products, reviews, and ratings alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from enhancer.data.readers.native.formats import FileHead, NativeFormat, Setting
from enhancer.data.readers.native.objects.records import Record, RecordReader, names_in, paragraphs
from enhancer.data.readers.native.text_rows import NumberRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_USER, _PRODUCT, _NUMBERS = r"A[0-9A-Z]{9,20}", r"[0-9A-Z]{10}", r"\d(\.\d)?,\d{8,10}"
_BY_USER = re.compile(f"{_USER},{_PRODUCT},{_NUMBERS}")
_BY_PRODUCT = re.compile(f"{_PRODUCT},{_USER},{_NUMBERS}")
_OF_2014 = {"imUrl", "related", "salesRank", "categories"}
_OF_2018 = {"category", "also_buy", "also_view", "feature", "rank", "main_cat", "imageURL", "imageURLHighRes", "tech1"}
_OF_2023 = {"main_category", "average_rating", "rating_number", "bought_together"}
_REVIEWED: dict[str, Setting] = {
    "user_id": "reviewerID",
    "item_id": "asin",
    "rating": "overall",
    "timestamp": "unixReviewTime",
}


def _product(record: Record) -> Iterable[Record]:
    """Flatten paths of categories, and join paragraphs of descriptions."""
    row = dict(record)
    for name in ("categories", "category"):
        if isinstance(row.get(name), list):
            row[name] = names_in(row[name])
    if "description" in row:
        row["description"] = paragraphs(row["description"])
    yield row


def _review(record: Record) -> Iterable[Record]:
    """Part ``helpful``, votes of so many, and write votes such as ``1,024`` as numbers."""
    row = dict(record)
    votes = row.get("helpful")
    if isinstance(votes, list) and len(votes) == 2:
        row["helpful"], row["helpful_of"] = votes
    if isinstance(row.get("vote"), str):
        row["vote"] = row["vote"].replace(",", "")
    yield row


def _reader(rows_of: Callable[[Record], Iterable[Record]]) -> Callable[[Path], RecordReader]:
    return lambda path: RecordReader(path, rows_of)


def _is_review(head: FileHead) -> bool:
    return head.keys >= {"asin", "reviewerID", "overall"}


def _is_product(head: FileHead) -> bool:
    return "asin" in head.keys and head.keys.isdisjoint({"reviewerID", "user_id", "overall"})


def _is_product_of_2014(head: FileHead) -> bool:
    return _is_product(head) and head.keys.isdisjoint(_OF_2018) and not head.keys.isdisjoint(_OF_2014)


def _is_product_of_2023(head: FileHead) -> bool:
    return "parent_asin" in head.keys and "user_id" not in head.keys and not head.keys.isdisjoint(_OF_2023)


FORMATS = (
    NativeFormat(
        name="amazon-2014",
        role="items",
        recognise=_is_product_of_2014,
        open=_reader(_product),
        columns={"item_id": "asin", "item_text": ["title", "brand", "categories", "description"]},
    ),
    NativeFormat(
        name="amazon-2018",
        role="items",
        recognise=lambda head: _is_product(head) and not head.keys.isdisjoint(_OF_2018),
        open=_reader(_product),
        columns={"item_id": "asin", "item_text": ["title", "brand", "category", "feature", "description"]},
    ),
    NativeFormat(
        name="amazon-2023",
        role="items",
        recognise=_is_product_of_2023,
        open=_reader(_product),
        columns={
            "item_id": "parent_asin",
            "item_text": ["title", "main_category", "categories", "store", "features", "description"],
        },
    ),
    NativeFormat(
        name="amazon-2014",
        role="interactions",
        recognise=lambda head: _is_review(head) and "helpful" in head.keys,
        open=_reader(_review),
        columns=_REVIEWED,
    ),
    NativeFormat(
        name="amazon-2018",
        role="interactions",
        recognise=lambda head: _is_review(head) and not head.keys.isdisjoint({"verified", "reviewTime"}),
        open=_reader(_review),
        columns=_REVIEWED,
    ),
    NativeFormat(
        name="amazon-2023",
        role="interactions",
        recognise=lambda head: head.keys >= {"parent_asin", "user_id", "rating"},
        open=_reader(_review),
        columns={"item_id": "parent_asin"},
    ),
    NativeFormat(
        name="amazon-2014",
        role="interactions",
        recognise=lambda head: head.all(_BY_USER.fullmatch) and not head.all(_BY_PRODUCT.fullmatch),
        open=lambda path: NumberRows(path, ("user_id", "asin", "rating", "timestamp"), ","),
        columns={"item_id": "asin"},
    ),
    NativeFormat(
        name="amazon-2018",
        role="interactions",
        recognise=lambda head: head.all(_BY_PRODUCT.fullmatch),
        open=lambda path: NumberRows(path, ("asin", "user_id", "rating", "timestamp"), ","),
        columns={"item_id": "asin"},
    ),
)
