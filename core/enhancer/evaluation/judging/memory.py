"""Say how much of a gain stands without the items that the LLM knows best.

What a model writes of an item that it knows may hold how the item was received, which is hindsight on an old data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.evaluation.frontier.gains import gain_between
from enhancer.evaluation.judging.formatting import format_change, metric_label
from enhancer.evaluation.judging.left_out import signed
from enhancer.evaluation.measuring.strata import ItemGroup

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.evaluation.frontier.gains import Gain
    from enhancer.evaluation.judging.controls import Controls
    from enhancer.evaluation.judging.findings import Finding
    from enhancer.evaluation.running.runs import ArmRun

KNOWN, UNKNOWN = "known", "unknown"
"""Names of the groups of items."""
_PANELS = {"all": (UNKNOWN, "over all items"), "cold": (f"cold_{UNKNOWN}", "on items held out of training")}
"""For each panel, the stratum of the items that the model does not know best, and the panel in words."""
_ROLES = {"backbone_only": "ids alone", "text": "raw text"}


@dataclass(frozen=True, eq=False)
class KnownItems:
    """Items that the LLM knows best, and the others; those of which nothing is known are in neither group."""

    known: NDArray[np.bool_]
    """bool ``[n_items]``."""
    unknown: NDArray[np.bool_]
    source: str
    """Means by which they were told apart, as a clause after "by"."""

    @property
    def groups(self) -> tuple[ItemGroup, ItemGroup]:
        """Both as groups that are measured apart."""
        return (
            ItemGroup(KNOWN, f"items that the LLM knows best, by {self.source}", self.known),
            ItemGroup(UNKNOWN, f"items that the LLM knows less well, by {self.source}", self.unknown),
        )


@dataclass(frozen=True, eq=False)
class MemoryGain:
    """Gain of an arm over a control on one panel, over all of its items and without those that the LLM knows best."""

    panel: str
    arm: str
    against: str
    role: str
    """Control: ``ids alone`` or ``raw text``."""
    whole: Gain
    without_known: Gain
    levels: tuple[float, float]
    """Means of the control with and without known items."""

    @property
    def stands(self) -> bool | None:
        """Whether the gain is above 0 without known items; None if its interval includes 0, or is unknown."""
        interval = self.without_known.interval()
        if interval is None or interval[0] <= 0 <= interval[1]:
            return None
        return interval[0] > 0

    def words(self, metric: str) -> str:
        """Return the gain as a clause."""
        interval, label = self.without_known.interval(), metric_label(metric)
        between = "" if interval is None else f", 95% interval {signed(interval[0])} to {signed(interval[1])}"
        whole, part = (
            f"{signed(gain.delta)} {label}{f' ({format_change(gain.delta / level)})' if level > 0 else ''}"
            for gain, level in zip((self.whole, self.without_known), self.levels, strict=True)
        )
        verdict = {True: "the gain stands", False: "the gain turns into a loss", None: "too few pairs to tell"}
        return (
            f"{_PANELS[self.panel][1]}, {self.arm} gains {part} over {self.role}{between}, and {whole} with them: "
            f"{verdict[self.stands]}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the gains as JSON values."""
        return {
            "panel": self.panel,
            "arm": self.arm,
            "against": self.against,
            "with_known": {"level": self.levels[0], **self.whole.to_json()},
            "without_known": {"level": self.levels[1], **self.without_known.to_json()},
            "stands": self.stands,
        }


@dataclass(frozen=True, eq=False)
class MemoryGains:
    """Gains of the best arms with vectors without the items that the LLM knows best."""

    source: str
    known: int
    unknown: int
    metric: str
    gains: Sequence[MemoryGain]

    @property
    def verdict(self) -> str:
        """The gain of each panel in a sentence: that over raw text, or else over ids alone."""
        head = (
            f"Without the {self.known:,} items that the LLM knows best, by {self.source}, the other {self.unknown:,}"
            " ranked among themselves: "
        )
        told = {gain.panel: gain for gain in sorted(self.gains, key=lambda gain: gain.role == _ROLES["text"])}
        return head + "; ".join(told[panel].words(self.metric) for panel in _PANELS if panel in told) + "."

    def to_json(self) -> dict[str, Any]:
        """Return source, sizes and gains as JSON values."""
        return {
            "source": self.source,
            "known": self.known,
            "unknown": self.unknown,
            "metric": self.metric,
            "gains": [gain.to_json() for gain in self.gains],
        }


def memory_gains(
    items: KnownItems,
    runs: Sequence[ArmRun],
    findings: Mapping[str, Finding],
    best: Mapping[str, str | None],
    controls: Mapping[str, Controls],
    metric: str,
) -> MemoryGains | None:
    """Compare the best arm of each panel with ids alone and with raw text, with and without known items.

    Args:
        items: The items that the LLM knows best.
        runs: Runs of all arms, measured with the groups of ``items``.
        findings: Findings by stratum.
        best: Name of the best arm with vectors, by panel.
        controls: The controls of every arm, by the arm's name.
        metric: The metric that decides.

    Returns:
        None if no panel has test pairs of both groups, or no arm has vectors.
    """
    found = []
    for panel, (stratum, _) in _PANELS.items():
        arm = best.get(panel)
        if arm is None or stratum not in findings or metric not in findings[stratum].per_seed[arm]:
            continue
        own = [run for run in runs if run.arm == arm]
        for role, control in controls[arm].by_role().items():
            if role not in _ROLES:
                continue
            others = [run for run in runs if run.arm == control.name]
            whole, without = (gain_between(own, others, name, metric) for name in (panel, stratum))
            levels = findings[panel].mean(control.name, metric), findings[stratum].mean(control.name, metric)
            found.append(MemoryGain(panel, arm, control.name, _ROLES[role], whole, without, levels))
    if not found:
        return None
    return MemoryGains(items.source, int(items.known.sum()), int(items.unknown.sum()), metric, found)
