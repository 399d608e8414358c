"""The result of an ablation: findings by panel, runs, and a verdict in words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from enhancer.evaluation.judging.findings import mean_and_std
from enhancer.evaluation.judging.memory import memory_gains
from enhancer.evaluation.measuring.panels import list_length
from enhancer.shown import Shown, html_page

if TYPE_CHECKING:
    from pathlib import Path

    from enhancer.evaluation.choosing.choice import BackboneChoice
    from enhancer.evaluation.judging.controls import Controls
    from enhancer.evaluation.judging.findings import Finding
    from enhancer.evaluation.judging.knowledge import KnowledgeGains
    from enhancer.evaluation.judging.left_out import LeftOut
    from enhancer.evaluation.judging.memory import KnownItems, MemoryGains
    from enhancer.evaluation.judging.new_items import NewItems
    from enhancer.evaluation.judging.verdict import Verdict
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.runs import ArmRun
    from enhancer.evaluation.running.search_result import SearchResult


_LARGEST_PAGE = 2_000_000
"""Characters of a report that a notebook shows; a longer one is in its file alone."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Ablation(Shown):
    """Result of an ablation: findings, runs and verdicts."""

    arms: list[Arm]
    """The arms that are compared with the baseline; after a search, with the best options."""
    controls: dict[str, Controls]
    """The controls of every arm, by the arm's name."""
    baseline: str
    metrics: list[str]
    seeds: list[int]
    findings: dict[str, Finding]
    """Findings by stratum, ``all`` first."""
    runs: list[ArmRun]
    """All runs, those of the arms that lack an input included."""
    verdicts: dict[str, Verdict]
    """Verdicts on ``all``, ``tail`` and ``cold``, as far as these panels exist."""
    new_items: NewItems | None = None
    """Shares of new items in the lists of each arm; None without held-out items."""
    memory: MemoryGains | None = None
    """Gains without the items that the LLM knows best; None if nothing tells them apart."""
    knowledge: KnowledgeGains | None = None
    """The arm with open notes against the same arm with closed ones; None unless the project has both."""
    left_out: LeftOut | None = None
    """Arms that lack an input against the arm with all of them; None without ``[evaluation] aspects``."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Sizes of the split: users, items, interactions of each part, and test pairs that are not scored."""
    searched: dict[str, SearchResult] = field(default_factory=dict)
    """Results of the hyper-parameter search, by arm; empty without a search."""
    choice: BackboneChoice | None = None
    """The backbones that ``[backbone] use = "auto"`` tried; None if a backbone was named."""
    seconds: float = 0.0
    """Wall time of the whole ablation."""
    headline: str = ""
    """Whether to ship, in a sentence; empty before a project has summed it up."""
    page: Path | None = None
    """The report; None if none was written."""

    @property
    def overall(self) -> Finding:
        """The finding on all warm items."""
        return self.findings["all"]

    @property
    def strata(self) -> dict[str, Finding]:
        """The findings on all strata but ``all``."""
        return {name: finding for name, finding in self.findings.items() if name != "all"}

    @property
    def verdict(self) -> dict[str, str]:
        """The verdicts as sentences, by panel.

        ``inputs`` is about inputs left out, ``memory`` about known items, ``knowledge`` about closed notes.
        """
        more = {"inputs": self.left_out, "memory": self.memory, "knowledge": self.knowledge}
        return {name: verdict.text for name, verdict in self.verdicts.items()} | {
            name: one.verdict for name, one in more.items() if one is not None
        }

    @property
    def beyond_accuracy(self) -> dict[str, dict[str, list[float]]]:
        """``coverage@k``, ``gini@k`` and ``novelty@k`` of each arm's lists over warm items, by arm, name and then seed.

        ``k`` is the largest cut-off of the metrics. The lists are those of users with warm test pairs.
        """
        k = list_length(self.metrics)
        return {
            arm.name: {
                f"{name}@{k}": [run.beyond_accuracy[name] for run in self.runs if run.arm == arm.name]
                for name in ("coverage", "gini", "novelty")
            }
            for arm in self.arms
        }

    def arm(self, name: str) -> Arm:
        """Return the arm with this name."""
        return next(arm for arm in self.arms if arm.name == name)

    def with_memory(self, items: KnownItems) -> Ablation:
        """Return the ablation with the gains without the items that the LLM knows best.

        Args:
            items: Their groups were measured in all runs.
        """
        best = {panel: verdict.arm for panel, verdict in self.verdicts.items()}
        found = memory_gains(items, self.runs, self.findings, best, self.controls, self.metrics[0])
        return replace(self, memory=found)

    def to_json(self) -> dict[str, Any]:
        """Return what ``enhancer ablate --json`` prints. Undefined values are None; no value is NaN or infinite."""
        return {
            **self.overall.to_json(),
            "strata": {name: finding.stratum_json() for name, finding in self.strata.items()},
            "verdict": self.verdict,
            "levels": {name: one.to_json() for name, one in self.verdicts.items()},
            "baseline": self.baseline,
            "metrics": self.metrics,
            "seeds": self.seeds,
            "what": {arm.name: arm.description for arm in self.arms},
            "beyond_accuracy": {
                arm: {name: mean_and_std(values) for name, values in by_name.items()}
                for arm, by_name in self.beyond_accuracy.items()
            },
            "runs": [
                {
                    "arm": run.arm,
                    "seed": run.seed,
                    "seconds": run.seconds,
                    "epochs": run.epochs,
                    "best_epoch": run.best_epoch,
                    "validation": run.validation,
                    "stopped": run.stopped,
                }
                for run in self.runs
            ],
            **({"new_items": self.new_items.to_json()} if self.new_items is not None else {}),
            **({"search": {name: each.to_json() for name, each in self.searched.items()}} if self.searched else {}),
            **({} if self.left_out is None else {"left_out": self.left_out.to_json()}),
            **({} if self.memory is None else {"memory": self.memory.to_json()}),
            **({} if self.knowledge is None else {"knowledge": self.knowledge.to_json()}),
            **({} if self.choice is None else self._choice_json(self.choice)),
            "facts": self.facts,
            "seconds": self.seconds,
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each panel, arm and metric: mean, deviation over seeds, and the test with the baseline."""
        rows = []
        for panel, finding in self.findings.items():
            for arm, by_metric in finding.per_seed.items():
                for metric in by_metric:
                    test = finding.compare(arm, self.baseline, metric)
                    rows.append(
                        {
                            "panel": panel,
                            "arm": arm,
                            "metric": metric,
                            "mean": finding.mean(arm, metric),
                            "std": finding.std(arm, metric),
                            "delta": None if test is None else test.paired.delta,
                            "relative": None if test is None else test.relative,
                            "p_adjusted": None if test is None else test.p_adjusted,
                            "significant": None if test is None else test.significant,
                        }
                    )
        return rows

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        return [line for line in (self.headline, *self.verdict.values()) if line]

    def html_rows(self) -> list[dict[str, Any]]:
        """Return a row for each arm and reference line over all items, with a column for each metric."""
        finding = self.overall
        rows: list[dict[str, Any]] = [
            {"arm": arm.name} | {metric: finding.mean(arm.name, metric) for metric in self.metrics} for arm in self.arms
        ]
        for line, reached in finding.reference.items():
            rows.append({"arm": f"{line} (reference)"} | {metric: reached.get(metric) for metric in self.metrics})
        return rows

    def html_more(self) -> str:
        """Return the report, folded away."""
        try:
            page = "" if self.page is None else self.page.read_text(encoding="utf-8")
        except OSError:  # it was moved
            return ""
        return html_page("The report, with plots", page) if 0 < len(page) <= _LARGEST_PAGE else ""

    def _choice_json(self, choice: BackboneChoice) -> dict[str, Any]:
        return {"backbones": {arm.name: arm.backbone for arm in self.arms}, "choice": choice.to_json()}
