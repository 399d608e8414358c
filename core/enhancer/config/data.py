"""Keys of ``[data]``: tables, columns and side features."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - pydantic reads it
from typing import Literal

from pydantic import Field, field_validator

from enhancer.contracts.options import Options

Html = Literal["keep", "strip"]
"""Treatment of HTML in text."""


class ColumnsConfig(Options):
    """``[data.columns]``: roles of columns."""

    item_id: str = "item_id"
    """Item id, in items and interactions."""
    user_id: str = "user_id"
    """User id, in users and interactions."""
    items_id: str | None = None
    """Item id in the items table, if its name there differs; by default ``item_id``."""
    users_id: str | None = None
    """User id in the users table, if its name there differs; by default ``user_id``."""
    rating: str | Literal[False] | None = None
    """Rating in interactions; by default the column ``rating``, if it exists. With ``false`` ratings are not read, so
    that values which are none do not matter."""
    timestamp: str | Literal[False] | None = None
    """Time of an interaction, in seconds; by default the column ``timestamp``, if it exists. With ``false`` times are
    not read."""
    item_text: list[str] | None = None
    """Columns that form an item's text; by default every other column."""
    user_text: list[str] | None = None
    """Columns that form a user's text; by default every other column."""
    title: str | None = None
    """Column of item titles; by default ``title`` or ``name``, if it exists."""
    label: str | None = None
    """Binary label of an interaction: a column of 0 and 1, such as ``click``, or a condition, such as ``rating >= 4``.
    Negative interactions are never recommended; click models learn from them."""
    review_item: str | None = None
    """Item id in reviews; by default ``item_id``."""
    review_user: str | None = None
    """User id in reviews; by default ``user_id``."""
    review_text: str | None = None
    """Text of a review; by default the column ``text``, ``review``, ``reviewText`` or the like."""
    review_time: str | None = None
    """Time of a review; by default the column ``timestamp``, ``time``, ``date`` or the like, if it exists."""
    review_helpful: str | None = None
    """Votes that found a review helpful; by default the column ``helpful``, ``helpful_votes``, ``votes`` or the like,
    if it exists."""


class FeaturesConfig(Options):
    """``[data.features]``: side features, for backbones that use them, such as ``fm``.

    The type of a column follows from its values, unless it is given: ``"name:number"``, ``"name:category"``,
    ``"name:tags"``.
    """

    item: list[str] = Field(default=[])
    """Columns of the items table."""
    user: list[str] = Field(default=[])
    """Columns of the users table."""
    max_values: int = Field(default=10_000, ge=1)
    """Largest number of distinct values of a category or of tags; a column with more is rejected as an id or text."""


class DataConfig(Options):
    """``[data]``: the tables. CSV, TSV, JSONL, Parquet and RecBole atomic files, and public data sets as published."""

    items: Path | None = None
    """Items table, with text."""
    users: Path | None = None
    """Users table, with text."""
    interactions: Path | None = None
    """Interactions of users with items."""
    reviews: Path | None = None
    """Reviews that users wrote of items."""
    items_format: str = "auto"
    """Format of the items table: the name of a public data set, such as ``movielens``, or ``auto``."""
    users_format: str = "auto"
    """Format of the users table."""
    interactions_format: str = "auto"
    """Format of the interactions, and of the files of test and validation interactions."""
    reviews_format: str = "auto"
    """Format of the reviews."""
    columns: ColumnsConfig = ColumnsConfig()
    features: FeaturesConfig = FeaturesConfig()
    max_text: int = Field(default=4000, ge=1)
    """Largest number of characters of an entity's text in a prompt or embedding; longer text is truncated."""
    html: Html = "keep"
    """``strip``: tags and entities of HTML are turned into plain text, in items, users and reviews."""
    encoding: str = "utf-8"
    """Encoding of text files. With one of a single byte per character, such as ``cp1252`` or ``latin-1``, text that is
    UTF-8 is still read as such."""
    plain_cells: bool = False
    """Whether texts show lists as their elements, ``a, b``, however they are nested or written, and 32-bit numbers of
    Parquet by their shortest digits, ``0.1`` for ``0.10000000149011612``. A change makes profiles stale whose texts it
    changes."""

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, name: str) -> str:
        try:
            "".encode(name)
        except LookupError:
            raise ValueError(f"{name!r} is no encoding of text; try utf-8, cp1252, latin-1 or utf-16") from None
        return name
