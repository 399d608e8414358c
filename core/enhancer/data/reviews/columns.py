"""Find the columns of a table of reviews."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.config import ColumnsConfig
    from enhancer.data.readers import TableReader

_TEXTS = ("text", "review", "review_text", "review_body", "body", "content", "comment", "comments")
_TIMES = ("timestamp", "time", "unix_review_time", "date", "review_date", "created_at", "date_added")
_HELPFUL = (
    *("helpful", "helpfulness", "helpful_vote", "helpful_votes", "n_helpful", "votes", "n_votes", "vote"),
    *("votes_helpful", "found_helpful", "likes", "thumbs_up"),
)


@dataclass(frozen=True, slots=True)
class ReviewColumns:
    """Names of the columns of a table of reviews."""

    item: str
    text: str
    user: str | None
    time: str | None
    helpful: str | None

    @property
    def names(self) -> list[str]:
        """The columns to read, each once."""
        every = (self.item, self.text, self.user, self.time, self.helpful)
        return list(dict.fromkeys(name for name in every if name is not None))


def review_columns(table: TableReader, columns: ColumnsConfig) -> ReviewColumns:
    """Return the columns that ``[data.columns]`` names, or else those with a usual name.

    Raises:
        ConfigError: A column is missing, or the column of the text cannot be told.
    """
    item = columns.review_item or columns.item_id
    user = columns.review_user
    if user is not None:
        table.require(user, "review_user")
    elif columns.user_id in table.columns:
        user = columns.user_id
    time = columns.review_time
    if time is None and columns.timestamp and columns.timestamp in table.columns:
        time = columns.timestamp
    text = _named_or_usual(table, columns.review_text, "review_text", _TEXTS)
    if text is None:
        raise ConfigError(
            f"{table.path} has no column that is known to hold the text of a review",
            hint=f"set [data.columns] review_text to one of {', '.join(table.columns)}",
        )
    return ReviewColumns(
        item=table.require(item, "review_item" if columns.review_item is not None else "item_id"),
        text=text,
        user=user,
        time=_named_or_usual(table, time, "review_time", _TIMES),
        helpful=_named_or_usual(table, columns.review_helpful, "review_helpful", _HELPFUL),
    )


def _named_or_usual(table: TableReader, name: str | None, setting: str, usual: Sequence[str]) -> str | None:
    return table.require(name, setting) if name is not None else _usual(table, usual)


def _usual(table: TableReader, usual: Sequence[str]) -> str | None:
    """Return the column with the first of some names, whatever its case and underscores."""
    plain = {_plain(name): name for name in reversed(table.columns)}
    return next((plain[_plain(name)] for name in usual if _plain(name) in plain), None)


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace(" ", "").replace("-", "")
