"""Sum up what a model recalls of a data set's items, against chance, by popularity."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from enhancer.evaluation.diagnosing.checks import DiagnosticCheck, percent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Probe = Literal["title", "year", "rank"]
"""``title``: completes a title; ``year``: names the year of a title; ``rank``: names the more popular of two titles."""
PROBES: tuple[Probe, ...] = ("title", "year", "rank")
_NAMES: Mapping[Probe, str] = {
    "title": "titles completed",
    "year": "years named",
    "rank": "more popular of two named",
}
_STRATA = ("head", "middle", "tail", "cold")
_Z = 1.959964


class Recall(NamedTuple):
    """Answer to one probe about one item."""

    id: str
    stratum: str
    """Popularity stratum of the item: ``head``, ``middle``, ``tail`` or ``cold``."""
    given: str
    right: str

    @property
    def correct(self) -> bool:
        """Whether the answer is right."""
        return self.given == self.right


@dataclass(frozen=True, slots=True)
class RecallShare:
    """Share of right answers in one stratum."""

    asked: int
    correct: int
    chance: float
    """Share of right answers if answers were exchanged between items at random; one half for two choices."""

    @property
    def share(self) -> float:
        """Share of right answers."""
        return self.correct / self.asked

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the share (Wilson 1927)."""
        n, p = self.asked, self.share
        middle = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
        half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
        return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))  # rounding must not exclude p

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval is above chance."""
        return self.interval[0] > self.chance


def recall_shares(recalls: Sequence[Recall], *, choices: int | None = None) -> dict[str, RecallShare]:
    """Count right answers to one probe by stratum, ``all`` first.

    Args:
        recalls: The answers.
        choices: Number of choices of each question. Without, chance is estimated by exchanging answers between items,
            over all pairs, which a model that always gives the same answer cannot beat.
    """
    groups = {"all": recalls} | {name: [one for one in recalls if one.stratum == name] for name in _STRATA}
    return {
        name: RecallShare(
            asked=len(some),
            correct=sum(one.correct for one in some),
            chance=1 / choices if choices else _exchanged(some),
        )
        for name, some in groups.items()
        if some
    }


def memory_check(probe: Probe, shares: Mapping[str, RecallShare], model: str) -> DiagnosticCheck:
    """Return the check of one probe.

    What a model knows is no fault, so the level is ``good`` if it knows no more than chance explains, else ``unknown``:
    gains must then be read with the items that it does not know.
    """
    everything = shares["all"]
    low, high = everything.interval
    by_stratum = ", ".join(
        f"{name} {percent(one.share)} of {one.asked:,}" for name, one in shares.items() if name != "all"
    )
    task = {
        "title": f"{model} completes {percent(everything.share)} of {everything.asked:,} titles",
        "year": f"{model} names the right year of {percent(everything.share)} of {everything.asked:,} titles",
        "rank": f"{model} names the more popular of two titles in {percent(everything.share)} of {everything.asked:,}"
        " pairs",
    }[probe]
    words = (
        f"{task} (95% interval {percent(low)} to {percent(high)}; by chance {percent(everything.chance)}); "
        f"by popularity: {by_stratum}"
    )
    if everything.beyond_chance:
        words += "; it knows this data set, and what it writes may hold hindsight"
    values = {
        name: {
            "asked": one.asked,
            "correct": one.correct,
            "share": one.share,
            "interval": list(one.interval),
            "chance": one.chance,
        }
        for name, one in shares.items()
    }
    return DiagnosticCheck(
        topic="memory",
        name=f"memory ({_NAMES[probe]})",
        kind="item",
        level="unknown" if everything.beyond_chance else "good",
        words=words,
        source=probe,
        values={"model": model, "strata": values},
    )


def _exchanged(recalls: Sequence[Recall]) -> float:
    """Return the mean share of right answers over all exchanges of answers between two different items."""
    n = len(recalls)
    if n < 2:
        return 0.0
    given, right = (Counter(getattr(one, side) for one in recalls) for side in ("given", "right"))
    pairs = sum(count * right[answer] for answer, count in given.items())
    return (pairs - sum(one.correct for one in recalls)) / (n * (n - 1))
