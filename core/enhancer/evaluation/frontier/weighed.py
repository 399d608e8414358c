"""Rungs with their costs and their standings: what the words of a verdict are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.evaluation.frontier.ladder import Rung
    from enhancer.evaluation.frontier.prices import Cost
    from enhancer.evaluation.frontier.standing import Standing

Unit = Literal["usd", "tokens", "records"]
"""Unit of cost on the frontier: dollars, or else tokens, or else the number of generated texts."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Weighed:
    """Gain and cost of every rung."""

    rungs: list[Rung]
    costs: dict[str, Cost]
    """By rung."""
    unit: Unit
    metric: str
    standings: dict[str, Standing]
    """By stratum, ``all`` first."""

    def cost_of(self, rung: str) -> float:
        """Return the cost of a rung in :attr:`unit`."""
        return cost_in(self.costs[rung], self.unit)


def common_unit(costs: Sequence[Cost]) -> Unit:
    """Return the first unit in which all costs are known and some are not 0: dollars, tokens, or number of texts."""
    if all(cost.usd is not None for cost in costs) and any(cost.usd for cost in costs):
        return "usd"
    if all(cost.tokens is not None for cost in costs) and any(cost.tokens for cost in costs):
        return "tokens"
    return "records"


def cost_in(cost: Cost, unit: Unit) -> float:
    """Return a cost in a unit in which it is known."""
    value = {"usd": cost.usd, "tokens": cost.tokens, "records": float(cost.records)}[unit]
    assert value is not None
    return value
