"""Decide, after each round, which strata are worth more money, and share it out. Nothing here pays or measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.evaluation.valuing.bounds import SHUFFLED, Offer
from enhancer.evaluation.valuing.gains import NEW
from enhancer.project.spending.results import Decision
from enhancer.project.spending.state import Order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from enhancer.evaluation.valuing.bounds import Appraisal
    from enhancer.project.spending.results import Verdict
    from enhancer.project.spending.strata import Stratum

ALPHA = 0.05
"""Probability that anything at all is bought after the pilot although nothing gains."""
PILOT_SHARE = 0.02
"""Share of the items that a pilot buys."""
PILOT_ITEMS = 40
"""Smallest number of items of a stratum that a pilot buys, where there are as many with validation pairs."""
NEGLIGIBLE = 1e-6
"""Gain per pair below which a bound is rounding error."""
LATER_LOOKS = 4
"""Number of rounds after the pilot that may still find a stratum worth buying that the pilot did not."""
LOOKS = 3
"""Number of rounds, the pilot's the first, after which a stratum may get another look."""
LOOK_GAIN = 0.005
"""Smallest gain that is worth another look, as a share of the discounted gain without vectors."""
LEAST_ITEMS = 12
"""Number of items of a stratum below which a pilot is not worth its money."""


def level_of(round_number: int, *, proven: bool) -> float:
    """Return the level of a bound: the pilot and each later look spend an equal part of :data:`ALPHA`.

    An offer that has been found worth its money must stay so at half of it. That only ends purchases, so it spends
    nothing.

    >>> [level_of(number, proven=False) for number in (1, 3, 9)], level_of(3, proven=True)
    ([0.01, 0.01, 0.0], 0.025)
    """
    if proven:
        return ALPHA / 2
    return ALPHA / (1 + LATER_LOOKS) if round_number <= 1 + LATER_LOOKS else 0.0


def pilot_sizes(strata: Sequence[Stratum], *, share: float = PILOT_SHARE, least: int = PILOT_ITEMS) -> dict[str, int]:
    """Return how many items of each stratum a pilot buys, by name.

    The share is divided equally, because each stratum is judged by itself. New items teach nothing, so none are bought.
    """
    known = [stratum for stratum in strata if stratum.name != NEW]
    each = max(least, round(share * sum(map(len, strata)) / max(len(known), 1)))
    return {stratum.name: min(each, stratum.measurable) for stratum in known}


def offers(strata: Sequence[Stratum], aspects: Sequence[str]) -> list[Offer]:
    """Return what may be bought next in each stratum.

    In a stratum in which nothing has proved its worth: each aspect, and all together. Otherwise what has, and each
    other aspect beside it.
    """
    found = []
    for stratum in strata:
        given: tuple[str, ...] = ()
        for step in stratum.chain:
            if stratum.done(step) < len(stratum):
                found.append(Offer(stratum.name, step, given))
            given += step
        rest: list[tuple[str, ...]] = [
            (name,) for name in aspects if name not in given and stratum.done((name,)) < len(stratum)
        ]
        if len(rest) > 1 and not given:
            rest.append(tuple(aspects))
        found += [Offer(stratum.name, names, given) for names in rest]
    return found


def decide(
    strata: Sequence[Stratum],
    appraisals: Sequence[Appraisal],
    costs: Mapping[tuple[str, tuple[str, ...]], float],
    round_number: int,
    least: float = 0.0,
) -> list[Decision]:
    """Decide about each offer, and update the chains of the strata.

    Args:
        strata: The strata.
        appraisals: What the offers gain.
        costs: Estimated cost of one item by stratum and aspects, in USD.
        round_number: Number of the round, from 1.
        least: Smallest gain that is worth buying, as a share of the discounted gain without vectors.
    """
    found: dict[Offer, Decision] = {}
    for stratum in strata:
        own = [one for one in appraisals if one.offer.group == stratum.name]
        judged = [_judge(one, strata, costs, round_number, least) for one in own]
        kept: list[tuple[str, ...]] = []
        given: tuple[str, ...] = ()
        for step in stratum.chain:
            offer = Offer(stratum.name, step, given)
            again = next((one for one in judged if one.appraisal.offer == offer), None)
            if again is not None and again.verdict != "buy":
                break
            kept.append(step)
            given += step
        broken = len(kept) < len(stratum.chain)
        new = [one for one in judged if one.verdict == "buy" and one.appraisal.offer.given == given]
        new = [] if broken else [one for one in new if one.appraisal.offer.aspects not in kept]
        best = max(new, key=lambda one: one.bound_per_usd, default=None)
        if best is not None:
            kept.append(best.appraisal.offer.aspects)
        stratum.chain = kept
        looks = [one for one in judged if one.verdict == "look" and one.appraisal.offer.given == given]
        look = None if broken or best is not None else max(looks, key=lambda one: one.gain_per_usd, default=None)
        for one in judged:
            passed = one.verdict == "look" and one is not look
            found[one.appraisal.offer] = _beside(one, best or look, kept) if one.verdict == "buy" or passed else one
    return [found[one.offer] for one in appraisals]


def _judge(
    appraisal: Appraisal,
    strata: Sequence[Stratum],
    costs: Mapping[tuple[str, tuple[str, ...]], float],
    round_number: int,
    least: float,
) -> Decision:
    offer = appraisal.offer
    stratum = next(one for one in strata if one.name == offer.group)
    proven = offer.aspects in stratum.chain
    level = level_of(round_number, proven=proven)
    verdict: Verdict
    if not appraisal.known:
        verdict, reason = "wait", f"{appraisal.items} measured items are too few to judge"
    elif not appraisal.tells:
        verdict = "stop" if proven else "wait"
        reason = f"tells no more of items than {SHUFFLED}, as far as is certain"
    elif not level:
        verdict, reason = "wait", "was not found worth buying in time"
    elif (bound := appraisal.bound(level)) > max(least * appraisal.without, NEGLIGIBLE):
        verdict, reason = "buy", f"gains at least {bound:.5f} per pair over every control"
    elif bound > NEGLIGIBLE:
        verdict = "stop" if proven else "wait"
        reason = f"gains at least {bound:.5f} per pair, which is less than {least:g} of {appraisal.without:.5f}"
    else:
        bounds = appraisal.bounds(level)
        weakest = min(bounds, key=lambda name: bounds[name])
        verdict = "stop" if proven else "wait"
        reason = f"a gain over {weakest} is {'no longer ' if proven else 'not '}certain"
        if not proven and round_number <= LOOKS and _promising(appraisal, strata, least):
            verdict = "look"
            reason = f"tells more of items than {SHUFFLED}, and a gain over {weakest} is not certain yet"
    return Decision(
        appraisal=appraisal,
        level=level,
        cost_per_item=costs[offer.group, offer.aspects],
        pairs_per_item=stratum.pairs_per_item,
        verdict=verdict,
        reason=reason,
    )


def _promising(appraisal: Appraisal, strata: Sequence[Stratum], least: float) -> bool:
    """Return whether vectors are certain to tell of items, and a gain that is worth buying is not out of reach.

    Without the first, more items would be bought until chance makes a gain; without the second, wherever a model knows
    items that interactions know, too.
    """
    worthwhile = max(least, LOOK_GAIN) * appraisal.without
    return appraisal.tells and appraisal.reach > worthwhile and bool(_look(strata, appraisal.offer))


def _look(strata: Sequence[Stratum], offer: Offer) -> list[tuple[Stratum, int, int]]:
    """Return the strata that another look at an offer doubles, with the first and last positions to buy.

    That of new items doubles all others, which stand in for them. A look leaves something to save: it buys no more than
    half of a stratum, and than half as many items as are new.
    """
    found, new = [], offer.group == NEW
    for stratum in strata:
        if stratum.name != NEW and (new or stratum.name == offer.group):
            start = stratum.done(offer.aspects)
            stop = min(2 * start, stratum.measurable, len(stratum) // 2)
            if stop > start:
                found.append((stratum, start, stop))
    items = sum(stop - start for _, start, stop in found)
    return [] if new and items > sum(len(one) for one in strata if one.name == NEW) // 2 else found


def _beside(one: Decision, best: Decision | None, kept: Sequence[tuple[str, ...]]) -> Decision:
    """Return a decision to buy or to look as it stands beside the one that was taken."""
    if one.appraisal.offer.aspects in kept:
        return one
    why = "what was bought before it is no longer worth its price"
    if best is not None:
        why = f"{' + '.join(best.appraisal.offer.aspects)} gains more per dollar, and comes first"
    return Decision(
        appraisal=one.appraisal,
        level=one.level,
        cost_per_item=one.cost_per_item,
        pairs_per_item=one.pairs_per_item,
        verdict="wait",
        reason=why,
    )


def next_orders(
    strata: Sequence[Stratum],
    rates: Mapping[Offer, float],
    money: float,
    cost: Callable[[Stratum, tuple[str, ...]], float],
    looks: Sequence[Offer] = (),
) -> tuple[list[Order], bool]:
    """Share money out: each stratum that is worth it doubles, those first whose least gain per dollar is highest.

    Money to complete these is set aside before others get any. Last come strata that get another look: they double as
    well.

    Args:
        strata: The strata, with chains that :func:`decide` has updated.
        rates: Least gain per dollar of each offer.
        money: What is left, in USD.
        cost: Returns the estimated cost of one further item.
        looks: Offers that get another look.

    Returns:
        The orders, and whether more would have been ordered with more money.
    """
    learning = bool(looks) or any(one.chain and not one.complete() for one in strata if one.name != NEW)
    known = max((max(stratum.taken.values(), default=0) for stratum in strata if stratum.name != NEW), default=0)
    steps = []
    for stratum in strata:
        given: tuple[str, ...] = ()
        for step in stratum.chain:
            rate = rates.get(Offer(stratum.name, step, given), 0.0)
            first = stratum.done(stratum.chain[0])
            # New items have no pilot of their own: their first purchase is as large as one. They teach nothing, so
            # there is no reason to wait while nothing else is bought.
            goal = max(2 * first, known if not first else 0)
            goal = len(stratum) if stratum.name == NEW and not learning else min(len(stratum), goal)
            steps.append((rate, len(given), stratum, step, goal))
            given += step
    orders, short = [], False
    for _, _, stratum, step, goal in sorted(steps, key=lambda one: (-one[0], one[1])):
        start = stratum.done(step)
        if start >= goal:
            continue
        each = cost(stratum, step)
        count = goal - start
        if each > 0 and count * each > money:
            count, short = int(money // each), True
        if count > 0:
            orders.append(Order(stratum.name, list(step), start, start + count, count * each))
        money = max(0.0, money - (len(stratum) - start) * each)
    for offer in looks:
        for stratum, start, stop in _look(strata, offer):
            if any(one.stratum == stratum.name and {*one.aspects} & {*offer.aspects} for one in orders):
                continue  # the stratum is bought for another offer
            each, count = cost(stratum, offer.aspects), stop - start
            if each > 0 and count * each > money:
                count, short = int(money // each), True
            if count > 0:
                orders.append(Order(stratum.name, list(offer.aspects), start, start + count, count * each))
                money -= count * each
    return orders, short
