"""Say how much of a gain stands with notes from the given text alone, in a project that has each note in both versions.

An open note says what the model knows of an item, which may hold how the item was received: hindsight on an old data
set. A closed note cannot, as far as the model does what it was told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from enhancer.evaluation.frontier.gains import gain_between
from enhancer.evaluation.judging.formatting import format_change, metric_label
from enhancer.evaluation.judging.left_out import signed
from enhancer.evaluation.judging.significance import ALPHA, holm
from enhancer.evaluation.judging.wording import format_p

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.frontier.gains import Gain
    from enhancer.evaluation.judging.controls import Controls
    from enhancer.evaluation.judging.findings import Finding
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.runs import ArmRun

_PANELS = {"all": "over all items", "tail": "on the tail", "cold": "on items held out of training"}
_ROLES = {"text": "raw text", "backbone_only": "ids alone"}
"""Controls, the one that decides first."""


@dataclass(frozen=True, eq=False, kw_only=True)
class KnowledgeGain:
    """Gains over a control on one panel: of the arm with open notes, and of the same arm with closed ones."""

    panel: str
    against: str
    """Name of the control."""
    role: str
    """Control: ``raw text`` or ``ids alone``."""
    level: float
    """Mean of the control."""
    open: Gain
    closed: Gain

    @property
    def share(self) -> float | None:
        """Share of the gain of open notes that closed ones have; None if open ones have no significant gain."""
        interval = self.open.interval()
        return self.closed.delta / self.open.delta if interval is not None and interval[0] > 0 else None

    @property
    def stands(self) -> bool | None:
        """Whether closed notes gain; None if the interval includes 0 or is unknown."""
        interval = self.closed.interval()
        return None if interval is None or interval[0] <= 0 <= interval[1] else interval[0] > 0

    def words(self, metric: str) -> str:
        """Return the gains as a clause."""
        label = metric_label(metric)
        relative = f" ({format_change(self.closed.delta / self.level)})" if self.level > 0 else ""
        gains = f"closed notes gain {signed(self.closed.delta)} {label}{relative} over {self.role}"
        beside = f"{_between(self.closed)}, and open ones {signed(self.open.delta)}"
        if self.share is None:
            return f"{_PANELS[self.panel]}, {gains}{beside}, which is no significant gain"
        share = "none" if self.share <= 0 else "all" if self.share >= 1 else f"{self.share:.0%}"
        doubt = {True: "", False: ", and closed notes cost something", None: ", which may be chance"}[self.stands]
        return f"{_PANELS[self.panel]}, {gains}{beside}: {share} of the gain stands{doubt}"

    def to_json(self) -> dict[str, Any]:
        """Return the gains as JSON values."""
        return {
            "panel": self.panel,
            "against": self.against,
            "level": self.level,
            "open": self.open.to_json(),
            "closed": self.closed.to_json(),
            "share": self.share,
            "stands": self.stands,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class Difference:
    """Gain of the arm with open notes over that with closed ones, on one panel."""

    gain: Gain
    p: float | None
    """Two-sided p-value after Holm's correction over the panels; None if unknown."""

    def words(self) -> str:
        """Return the difference as a clause."""
        if self.p is None or len(self.gain.seeds) == 1:
            return f"open over closed notes {signed(self.gain.delta)}, not decided by one seed"
        verdict = "what the model knows makes the difference"
        if self.p >= ALPHA:
            verdict = "no significant difference"
        elif self.gain.delta < 0:
            verdict = "closed notes are better"
        numbers = f"{signed(self.gain.delta)}{_between(self.gain)}, {format_p(self.p)}"
        return f"open over closed notes {numbers}: {verdict}"

    def to_json(self) -> dict[str, Any]:
        """Return gain, interval and p-value as JSON values."""
        interval = self.gain.interval()
        return {
            "gain": self.gain.delta,
            "interval": None if interval is None else list(interval),
            "p_adjusted": self.p,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class KnowledgeGains:
    """The arm with open notes and the same arm with closed ones, against each other and against controls."""

    open_arm: str
    closed_arm: str
    metric: str
    differences: Mapping[str, Difference]
    """Open against closed notes, by panel."""
    gains: Sequence[KnowledgeGain]
    """Gains of both over each control, by panel."""

    @property
    def verdict(self) -> str:
        """A sentence for each panel: what stands of the gain over raw text, or else over ids alone."""
        head = f"With notes from the given text alone ({self.closed_arm} against {self.open_arm}, the same otherwise): "
        sentences = []
        for panel, difference in self.differences.items():
            told = next((gain for gain in self.gains if gain.panel == panel), None)
            about = _PANELS[panel] if told is None else told.words(self.metric)
            sentences.append(f"{about}; {difference.words()}")
        return head + ". ".join(f"{one[0].upper()}{one[1:]}" if n else one for n, one in enumerate(sentences)) + "."

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "open": self.open_arm,
            "closed": self.closed_arm,
            "metric": self.metric,
            "difference": {panel: one.to_json() for panel, one in self.differences.items()},
            "gains": [gain.to_json() for gain in self.gains],
        }


def compare_knowledge(
    arms: Sequence[Arm],
    runs: Sequence[ArmRun],
    findings: Mapping[str, Finding],
    controls: Mapping[str, Controls],
    metric: str,
) -> KnowledgeGains | None:
    """Compare the arm with closed notes with the arm that has the open ones; None without both.

    Args:
        arms: All arms.
        runs: Their runs.
        findings: Findings by panel, of the arms that are compared with the baseline.
        controls: Controls of these arms.
        metric: The metric that decides.
    """
    closed = next((arm for arm in arms if arm.opened is not None), None)
    if closed is None:
        return None
    recipe = replace(closed.configured, inputs=closed.opened or ())
    opened = next((arm for arm in arms if arm.is_competitor and recipe.same_recipe(arm.configured)), None)
    if opened is None:
        return None
    by_arm = {name: [run for run in runs if run.arm == name] for name in {run.arm for run in runs}}
    own, others = by_arm[opened.name], by_arm[closed.name]
    panels = [name for name in _PANELS if name in findings and metric in findings[name].per_seed[opened.name]]
    differences = {panel: gain_between(own, others, panel, metric) for panel in panels}
    adjusted = holm([gain.p_of_difference for gain in differences.values()])
    roles = controls[opened.name].by_role()
    gains = [
        KnowledgeGain(
            panel=panel,
            against=roles[role].name,
            role=words,
            level=findings[panel].mean(roles[role].name, metric),
            open=gain_between(own, by_arm[roles[role].name], panel, metric),
            closed=gain_between(others, by_arm[roles[role].name], panel, metric),
        )
        for panel in panels
        for role, words in _ROLES.items()
        if role in roles
    ]
    return KnowledgeGains(
        open_arm=opened.name,
        closed_arm=closed.name,
        metric=metric,
        differences={
            panel: Difference(gain=gain, p=p) for (panel, gain), p in zip(differences.items(), adjusted, strict=True)
        },
        gains=gains,
    )


def _between(gain: Gain) -> str:
    interval = gain.interval()
    return "" if interval is None else f" (95% interval {signed(interval[0])} to {signed(interval[1])})"
