"""Comparisons of arms, and the findings on one stratum."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from enhancer.evaluation.judging.significance import ALPHA
from enhancer.evaluation.measuring.metrics import direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.evaluation.judging.significance import PairedTest


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Comparison of an arm with another one on one metric."""

    arm: str
    baseline: str
    metric: str
    paired: PairedTest
    p_adjusted: float | None
    """p-value after Holm's correction over a family: all comparisons on this metric with the baseline, or all those
    with placebos, with raw text, or with the same backbone without vectors."""
    relative: float | None
    """Difference relative to the baseline's mean; None if that is 0."""
    users_interval: tuple[float, float] | None
    """95% interval of the difference over users, averaged over seeds: by bootstrap, or by Student's t if ``paired`` is
    over users. None for a metric of labelled pairs, which is not a mean over users."""
    over: Literal["seeds", "users"] = "seeds"
    """Pairs of ``paired``: one per seed, or one per user."""

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value is below .05, in either direction."""
        return self.p_adjusted is not None and self.p_adjusted < ALPHA

    @property
    def gain(self) -> float:
        """The difference, with its sign changed for metrics where lower is better."""
        return direction(self.metric) * self.paired.delta

    @property
    def better(self) -> bool:
        """Whether the arm is significantly better than the baseline."""
        return self.significant and self.gain > 0

    @property
    def worse(self) -> bool:
        """Whether the arm is significantly worse than the baseline."""
        return self.significant and self.gain < 0

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values; undefined values are None."""
        test = self.paired
        return {
            "arm": self.arm,
            "baseline": self.baseline,
            "metric": self.metric,
            "delta": test.delta,
            "t": test.t,
            "df": test.df,
            "p": test.p,
            "p_adjusted": self.p_adjusted,
            "significant": self.significant,
            "relative": self.relative,
            "sd": test.sd,
            "effect_size": test.effect_size,
            "wilcoxon_p": test.wilcoxon_p,
            "interval": None if test.interval is None else list(test.interval),
            "users_interval": None if self.users_interval is None else list(self.users_interval),
            "over": self.over,
        }


def sample_std(values: Sequence[float]) -> float | None:
    """Return the standard deviation (n - 1); None with one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean_and_std(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, standard deviation and the values themselves, as JSON values."""
    return {"mean": float(np.mean(values)), "std": sample_std(values), "per_seed": list(values)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Finding:
    """Results of all arms on one stratum, and their comparisons."""

    name: str
    description: str
    """Short description of the stratum."""
    users: int
    """Number of users with a relevant pair."""
    items: int
    """Number of items in the stratum."""
    interactions: int
    """Number of relevant pairs."""
    per_seed: dict[str, dict[str, list[float]]]
    """Mean over users, by arm or content baseline, metric and then seed."""
    comparisons: list[Comparison]
    """Comparisons with the baseline first, then those of arms with vectors with their controls."""
    reference: dict[str, dict[str, float]]
    """Metrics of the reference lines, by line and metric."""
    content: list[str] = field(default_factory=list)
    """Names of the content baselines in ``per_seed``; empty for strata without held-out items."""
    reference_comparisons: list[Comparison] = field(default_factory=list)
    """Comparisons of every arm with the content baselines, or else with the reference lines, paired over users."""

    def mean(self, arm: str, metric: str) -> float:
        """Return the mean over seeds."""
        return float(np.mean(self.per_seed[arm][metric]))

    def std(self, arm: str, metric: str) -> float | None:
        """Return the standard deviation over seeds (n - 1); None with one seed."""
        return sample_std(self.per_seed[arm][metric])

    def compare(self, arm: str, baseline: str, metric: str) -> Comparison | None:
        """Return the comparison of two arms, or None if they were not compared."""
        for comparison in self.comparisons:
            if (comparison.arm, comparison.baseline, comparison.metric) == (arm, baseline, metric):
                return comparison
        return None

    def lines(self, metric: str) -> dict[str, float]:
        """Return the means of what arms have to beat, best first: content baselines, or else reference lines."""
        if self.content:
            found = {name: self.mean(name, metric) for name in self.content if metric in self.per_seed[name]}
        else:
            found = {name: values[metric] for name, values in self.reference.items() if metric in values}
        return dict(sorted(found.items(), key=lambda each: -direction(metric) * each[1]))

    def compare_line(self, arm: str, line: str, metric: str) -> Comparison | None:
        """Return the comparison of an arm with a content baseline or reference line; None if they were not compared."""
        for comparison in self.reference_comparisons:
            if (comparison.arm, comparison.baseline, comparison.metric) == (arm, line, metric):
                return comparison
        return None

    def to_json(self) -> dict[str, Any]:
        """Return ``arms``, ``comparisons``, ``reference`` and ``reference_comparisons`` as JSON values."""
        return {
            "arms": {
                arm: {metric: mean_and_std(values) for metric, values in metrics.items()}
                for arm, metrics in self.per_seed.items()
            },
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "reference": self.reference,
            "reference_comparisons": [comparison.to_json() for comparison in self.reference_comparisons],
        }

    def stratum_json(self) -> dict[str, Any]:
        """Return :meth:`to_json` with the description and size of the stratum."""
        return {
            "what": self.description,
            "users": self.users,
            "items": self.items,
            "interactions": self.interactions,
            **self.to_json(),
        }
