"""Comparisons of arms, and the findings on one stratum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.evaluation.judging.significance import ALPHA
from enhancer.evaluation.measuring.metrics import direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.evaluation.judging.significance import Paired


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """An arm against another, on one metric."""

    arm: str
    baseline: str
    metric: str
    paired: Paired
    p_adjusted: float | None
    """Holm's correction over its family: all arms compared with the baseline on this metric, or all compared with
    their placebos, with their raw text, or with their own backbone without vectors."""
    relative: float | None
    """Delta over the baseline's mean; None where that is 0."""
    users_interval: tuple[float, float] | None
    """95% bootstrap interval of delta over users, each user's difference averaged over seeds; None for a metric of
    labelled pairs, which is no mean over users."""

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below .05; the sign of delta tells better from worse."""
        return self.p_adjusted is not None and self.p_adjusted < ALPHA

    @property
    def gain(self) -> float:
        """Delta, so that more is better whatever the metric."""
        return direction(self.metric) * self.paired.delta

    @property
    def better(self) -> bool:
        """Significantly better than the baseline."""
        return self.significant and self.gain > 0

    @property
    def worse(self) -> bool:
        """Significantly worse than the baseline."""
        return self.significant and self.gain < 0

    def to_json(self) -> dict[str, Any]:
        """The keys fixed by contract, and what stands beside them."""
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
        }


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds (n - 1); None with one seed."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean_and_spread(values: Sequence[float]) -> dict[str, Any]:
    """What the JSON says of a number of each seed."""
    return {"mean": float(np.mean(values)), "std": deviation(values), "per_seed": list(values)}


@dataclass(frozen=True, eq=False, kw_only=True)
class Finding:
    """One panel or stratum: what every arm reached, and how they compare."""

    name: str
    words: str
    users: int
    items: int
    interactions: int
    per_seed: dict[str, dict[str, list[float]]]
    """By arm and metric: the mean over users of each seed's run."""
    comparisons: list[Comparison]
    """First all others with the baseline, then arms with vectors against their controls."""
    reference: dict[str, dict[str, float]]
    """By reference line and metric."""

    def mean(self, arm: str, metric: str) -> float:
        """Mean over seeds."""
        return float(np.mean(self.per_seed[arm][metric]))

    def std(self, arm: str, metric: str) -> float | None:
        """Standard deviation over seeds (n - 1); None with one seed."""
        return deviation(self.per_seed[arm][metric])

    def compare(self, arm: str, baseline: str, metric: str) -> Comparison | None:
        """The comparison of two arms, if it was made."""
        for comparison in self.comparisons:
            if (comparison.arm, comparison.baseline, comparison.metric) == (arm, baseline, metric):
                return comparison
        return None

    def to_json(self) -> dict[str, Any]:
        """``arms``, ``comparisons``, ``reference``."""
        return {
            "arms": {
                arm: {metric: mean_and_spread(values) for metric, values in metrics.items()}
                for arm, metrics in self.per_seed.items()
            },
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "reference": self.reference,
        }

    def stratum_json(self) -> dict[str, Any]:
        """As :meth:`to_json`, with what the stratum is."""
        return {
            "what": self.words,
            "users": self.users,
            "items": self.items,
            "interactions": self.interactions,
            **self.to_json(),
        }
