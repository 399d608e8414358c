"""Count the reviews of a table, by whether prompts may show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewReport:
    """Counts of reviews. ``rows = training + held_out + unmatched + unknown_items + empty``."""

    rows: int = 0
    training: int = 0
    """Reviews of a pair of user and item in the training part, which prompts may show."""
    items: int = 0
    """Items with such a review."""
    held_out: int = 0
    """Reviews of a pair in the validation or test part, or of an item that is held out altogether."""
    unmatched: int = 0
    """Reviews of a pair that is no interaction, or without a user."""
    unknown_items: int = 0
    """Reviews of an item without interactions."""
    empty: int = 0
    """Reviews without text."""
    has_users: bool = True
    """Whether the table names users. If not, reviews cannot be told to be held out, unless their item is."""

    def lines(self) -> list[str]:
        """Describe what prompts may show and what was left out, one sentence each.

        >>> for line in ReviewReport(rows=9, training=6, items=2, held_out=3).lines():
        ...     print(line)
        6 of 9 reviews, of 2 items, belong to a training interaction
        3 of 9 reviews left out: their interaction is held out for validation or test
        """
        shown = f"{self.training:,} of {self.rows:,} reviews, of {self.items:,} items,"
        if self.has_users:
            lines = [f"{shown} belong to a training interaction"]
            held = "their interaction is held out for validation or test"
        else:
            lines = [f"{shown} may belong to held-out interactions, because the table names no users"]
            held = "their item is held out altogether"
        reasons = [
            (self.held_out, held),
            (self.unmatched, "their user and item have no interaction"),
            (self.unknown_items, "their item has no interaction at all"),
            (self.empty, "they have no text"),
        ]
        return lines + [f"{n:,} of {self.rows:,} reviews left out: {why}" for n, why in reasons if n]

    def to_json(self) -> dict[str, Any]:
        """Return all counts."""
        return {name: getattr(self, name) for name in self.__slots__}
