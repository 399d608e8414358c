r"""Confidence bounds of the gain of offers.

Vectors first have to tell anything at all of items: to explain more of the factors of left-out items than shuffled
vectors do. That needs no validation pairs and shows with few items. Offers that fail are not judged, and take no share
of the error. The screen reads the training part and gains the validation part, so it does not favour chance gains
(Bourgon, Gentleman & Huber 2010, "Independent filtering").

A gain counts over each control, so an offer's gain is the least of them, and so is its bound (an intersection-union
test: no correction for the number of controls; Berger 1982). Over interactions and text, the bound is Student's, over
the sampled items. All offers are judged at once (Bonferroni): groups share the error probability equally, and within a
group all aspects together get half of it, because they need the fewest items to be found. Over shuffled vectors it is a
permutation bound: the gain less the largest standardised excess, over all offers at once, that shuffled vectors reach
with the given probability (Westfall & Young 1993, max-T), which assumes nothing about the distribution of gains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from enhancer.evaluation.frontier.gains import Gain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SHUFFLED = "placebo"
"""Name of the control with shuffled vectors."""
SCREEN = 0.05
"""Probability that any offer is judged although no vectors tell anything of items."""


def ratio_gain(gains: NDArray[np.float64], weights: NDArray[np.float64], item: NDArray[np.int64]) -> Gain:
    """Estimate the mean gain of a pair as a ratio of sums, with items as units of sampling.

    Args:
        gains: float64 ``[n]``: gain of each pair.
        weights: float64 ``[n]``: number of pairs that each stands for.
        item: int64 ``[n]``: item of each pair, numbered from 0.
    """
    mean = float(weights @ gains / weights.sum())
    sums = np.bincount(item, weights * (gains - mean))
    n = len(sums)
    error = math.sqrt(n / (n - 1) * float(sums @ sums)) / float(weights.sum()) if n > 1 else None
    return Gain(delta=mean, error=error, df=n - 1 if n > 1 else None, users=n)


class Offer(NamedTuple):
    """Aspects that may be bought for the items of a group."""

    group: str
    aspects: tuple[str, ...]
    """Aspects to buy together."""
    given: tuple[str, ...] = ()
    """Aspects that the items have already, beside which these must gain."""


@dataclass(frozen=True, eq=False)
class Appraisal:
    """Gain of an offer, as discounted gain per validation pair. Without draws, too few items were measured."""

    offer: Offer
    items: int = 0
    """Number of sampled items that were measured."""
    pairs: int = 0
    """Number of their validation pairs that were ranked."""
    over: dict[str, Gain] = field(default_factory=dict)
    """Gain over each control but shuffled vectors."""
    mean: float = math.nan
    """Mean discounted gain with the vectors."""
    draws: NDArray[np.float64] | None = None
    """float64 ``[shuffles]``: the same with shuffled vectors."""
    explained: NDArray[np.float64] | None = None
    """float64 ``[1 + shuffles]``: share that the vectors explain of what other models leave of items' factors, then the
    same for shuffled vectors."""
    share: float = 1.0
    """Share of the error probability of all offers that are judged together; 0 for one that tells nothing."""
    excess: NDArray[np.float64] | None = None
    """float64 ``[shuffles]``, ascending: largest standardised excess of shuffled vectors, over all offers."""
    explained_excess: NDArray[np.float64] | None = None
    """The same of the explained share."""

    @property
    def known(self) -> bool:
        """Whether enough items were measured."""
        return self.draws is not None

    @property
    def without(self) -> float:
        """Mean discounted gain by interactions alone; NaN if unknown."""
        return self.mean - self.over["ids"].delta if "ids" in self.over else math.nan

    @property
    def gains(self) -> dict[str, float]:
        """Gain over each control."""
        if self.draws is None:
            return {}
        shuffled = self.mean - float(self.draws.mean())
        return {**{name: one.delta for name, one in self.over.items()}, SHUFFLED: shuffled}

    @property
    def gain(self) -> float:
        """Gain over the best control; NaN if unknown."""
        return float(min(self.gains.values(), default=math.nan))

    @property
    def reach(self) -> float:
        """Gain over the best control if each were larger by its standard error; NaN if unknown."""
        return float(min((one.delta + (one.error or 0.0) for one in self.over.values()), default=math.nan))

    def bounds(self, level: float) -> dict[str, float]:
        """Return lower bounds of the gains, which all hold for all offers with probability ``1 - level``."""
        if self.draws is None or self.excess is None:
            return {}
        shuffled = _permutation_bound(self.mean, self.draws, self.excess, level)
        over = {name: one.bound(level * self.share) if self.share else -math.inf for name, one in self.over.items()}
        return {**over, SHUFFLED: shuffled}

    @property
    def explained_bound(self) -> float:
        """Lower bound of what vectors explain beyond shuffled ones, for all offers at once; NaN if unknown."""
        if self.explained is None or self.explained_excess is None:
            return math.nan
        return _permutation_bound(float(self.explained[0]), self.explained[1:], self.explained_excess, SCREEN)

    @property
    def tells(self) -> bool:
        """Whether the vectors are certain to tell anything of items."""
        return self.explained_bound > 0

    def bound(self, level: float) -> float:
        """Return the least of the bounds; NaN if unknown."""
        return float(min(self.bounds(level).values(), default=math.nan))


def simultaneous(appraisals: Sequence[Appraisal]) -> list[Appraisal]:
    """Judge offers together: return them with their shares of the error, and the excess of shuffles over all."""
    known = [one for one in appraisals if one.draws is not None]
    if not known:
        return list(appraisals)
    excess = _excess([one.draws for one in known if one.draws is not None])
    explained = _excess([one.explained[1:] for one in known if one.explained is not None])
    found = [replace(one, excess=excess, explained_excess=explained) for one in appraisals]
    shares = _shares([one.offer for one in found if one.tells])
    return [replace(one, share=shares.get(one.offer, 0.0)) for one in found]


def _excess(draws: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the largest standardised excess of each shuffle over all offers, ascending."""
    table = np.array(draws)
    spreads = np.maximum(table.std(axis=1, ddof=1, keepdims=True), 1e-300)
    return np.sort(((table - table.mean(axis=1, keepdims=True)) / spreads).max(axis=0))


def _permutation_bound(value: float, draws: NDArray[np.float64], excess: NDArray[np.float64], level: float) -> float:
    """Return the excess of a value over draws, less the excess that draws reach with probability ``level``."""
    # With few shuffles, no excess is as improbable as a small level asks for.
    place = math.ceil((len(excess) + 1) * (1 - level)) - 1
    most = float(excess[place]) if place < len(excess) else math.inf
    spread = float(draws.std(ddof=1))
    return value - float(draws.mean()) - (most * spread if spread > 0 else 0.0)


def _shares(offers: Sequence[Offer]) -> dict[Offer, float]:
    """Divide the error among groups equally; within a group, aspects together get half, and the others the rest."""
    found: dict[Offer, float] = {}
    groups = dict.fromkeys(offer.group for offer in offers)
    for group in groups:
        own = [offer for offer in offers if offer.group == group]
        together = [offer for offer in own if len(offer.aspects) > 1]
        single = [offer for offer in own if len(offer.aspects) == 1]
        for some in (together, single):
            part = 0.5 if together and single else 1.0
            found |= {offer: part / len(some) / len(groups) for offer in some}
    return found
