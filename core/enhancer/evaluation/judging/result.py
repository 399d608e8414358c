"""The result of an ablation: findings by panel, runs, and a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from enhancer.evaluation.judging.findings import mean_and_spread
from enhancer.evaluation.measuring.panels import shown

if TYPE_CHECKING:
    from enhancer.evaluation.judging.controls import Controls
    from enhancer.evaluation.judging.findings import Finding
    from enhancer.evaluation.judging.verdict import Verdict
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.runs import ArmRun
    from enhancer.evaluation.running.search_result import SearchResult


@dataclass(frozen=True, eq=False, kw_only=True)
class Ablation:
    """Arms × seeds, judged."""

    arms: list[Arm]
    controls: dict[str, Controls]
    """The controls of every arm, by the arm's name."""
    baseline: str
    metrics: list[str]
    seeds: list[int]
    findings: dict[str, Finding]
    """``all`` first, then the strata."""
    runs: list[ArmRun]
    verdicts: dict[str, Verdict]
    """For ``all``, ``tail`` and ``cold``, where there are such."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the numbers rest on: users, items, interactions of each part, and what could not be scored."""
    searched: dict[str, SearchResult] = field(default_factory=dict)
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
