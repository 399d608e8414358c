"""Sum up the tokens and the cost of a note."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

Number = TypeVar("Number", int, float)


@dataclass(slots=True)
class EntityUsage:
    """Tokens and cost of all answers about one note: its shares of the calls that asked for it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    unknown_cost: bool = False
    """Whether the cost of any call is unknown, which makes the sum unknown."""

    def add_call(self, prompt_tokens: int | None, completion_tokens: int | None, cost_usd: float | None) -> None:
        """Add a call, or the share of one; None where it is unknown."""
        unknown = self.unknown_cost or cost_usd is None
        self.add(EntityUsage(prompt_tokens, completion_tokens, cost_usd, unknown_cost=unknown))

    def add(self, other: EntityUsage) -> None:
        """Add the calls of another sum."""
        self.prompt_tokens = _sum(self.prompt_tokens, other.prompt_tokens)
        self.completion_tokens = _sum(self.completion_tokens, other.completion_tokens)
        self.unknown_cost = self.unknown_cost or other.unknown_cost
        self.cost_usd = None if self.unknown_cost else _sum(self.cost_usd, other.cost_usd)

    def shares(self, n: int) -> list[EntityUsage]:
        """Return this sum in ``n`` equal shares, of whole tokens that add up to all of them.

        >>> [share.prompt_tokens for share in EntityUsage(7, None, 0.3).shares(2)]
        [3, 4]
        """
        return [
            EntityUsage(
                None if self.prompt_tokens is None else token_share(self.prompt_tokens, position, n),
                None if self.completion_tokens is None else token_share(self.completion_tokens, position, n),
                None if self.cost_usd is None else self.cost_usd / n,
                self.unknown_cost,
            )
            for position in range(n)
        ]


def token_share(total: int, position: int, n: int) -> int:
    """Return the share of one of ``n`` notes in whole tokens; the shares add up to the total."""
    return total * (position + 1) // n - total * position // n


def _sum(a: Number | None, b: Number | None) -> Number | None:
    return b if a is None else a if b is None else a + b
