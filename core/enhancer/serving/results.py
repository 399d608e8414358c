"""Results of a ranker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Scored = tuple[str, float]
"""Item id and score."""


def _scored_json(items: Sequence[Scored]) -> list[dict[str, Any]]:
    return [{"item_id": item, "score": score} for item, score in items]


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Recommended items for one user, best first."""

    user_id: str
    items: list[Scored]

    def to_json(self) -> dict[str, Any]:
        """Return the object that ``enhancer recommend --json`` prints."""
        return {"user_id": self.user_id, "items": _scored_json(self.items)}


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
