"""Measure a ladder of rungs on one split, and find the frontier of gain against cost on every stratum."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from enhancer.evaluation.frontier.prices import Cost
from enhancer.evaluation.frontier.standing import Measured, Standing, stand, unchecked
from enhancer.evaluation.frontier.weighed import Weighed, common_unit, cost_in
from enhancer.evaluation.frontier.wording import PLACES, verdict_words
from enhancer.evaluation.running.runs import RunRequest
from enhancer.progress import silent
from enhancer.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from enhancer.evaluation.executor import Executor
    from enhancer.evaluation.frontier.ladder import Ladder, Rung
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.runs import ArmRun
    from enhancer.progress import Listener


@dataclass(frozen=True, eq=False, kw_only=True)
class Density(Weighed, Shown):
    """Gain and cost of every rung, and the conclusion."""

    seeds: list[int]
    left_out: dict[str, str]
    """Why a rung was not measured, by its name."""
    missing: dict[str, Any] | None = None
    """Cost of writing the texts that were left out: ``to_generate`` and ``cost_usd``; None if none were."""
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    """Wall time."""

    @property
    def verdict(self) -> dict[str, str]:
        """Sentences, by stratum; ``overall`` first."""
        return verdict_words(self)

    def to_json(self) -> dict[str, Any]:
        """Return what ``enhancer density --json`` prints.

        ``gain`` and ``interval`` of a rung are those over all trained items; ``strata`` has those of every stratum.
        """
        return {
            "frontier": [self._rung_json(rung) for rung in self.rungs],
            "verdict": self.verdict,
            "metric": self.metric,
            "unit": self.unit,
            "seeds": self.seeds,
            "strata": {
                name: {
                    "what": standing.stratum.description,
                    "items": standing.stratum.n_items,
                    "interactions": len(standing.stratum.pairs.users),
                    "frontier": standing.frontier,
                    "level": self._level(standing),
                }
                for name, standing in self.standings.items()
            },
            "left_out": [{"rung": name, "reason": reason} for name, reason in self.left_out.items()],
            "missing": self.missing,
            "facts": self.facts,
            "seconds": round(self.seconds, 3),
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each rung: cost, and gain with interval on every stratum."""
        rows = []
        for rung in (self._rung_json(rung) for rung in self.rungs):
            row = {name: rung[name] for name in ("rung", "share", "cost_usd", "tokens", "records")}
            for name, one in rung["strata"].items():
                low, high = one["interval"] or (None, None)
                row |= {f"{name}_gain": one["gain"], f"{name}_low": low, f"{name}_high": high}
                row[f"{name}_on_frontier"] = one["on_frontier"]
            rows.append(row)
        return rows

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        return list(self.verdict.values())

    def html_rows(self) -> list[dict[str, Any]]:
        """See :meth:`enhancer.shown.Shown.html_rows`; without the intervals."""
        return [{k: v for k, v in row.items() if not k.endswith(("_low", "_high"))} for row in self.to_rows()]

    def _level(self, standing: Standing) -> Literal["nothing", "text", "buy"]:
        """Return whether nothing gains, raw text alone does, or generated texts do."""
        best = next(rung for rung in self.rungs if rung.name == standing.best)
        return "buy" if best.generated else "text" if best.inputs else "nothing"

    def _rung_json(self, rung: Rung) -> dict[str, Any]:
        by_stratum = {name: standing.to_json(rung.name) for name, standing in self.standings.items()}
        overall = by_stratum["all"]
        return {
            "rung": rung.name,
            "inputs": list(rung.inputs),
            "share": rung.share,
            "order": None if rung.kept is None else rung.kept.order,
            **self.costs[rung.name].to_json(),
            "gain": overall["gain"],
            "interval": overall["interval"],
            "strata": by_stratum,
        }


def measure_density(
    ladder: Ladder,
    costs: Mapping[str, Cost],
    executor: Executor,
    arm_of: Callable[[Rung], Arm],
    seeds: Sequence[int],
    *,
    listener: Listener = silent,
) -> Density:
    """Train every rung with every seed, then placebos, until every rung on a frontier with a verdict has one.

    Rungs of as many inputs, for the same share of the catalogue, have the same placebo.

    Args:
        ladder: The rungs; the first is that of nothing.
        costs: Cost of each rung, by name; a rung that is not among them costs nothing.
        executor: Loads or trains runs.
        arm_of: Returns the arm of a rung, named like it.
        seeds: Distinct seeds.
        listener: Called with progress after every run.
    """
    started = time.perf_counter()
    experiment, rungs = executor.experiment, ladder.rungs
    costs = {rung.name: costs.get(rung.name, Cost()) for rung in rungs}
    metric, unit = experiment.metrics[0], common_unit([costs[rung.name] for rung in rungs])
    arms = {rung.name: arm_of(rung) for rung in rungs}
    runs = _by_arm(executor, list(arms.values()), seeds, listener)
    placebos: dict[str, Sequence[ArmRun]] = {}
    strata = [stratum for panel in experiment.panels for stratum in panel.strata]
    while True:
        measured = [
            Measured(
                name=rung.name,
                cost=cost_in(costs[rung.name], unit),
                texts=bool(rung.generated),
                vectors=bool(rung.inputs),
                runs=runs[rung.name],
                placebo=placebos.get(_control_of(rung), ()),
            )
            for rung in rungs
        ]
        standings = {stratum.name: stand(measured, stratum, metric) for stratum in strata}
        wanted = {*unchecked([each for name, each in standings.items() if name in PLACES], measured)}
        controls = {_control_of(rung): rung for rung in rungs if rung.name in wanted and rung.inputs}
        if not controls:
            break
        if placebos:  # shuffled vectors gain as well somewhere, so that every rung may be asked for
            controls = {_control_of(rung): rung for rung in rungs if rung.inputs and _control_of(rung) not in placebos}
        shuffled = {key: replace(arms[rung.name], name=key, shuffle=True) for key, rung in controls.items()}
        found = _by_arm(executor, list(shuffled.values()), seeds, listener)
        placebos |= {key: found[arm.name] for key, arm in shuffled.items()}
    # Where no verdict is given, placebos were not asked for: what none was run of is not proven.
    standings |= {each.name: stand(measured, each, metric, proven=True) for each in strata if each.name not in PLACES}
    return Density(
        rungs=rungs,
        costs=costs,
        unit=unit,
        metric=metric,
        seeds=list(seeds),
        standings=standings,
        left_out=ladder.left_out,
        seconds=time.perf_counter() - started,
    )


def _control_of(rung: Rung) -> str:
    """Return the name of a rung's placebo: shuffled vectors as wide as its own, of the same share of the catalogue."""
    which = "" if rung.kept is None else f" of the {rung.kept.order} {rung.kept.share:.0%}"
    return f"{len(rung.inputs)} shuffled{which}"


def _by_arm(
    executor: Executor, arms: Sequence[Arm], seeds: Sequence[int], listener: Listener
) -> dict[str, list[ArmRun]]:
    requests = [RunRequest(arm, seed) for seed in seeds for arm in arms]
    runs = executor.run(requests, listener)
    return {arm.name: [run for run in runs if run.arm == arm.name] for arm in arms}
