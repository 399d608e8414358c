"""Results of ``spend``; ``to_json`` gives the keys that the command line prints."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from enhancer.evaluation.valuing.bounds import Appraisal

Verdict = Literal["buy", "look", "wait", "stop"]
"""``buy``: the bound is positive; ``look``: it is over shuffled vectors alone, and more items may show a gain over the
other controls; ``wait``: it is not, and may be with more evidence of other strata; ``stop``: it is not any more."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Finding of a round about one offer, and the decision."""

    appraisal: Appraisal
    level: float
    """Probability that the bound is above the gain, for any of the offers of the round."""
    cost_per_item: float
    """Estimated cost in USD."""
    pairs_per_item: float
    verdict: Verdict
    reason: str

    @property
    def bound(self) -> float:
        """Lower bound of the gain per validation pair; NaN if unknown."""
        return self.appraisal.bound(self.level)

    @property
    def bound_per_usd(self) -> float:
        """Least gain in discounted hits of the validation part for a dollar; infinite if the offer costs nothing."""
        return self._per_usd(self.bound)

    @property
    def gain_per_usd(self) -> float:
        """Gain in discounted hits of the validation part for a dollar."""
        return self._per_usd(self.appraisal.gain)

    def _per_usd(self, gain: float) -> float:
        total = gain * self.pairs_per_item
        return total / self.cost_per_item if self.cost_per_item > 0 else math.copysign(math.inf, total)

    def to_json(self) -> dict[str, Any]:
        """Return the decision as JSON values."""
        offer, bounds, explained = self.appraisal.offer, self.appraisal.bounds(self.level), self.appraisal.explained
        return {
            "stratum": offer.group,
            "aspects": list(offer.aspects),
            "given": list(offer.given),
            "items": self.appraisal.items,
            "pairs": self.appraisal.pairs,
            "gain": _finite(self.appraisal.gain),
            "bound": _finite(self.bound),
            "explained": _finite(math.nan if explained is None else float(explained[0])),
            "explained_bound": _finite(self.appraisal.explained_bound),
            "controls": {
                name: {"gain": gain, "bound": _finite(bounds.get(name, math.nan))}
                for name, gain in self.appraisal.gains.items()
            },
            "gain_per_usd": _finite(self.gain_per_usd),
            "bound_per_usd": _finite(self.bound_per_usd),
            "decision": self.verdict,
            "reason": self.reason,
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True, kw_only=True)
class SpendPlan:
    """Result of a dry run: what the pilot would buy, and what everything would cost."""

    budget_usd: float
    spent_usd: float
    """Spending of the campaign so far."""
    aspects: tuple[str, ...]
    strata: list[dict[str, Any]] = field(default_factory=list)
    """Of each: ``stratum``, ``items``, ``measurable``, ``pilot``, ``pilot_usd`` and ``everything_usd``."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """Rounds of the campaign so far."""
    stopped: str | None = None
    """Why the campaign has stopped; None if it has not."""

    @property
    def pilot_usd(self) -> float:
        """Estimated cost of the pilot."""
        return sum(float(one["pilot_usd"]) for one in self.strata)

    @property
    def everything_usd(self) -> float:
        """Estimated cost of all items that have not been bought."""
        return sum(float(one["everything_usd"]) for one in self.strata)

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer spend --dry-run --json`` prints."""
        return {
            "budget_usd": self.budget_usd,
            "spent_usd": self.spent_usd,
            "aspects": list(self.aspects),
            "pilot_usd": self.pilot_usd,
            "everything_usd": self.everything_usd,
            "strata": self.strata,
            "rounds": self.rounds,
            "stopped": self.stopped,
        }


@dataclass(frozen=True, kw_only=True)
class SpendReport:
    """Result of a campaign."""

    budget_usd: float
    spent_usd: float
    """Amount paid, with ``lost_usd``."""
    lost_usd: float
    """Upper bound of what calls cost that were in flight when earlier runs were stopped."""
    everything_usd: float
    """Estimated cost of what was not bought."""
    stopped: str
    """Why the campaign stopped: ``no gain``, ``complete`` or ``budget``."""
    strata: list[dict[str, Any]]
    """Of each: ``stratum``, ``items``, ``bought`` by aspect, and the aspects that are ``worth`` buying."""
    rounds: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer spend --json`` prints."""
        return {
            name: getattr(self, name)
            for name in ("budget_usd", "spent_usd", "lost_usd", "everything_usd", "stopped", "strata", "rounds")
        }
