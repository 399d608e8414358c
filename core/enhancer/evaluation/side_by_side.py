"""Compare ablations of one split with each other: the same arms, seed by seed, with the tests of an ablation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import ConfigError, did_you_mean
from enhancer.evaluation.judging.findings import Comparison, mean_and_std
from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.judging.significance import holm, paired
from enhancer.evaluation.judging.wording import change, p_value_if_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.evaluation.reporting.saved_report import SavedReport

BEST = "best"
"""Row of the best arm with vectors of each ablation, whatever its name."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SideBySide:
    """Several ablations, and their comparisons with the first one."""

    reports: dict[str, SavedReport]
    """By name, the first one being the one that the others are compared with."""
    metric: str
    values: dict[str, dict[str, dict[str, list[float]]]]
    """Value of each seed, by panel, arm and report."""
    comparisons: dict[tuple[str, str, str], Comparison]
    """By panel, arm and report; empty if the ablations cannot be tested against each other."""
    untested: str | None
    """Why nothing is tested; None if everything is."""

    @property
    def verdict(self) -> list[str]:
        """One sentence for each panel and each report but the first."""
        names = list(self.reports)
        return [
            self._sentence(panel, name)
            for panel in ("all", "tail", "cold")
            for name in names[1:]
            if names[0] in self.values.get(panel, {}).get(BEST, {}) and name in self.values[panel][BEST]
        ]

    def _sentence(self, panel: str, name: str) -> str:
        first = next(iter(self.reports))
        reached, base = (format_number(float(np.mean(self.values[panel][BEST][one]))) for one in (name, first))
        place = {"all": "Over all items", "tail": "On the tail", "cold": "On new items"}[panel]
        arms = [self.reports[one].summary.best for one in (name, first)]
        shown = [f"{arm[0]} of {one}" if arm else one for arm, one in zip(arms, (name, first), strict=True)]
        words = f"{place}, {shown[0]} reaches {metric_label(self.metric)} {reached} against {base} of {shown[1]}"
        test = self.comparisons.get((panel, BEST, name))
        if test is None:
            return f"{words}, not tested."
        ending = "better" if test.better else "worse" if test.worse else "no significant difference"
        return f"{words}{change(test)}{p_value_if_known(test)}: {ending}."

    def to_json(self) -> dict[str, Any]:
        """Return what ``enhancer compare --json`` prints."""
        return {
            "metric": self.metric,
            "reports": {
                name: {"path": str(one.path), "split": one.split, "seeds": one.seeds, "summary": one.summary.to_json()}
                for name, one in self.reports.items()
            },
            "untested": self.untested,
            "verdict": self.verdict,
            "panels": {
                panel: {arm: {name: mean_and_std(found) for name, found in each.items()} for arm, each in arms.items()}
                for panel, arms in self.values.items()
            },
            "comparisons": [
                {"panel": panel, "report": name, "against": next(iter(self.reports)), **test.to_json(), "arm": arm}
                for (panel, arm, name), test in self.comparisons.items()
            ],
        }


def compare_reports(reports: Sequence[SavedReport], metric: str | None = None) -> SideBySide:
    """Compare ablations with the first one, arm by arm.

    Arms are compared if both ablations have one of that name, and the best arms with vectors whatever their names.
    Tests are paired over seeds; all comparisons on a panel are one family (Holm 1979).

    Args:
        reports: At least two.
        metric: The metric to compare by; by default the first of the first ablation.

    Raises:
        ConfigError: There are fewer than two ablations, or one of them lacks the metric.
    """
    if len(reports) < 2:
        raise ConfigError("a comparison needs at least two ablations", hint="such as `enhancer compare runs/a runs/b`")
    named = dict(zip(_names(reports), reports, strict=True))
    metric = reports[0].result["metrics"][0] if metric is None else metric
    for name, one in named.items():
        if metric not in (known := list(one.result["metrics"])):
            raise ConfigError(f"{name} has no metric {metric!r}", hint=did_you_mean(metric, known))
    first = next(iter(named))
    untested = _untested(named)
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for panel in reports[0].panels:
        arms = _values(named, panel, metric)
        if any(len(found) > 1 for found in arms.values()):
            values[panel] = arms
    comparisons = {} if untested else _tests(values, first, metric)
    return SideBySide(reports=named, metric=metric, values=values, comparisons=comparisons, untested=untested)


def _names(reports: Sequence[SavedReport]) -> list[str]:
    """Return the shortest endings of the folders that tell the reports apart."""
    parents = [one.path.resolve().parent.parts for one in reports]
    if len({one.path.resolve() for one in reports}) < len(reports):
        raise ConfigError("an ablation is given twice")
    for length in range(1, max(map(len, parents)) + 1):
        names = ["/".join(parts[-length:]) for parts in parents]
        if len(set(names)) == len(names):
            return names
    return [str(one.path) for one in reports]  # several files in one folder


def _values(named: dict[str, SavedReport], panel: str, metric: str) -> dict[str, dict[str, list[float]]]:
    """Return the value of each seed, by arm and report, best arms first."""
    found: dict[str, dict[str, list[float]]] = {BEST: {}}
    for name, report in named.items():
        arms = report.panels.get(panel, {}).get("arms", {})
        best = report.result.get("levels", {}).get("all", {}).get("arm")
        for row, arm in [(BEST, best), *((arm, arm) for arm in report.arms)]:
            if metric in arms.get(arm, {}):
                found.setdefault(row, {})[name] = [float(value) for value in arms[arm][metric]["per_seed"]]
    return {row: each for row, each in found.items() if each}


def _untested(named: dict[str, SavedReport]) -> str | None:
    """Return why these ablations cannot be tested against each other; None if they can."""
    first, *others = named
    for name in others:
        one, other = named[first], named[name]
        if one.split is None or other.split is None:
            return "an earlier release wrote one of the reports, so it is not known whether the splits are equal"
        if one.split != other.split:
            return f"{name} has another split than {first}: its values are means over other pairs"
        if one.seeds != other.seeds:
            return f"{name} has the seeds {_listed(other.seeds)} and {first} {_listed(one.seeds)}"
        if len(one.seeds) < 2:
            return "one seed cannot separate a difference from chance"
    return None


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _tests(
    values: dict[str, dict[str, dict[str, list[float]]]], first: str, metric: str
) -> dict[tuple[str, str, str], Comparison]:
    found = {}
    for panel, arms in values.items():
        keys = [(arm, name) for arm, each in arms.items() if first in each for name in each if name != first]
        tests = [paired(arms[arm][name], arms[arm][first]) for arm, name in keys]
        for (arm, name), test, adjusted in zip(keys, tests, holm([test.p for test in tests]), strict=True):
            base = float(np.mean(arms[arm][first]))
            found[panel, arm, name] = Comparison(
                arm=arm,
                baseline=arm,
                metric=metric,
                paired=test,
                p_adjusted=adjusted,
                relative=test.delta / base if base else None,
                users_interval=None,
            )
    return found
