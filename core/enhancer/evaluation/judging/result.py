"""What an ablation found: numbers by panel and arm, comparisons, and a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.evaluation.judging.significance import ALPHA, Paired, bootstrap, holm, paired
from enhancer.evaluation.measuring.metrics import direction
from enhancer.evaluation.measuring.panels import shown
from enhancer.evaluation.running.arms import controls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.judging.verdict import Verdict
    from enhancer.evaluation.measuring.panels import Measured
    from enhancer.evaluation.measuring.strata import Stratum
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.search import Searched


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """One training run."""

    arm: str
    seed: int
    seconds: float
    """Wall time of training."""
    epochs: int
    best_epoch: int
    validation: float | None
    """The first metric at the best epoch, on validation."""
    history: list[dict[str, float]]
    """See :class:`~enhancer.contracts.Fitted`."""
    measured: Measured
    """By stratum, metrics of each user."""
    spread: dict[str, float]
    """``coverage``, ``gini`` and ``novelty`` of its lists over all warm items."""

    @property
    def name(self) -> str:
        """Such as ``align/seed0``."""
        return f"{self.arm}/seed{self.seed}"


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


@dataclass(frozen=True, eq=False, kw_only=True)
class Ablation:
    """Arms × seeds, judged."""

    arms: list[Arm]
    baseline: str
    metrics: list[str]
    seeds: list[int]
    findings: dict[str, Finding]
    """``all`` first, then the strata."""
    runs: list[Run]
    verdicts: dict[str, Verdict]
    """For ``all``, ``tail`` and ``cold``, where there are such."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the numbers rest on: users, items, interactions of each part, and what could not be scored."""
    searched: dict[str, Searched] = field(default_factory=dict)
    """By arm, what a search of hyper-parameters tried and took; empty where none was made."""
    seconds: float = 0.0
    """Wall time of the whole ablation."""

    @property
    def overall(self) -> Finding:
        """All warm items."""
        return self.findings["all"]

    @property
    def strata(self) -> dict[str, Finding]:
        """Everything but ``all``."""
        return {name: finding for name, finding in self.findings.items() if name != "all"}

    @property
    def verdict(self) -> dict[str, str]:
        """The verdicts in words."""
        return {name: verdict.words for name, verdict in self.verdicts.items()}

    @property
    def beyond_accuracy(self) -> dict[str, dict[str, list[float]]]:
        """What an arm's lists over warm items look like, seed by seed: ``coverage@k``, ``gini@k``, ``novelty@k``.

        ``k`` is the largest cut-off of the metrics; the users are those with warm test pairs.
        """
        k = shown(self.metrics)
        return {
            arm.name: {
                f"{looks}@{k}": [run.spread[looks] for run in self.runs if run.arm == arm.name]
                for looks in ("coverage", "gini", "novelty")
            }
            for arm in self.arms
        }

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def to_json(self) -> dict[str, Any]:
        """What ``enhancer ablate --json`` prints: no NaN, no infinity, None where nothing can be told."""
        return {
            **self.overall.to_json(),
            "strata": {name: finding.stratum_json() for name, finding in self.strata.items()},
            "verdict": self.verdict,
            "levels": {name: {"level": one.level, "arm": one.arm} for name, one in self.verdicts.items()},
            "baseline": self.baseline,
            "metrics": self.metrics,
            "seeds": self.seeds,
            "what": {arm.name: arm.words for arm in self.arms},
            "beyond_accuracy": {
                arm: {looks: mean_and_spread(values) for looks, values in by_looks.items()}
                for arm, by_looks in self.beyond_accuracy.items()
            },
            "runs": [
                {
                    "arm": run.arm,
                    "seed": run.seed,
                    "seconds": run.seconds,
                    "epochs": run.epochs,
                    "best_epoch": run.best_epoch,
                    "validation": run.validation,
                }
                for run in self.runs
            ],
            **({"search": {name: each.to_json() for name, each in self.searched.items()}} if self.searched else {}),
            "facts": self.facts,
            "seconds": self.seconds,
        }


def judge(
    stratum: Stratum,
    runs: Sequence[Run],
    *,
    arms: Sequence[Arm],
    baseline: str,
    metrics: Sequence[str],
    reference: Mapping[str, Measured],
) -> Finding:
    """Compare the arms on one stratum."""
    by_arm = {arm.name: [run.measured[stratum.name] for run in runs if run.arm == arm.name] for arm in arms}
    per_seed = {
        name: {metric: [scores.mean(metric) for scores in measured] for metric in metrics}
        for name, measured in by_arm.items()
    }

    users_mean = {
        (name, metric): np.mean([scores.values[metric] for scores in measured], axis=0)
        for name, measured in by_arm.items()
        for metric in metrics
        if metric in measured[0].values
    }

    # The verdict picks among all arms what to say of any one of them, so each question is one family over all arms.
    families = {"baseline": [(arm.name, baseline) for arm in arms if arm.name != baseline]}
    for arm in arms:
        for role, control in controls(arm, arms).roles().items():
            if control.name != baseline:
                families.setdefault(role, []).append((arm.name, control.name))
    tests: dict[tuple[str, str, str], Paired] = {}
    adjusted: dict[tuple[str, str, str], float | None] = {}
    for family in families.values():
        for metric in metrics:
            keys = [(name, against, metric) for name, against in family]
            tests |= {key: paired(per_seed[key[0]][metric], per_seed[key[1]][metric]) for key in keys}
            adjusted.update(zip(keys, holm([tests[key].p for key in keys]), strict=True))
    wanted = list(tests)
    by_user = [key for key in wanted if (key[0], key[2]) in users_mean]
    differences = [users_mean[name, metric] - users_mean[against, metric] for name, against, metric in by_user]
    intervals = dict(zip(by_user, bootstrap(np.stack(differences, axis=1)), strict=True)) if by_user else {}
    comparisons: list[Comparison] = []
    for key in wanted:
        name, against, metric = key
        reached = float(np.mean(per_seed[against][metric]))
        comparisons.append(
            Comparison(
                arm=name,
                baseline=against,
                metric=metric,
                paired=tests[key],
                p_adjusted=adjusted[key],
                relative=tests[key].delta / reached if reached else None,
                users_interval=intervals.get(key),
            )
        )
    return Finding(
        name=stratum.name,
        words=stratum.words,
        users=len(next(iter(by_arm.values()))[0].users),
        items=stratum.items,
        interactions=len(stratum.pairs.users),
        per_seed=per_seed,
        comparisons=comparisons,
        reference={
            name: measured[stratum.name].means() for name, measured in reference.items() if stratum.name in measured
        },
    )
