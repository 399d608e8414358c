"""Results of a ranker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Sequence

Scored = tuple[str, float]
"""Item id and score."""


def _scored_json(items: Sequence[Scored]) -> list[dict[str, Any]]:
    return [{"item_id": item, "score": score} for item, score in items]


@dataclass(frozen=True, slots=True)
class Recommendation(Shown):
    """Recommended items for one user, best first."""

    user_id: str
    items: list[Scored]
    titles: list[str | None] = field(default_factory=list)
    """Title of each item, where they were asked for."""
    reasons: list[str] = field(default_factory=list)
    """Item of the user's history that is nearest to each, where they were asked for."""

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each item, best first; with titles and reasons where they were asked for."""
        rows = []
        for place, (item, score) in enumerate(self.items):
            row: dict[str, Any] = {"user_id": self.user_id, "rank": place + 1, "item_id": item}
            row |= {"title": self.titles[place]} if self.titles else {}
            row |= {"score": score} | ({"beside": self.reasons[place]} if self.reasons else {})
            rows.append(row)
        return rows

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        return [f"For user {self.user_id}"]

    def html_rows(self) -> list[dict[str, Any]]:
        """See :meth:`enhancer.shown.Shown.html_rows`."""
        return [{name: value for name, value in row.items() if name != "user_id"} for row in self.to_rows()]

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``enhancer recommend --json`` prints."""
        return {"user_id": self.user_id, "items": _scored_json(self.items)}


class Recommendations(list[Recommendation], Shown):
    """Recommendations for several users, in the order of the request."""

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the rows of all users."""
        return [row for one in self for row in one.to_rows()]

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        return self[0].html_lines() if len(self) == 1 else []

    def html_rows(self) -> list[dict[str, Any]]:
        """See :meth:`enhancer.shown.Shown.html_rows`."""
        return self[0].html_rows() if len(self) == 1 else self.to_rows()


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Items nearest to one item, nearest first."""

    item_id: str
    items: list[Scored]

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``GET /similar`` answers, without titles.

        ``enhancer similar`` prints the same keys, but compares semantic vectors.
        """
        return {"item_id": self.item_id, "items": _scored_json(self.items)}
