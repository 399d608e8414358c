"""Find the frontier on one stratum: the rungs that gain, beyond chance, over everything that costs less."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.config.inputs import TEXT
from enhancer.evaluation.frontier.gains import Worth, gain_between, seed_noise
from enhancer.evaluation.frontier.ladder import NOTHING
from enhancer.evaluation.judging.significance import ALPHA

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from enhancer.evaluation.frontier.gains import Gain
    from enhancer.evaluation.measuring.strata import Stratum
    from enhancer.evaluation.running.runs import ArmRun

IDS, PLAIN_TEXT, PLACEBO = "ids", "text", "placebo"
"""Controls: no vectors, raw text without an LLM, and shuffled vectors of the same width."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """The runs of one rung."""

    name: str
    cost: float
    """In the unit of the frontier."""
    texts: bool
    """Whether an LLM wrote any of its texts."""
    runs: Sequence[ArmRun]
    vectors: bool = True
    """Whether it has vectors, which a placebo can shuffle."""
    placebo: Sequence[ArmRun] = ()
    """Runs with shuffled vectors; empty if they have not been needed."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Standing:
    """Gains of all rungs on one stratum, and the frontier."""

    stratum: Stratum
    metric: str
    worth: dict[str, Worth]
    """Gains over each control, by rung, in the order of their cost; without the rung of nothing."""
    values: dict[str, float]
    """Metric, by rung."""
    frontier: list[str]
    """Rungs on the frontier, the cheapest first; ``nothing`` is the first."""
    steps: dict[str, Gain] = field(default_factory=dict)
    """Gain of each rung on the frontier over the one before it."""

    def gain(self, rung: str) -> Gain | None:
        """Return the gain of a rung over no vectors; None for the rung of nothing itself."""
        worth = self.worth.get(rung)
        return None if worth is None else worth.over[IDS]

    @property
    def best(self) -> str:
        """The rung at the end of the frontier: nothing has proven better, at any price."""
        return self.frontier[-1]

    def to_json(self, rung: str) -> dict[str, Any]:
        """Return what was measured of one rung."""
        own = self.worth.get(rung)
        gain = {"gain": 0.0, "interval": None} if own is None else own.over[IDS].to_json()
        return {
            **gain,
            "value": self.values[rung],
            "over": {} if own is None else {name: each.to_json() for name, each in own.over.items() if name != IDS},
            "on_frontier": rung in self.frontier,
        }


def stand(rungs: Sequence[Measured], stratum: Stratum, metric: str, *, proven: bool = False) -> Standing:
    """Compare all rungs on one stratum.

    A rung is on the frontier if it gains over the best rung that costs less, or as much, and over its placebo, if that
    has been run. Both are tested one-sided over users and seeds, with the noise of seeds estimated from all rungs, and
    corrected for the number of rungs (Bonferroni), so that a ladder without any effect has a rung on its frontier with
    probability .05 at most.

    Args:
        rungs: The first is that of nothing.
        stratum: The stratum.
        metric: Name such as ``ndcg@10``.
        proven: Whether rungs whose placebo has not been run are kept off the frontier.
    """
    nothing, rest = rungs[0], sorted(rungs[1:], key=lambda rung: rung.cost)
    text = next((rung for rung in rest if rung.name == TEXT), None)
    noise = seed_noise([rung.runs for rung in rungs], stratum.name, metric)

    def gain_over(rung: Measured, control: Sequence[ArmRun]) -> Gain:
        return gain_between(rung.runs, control, stratum.name, metric, noise)

    worth: dict[str, Worth] = {}
    for rung in rest:
        controls = {IDS: nothing.runs}
        if text is not None and rung.texts:
            controls[PLAIN_TEXT] = text.runs
        if rung.placebo:
            controls[PLACEBO] = rung.placebo
        worth[rung.name] = Worth({name: gain_over(rung, runs) for name, runs in controls.items()})
    alpha = ALPHA / max(len(rest), 1)
    frontier, steps = [nothing], {}
    # Of equally dear rungs the best comes first: those behind it cannot gain over it.
    for rung in sorted(rest, key=lambda each: (each.cost, -worth[each.name].over[IDS].delta)):
        step = gain_over(rung, frontier[-1].runs)
        placebo = worth[rung.name].over.get(PLACEBO)
        unproven = proven and rung.vectors and placebo is None
        if step.bound(alpha) > 0 and not unproven and (placebo is None or placebo.bound(alpha) > 0):
            frontier.append(rung)
            steps[rung.name] = step
    return Standing(
        stratum=stratum,
        metric=metric,
        worth=worth,
        values={rung.name: _mean(rung.runs, stratum.name, metric) for rung in (nothing, *rest)},
        frontier=[NOTHING, *(rung.name for rung in frontier[1:])],
        steps=steps,
    )


def unchecked(standings: Collection[Standing], rungs: Sequence[Measured]) -> list[str]:
    """Return the rungs on any of the frontiers that have no placebo yet."""
    there = {name for standing in standings for name in standing.frontier[1:]}
    return [rung.name for rung in rungs if rung.name in there and not rung.placebo]


def _mean(runs: Sequence[ArmRun], stratum: str, metric: str) -> float:
    return sum(run.scores[stratum].mean(metric) for run in runs) / len(runs)
