"""Tell which inputs earn their keep: the arm with all of them against the same arm without each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from enhancer.config.inputs import without
from enhancer.evaluation.frontier.gains import Gain, gain_between
from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.judging.significance import ALPHA, holm
from enhancer.evaluation.judging.wording import MINUS, enumerate_words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.config.inputs import Input
    from enhancer.evaluation.judging.findings import Finding
    from enhancer.evaluation.running.arms import Arm
    from enhancer.evaluation.running.runs import ArmRun

Worth = Literal["earns", "costs", "nothing", "not decided"]
"""``earns``: significantly worse without it; ``costs``: significantly better without it; ``nothing``: not significant,
and the interval excludes a gain of :data:`SMALLEST` or more."""
PANELS = ("all", "tail", "cold")
"""Panels on which inputs are judged."""
SMALLEST = 0.01
"""Smallest gain that counts, as a share of the value with all inputs."""
_PLACES = {"all": "over all items", "tail": "on the tail", "cold": "on held-out items"}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputGain:
    """Gain of the arm with all inputs over the arm without one, on one panel by one metric."""

    gain: Gain
    p: float
    """Two-sided p-value after Holm's correction over the inputs."""
    relative: tuple[float, float] | None
    """Ends of the interval as shares of the value with all inputs; None if either is unknown or 0."""

    @property
    def worth(self) -> Worth:
        """Conclusion about the input; nothing is decided by one seed, which shows no noise of training."""
        if len(self.gain.seeds) == 1:
            return "not decided"
        if self.p < ALPHA:
            return "earns" if self.gain.delta > 0 else "costs"
        return "nothing" if self.relative is not None and self.relative[1] < SMALLEST else "not decided"

    def to_json(self) -> dict[str, Any]:
        """Return gain, interval, p-value and worth as JSON values."""
        interval = self.gain.interval()
        return {
            "gain": self.gain.delta,
            "interval": None if interval is None else list(interval),
            "p_adjusted": self.p,
            "worth": self.worth,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class LeftOut:
    """The comparisons with each input left out."""

    whole: str
    """Name of the arm with all inputs."""
    arms: Mapping[Input, str]
    """Name of the arm without each input."""
    gains: Mapping[Input, Mapping[str, Mapping[str, InputGain]]]
    """Gains by input, panel and metric."""
    metric: str
    """The metric that decides."""

    @property
    def verdict(self) -> str:
        """Sentences about which inputs earn their keep. An input is judged beside all others that remain."""
        label = metric_label(self.metric)
        if any(len(one.gain.seeds) == 1 for name in self.gains for one in self._on_panels(name).values()):
            reason = "One seed shows no noise of training: run several"
            return f"Inputs, each left out in turn, by {label}: not decided. {reason}."
        sentences = [sentence for name in self.gains if (sentence := self._decided(name))]
        if idle := self._of("nothing"):
            most = max(one.relative[1] for name in idle for one in self._on_panels(name).values() if one.relative)
            each = "earns" if len(idle) == 1 else "each earn"
            sentences.append(f"{enumerate_words(idle)} {each} nothing (at most {max(most, 0):.1%})")
        if unknown := self._of("not decided"):
            one = "it earns" if len(unknown) == 1 else "each earns"
            sentences.append(
                f"Of {enumerate_words(unknown)} it is not decided whether {one} anything beside the others"
            )
        if (spare := [*self._of("costs"), *idle]) and len(spare) < len(self.gains):
            sentences.append(
                f"Leave {spare[0]} out"
                if len(spare) == 1
                else f"Leave one of {enumerate_words(spare)} out, and compare the others again"
            )
        return f"Inputs, each left out in turn, by {label}: {'. '.join(sentences)}."

    def _of(self, worth: Worth) -> list[Input]:
        return [name for name in self.gains if self.worth(name) == worth]

    def worth(self, name: Input) -> Worth:
        """Return the worth of an input over all panels: it earns its keep if it does so on any of them."""
        found = {one.worth for one in self._on_panels(name).values()}
        order: tuple[Worth, ...] = ("earns", "costs", "not decided", "nothing")
        return next(worth for worth in order if worth in found)

    def _on_panels(self, name: Input) -> dict[str, InputGain]:
        return {panel: by_metric[self.metric] for panel, by_metric in self.gains[name].items()}

    def _decided(self, name: Input) -> str:
        """Return the sentence about an input that earns its keep or costs something; empty for others."""
        on = self._on_panels(name)
        earning = [f"{_PLACES[panel]} ({_amount(one)})" for panel, one in on.items() if one.worth == "earns"]
        costing = [f"{_PLACES[panel]} ({_amount(one)})" for panel, one in on.items() if one.worth == "costs"]
        if not earning:
            return f"{name} costs {enumerate_words(costing)}" if costing else ""
        found = f"{name} earns its keep {enumerate_words(earning)}"
        return f"{found}, and costs {enumerate_words(costing)}" if costing else found

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "whole": self.whole,
            "metric": self.metric,
            "inputs": {
                name: {
                    "arm": self.arms[name],
                    "worth": self.worth(name),
                    "panels": {
                        panel: {metric: one.to_json() for metric, one in by_metric.items()}
                        for panel, by_metric in by_panel.items()
                    },
                }
                for name, by_panel in self.gains.items()
            },
        }


def _amount(one: InputGain) -> str:
    interval = one.gain.interval()
    between = "" if interval is None else f", {signed(interval[0])} to {signed(interval[1])}"
    return f"{signed(one.gain.delta)}{between}"


def signed(value: float) -> str:
    """Format a difference.

    >>> signed(0.0123), signed(-0.5)
    ('+.0123', '−.5000')
    """
    return f"{MINUS if value < 0 else '+'}{format_number(abs(value))}"


def compare_left_out(
    arms: Sequence[Arm], runs: Sequence[ArmRun], findings: Mapping[str, Finding], metrics: Sequence[str]
) -> LeftOut | None:
    """Compare each arm that lacks an input with the arm that has them all; None without such arms.

    Args:
        arms: All arms.
        runs: Their runs.
        findings: Findings by panel, of the arms that lack nothing.
        metrics: Names such as ``ndcg@10``; the first decides.
    """
    parts = {arm.left_out: arm for arm in arms if arm.left_out is not None}
    whole = next((arm for arm in arms if all(_lacks_one(part, arm) for part in parts.values())), None)
    if not parts or whole is None:
        return None
    by_arm = {arm.name: [run for run in runs if run.arm == arm.name] for arm in (whole, *parts.values())}
    panels = [name for name in PANELS if name in findings and metrics[0] in findings[name].per_seed[whole.name]]
    gains: dict[Input, dict[str, dict[str, InputGain]]] = {name: {} for name in parts}
    for panel in panels:
        for metric in metrics:
            if metric not in findings[panel].per_seed[whole.name]:
                continue
            found = [gain_between(by_arm[whole.name], by_arm[arm.name], panel, metric) for arm in parts.values()]
            level = findings[panel].mean(whole.name, metric)
            adjusted = holm([gain.p_of_difference for gain in found])
            for name, gain, p in zip(parts, found, adjusted, strict=True):
                interval = gain.interval()
                relative = (interval[0] / level, interval[1] / level) if interval is not None and level > 0 else None
                one = InputGain(gain=gain, p=1.0 if p is None else p, relative=relative)
                gains[name].setdefault(panel, {})[metric] = one
    return LeftOut(
        whole=whole.name,
        arms={name: arm.name for name, arm in parts.items()},
        gains=gains,
        metric=metrics[0],
    )


def _lacks_one(part: Arm, whole: Arm) -> bool:
    """Check whether an arm is another one without the input that it leaves out."""
    if part.left_out is None or without(whole.inputs, part.left_out) != part.inputs or whole.inputs == part.inputs:
        return False
    return replace(whole.configured, inputs=part.inputs).same_recipe(part.configured)
