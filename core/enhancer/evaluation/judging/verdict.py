"""State the verdict on each panel: whether vectors bring a significant gain, and whether meaning explains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from enhancer.evaluation.judging.controls import recipe_differences, same_backbone
from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.measuring.metrics import direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.judging.controls import Controls
    from enhancer.evaluation.judging.findings import Comparison, Finding
    from enhancer.evaluation.running.arms import Arm

Level = Literal["semantic gain", "gain", "no significant gain", "loss", "unknown"]
"""``gain``: significant, but not shown to come from meaning; ``unknown``: one seed only, or nothing to compare."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one panel."""

    level: Level
    text: str
    """The verdict in sentences."""
    arm: str | None = None
    """Name of the best arm with vectors; None without such arms."""

    def __str__(self) -> str:
        return self.text


_PLACES = {
    "all": "Over all items",
    "tail": "On the tail",
    "cold": "On items held out of training, ranked among themselves",
}


def verdicts(
    findings: Mapping[str, Finding], arms: Sequence[Arm], controls: Mapping[str, Controls], baseline: str, metric: str
) -> dict[str, Verdict]:
    """Return the verdicts on ``all``, ``tail`` and ``cold``, as far as these panels exist.

    Args:
        findings: Findings by panel.
        arms: All arms, controls included.
        controls: The controls of every arm, by the arm's name.
        baseline: Name of the baseline arm.
        metric: The metric that decides.
    """
    return {
        name: _PanelJudge(findings[name], arms, controls, baseline, metric, place).verdict()
        for name, place in _PLACES.items()
        if name in findings
    }


@dataclass(frozen=True, slots=True)
class _PanelJudge:
    """Judges the best arm with vectors on one panel."""

    finding: Finding
    arms: Sequence[Arm]
    controls: Mapping[str, Controls]
    baseline: str
    metric: str
    place: str
    """The opening words of the verdict, which name the panel."""

    def verdict(self) -> Verdict:
        """Judge the best arm with vectors, among those with a significant gain if there are any.

        The best arm is picked after the fact. Holm's correction over all arms makes that fair. An arm whose backbone
        options differ from the baseline's gets credit only for its gain over the same backbone without vectors.
        """
        finding, baseline, metric, place = self.finding, self.baseline, self.metric, self.place
        candidates = [arm for arm in self.arms if arm.semantic and not arm.shuffle and arm.name != baseline]
        if not candidates:
            return Verdict("unknown", f"{place}: no arm with vectors was run, so there is nothing to judge.")
        credit = {arm.name: self._credit(arm) for arm in candidates}
        gaining = [arm for arm in candidates if credit[arm.name] == "vectors"]
        gaining = gaining or [arm for arm in candidates if credit[arm.name] == "undecided"]
        best = max(gaining or candidates, key=lambda arm: direction(metric) * finding.mean(arm.name, metric))
        against = finding.compare(best.name, baseline, metric)
        if against is None:
            return Verdict("unknown", f"{place}: {best.name} was not compared.", best.name)
        reached, base = finding.mean(best.name, metric), finding.mean(baseline, metric)
        numbers = (
            f"reaches {metric_label(metric)} {format_number(reached)} against {format_number(base)} of {baseline}"
            f"{_change(against)}"
        )
        if against.paired.n == 1:
            text = f"{place}: {best.name} {numbers}. One seed cannot separate a gain from chance: run several."
            return Verdict("unknown", text, best.name)
        if against.paired.p is None:
            return Verdict("unknown", f"{place}: {best.name} {numbers}. {_untestable(against)}", best.name)
        p_value = _p_value(against)
        if not against.significant:
            text = f"{place}: no significant gain. The best arm with vectors, {best.name}, {numbers} ({p_value})."
            return Verdict("no significant gain", text, best.name)
        if against.worse:
            text = f"{place}: a loss. Even the best arm with vectors, {best.name}, {numbers} ({p_value})."
            return Verdict("loss", text, best.name)
        sentences = [f"{best.name} {numbers} ({p_value})", *self._against_backbone(best)]
        if credit[best.name] == "backbone":
            text = f"{place}: no significant gain from vectors. {'. '.join(sentences)}."
            return Verdict("no significant gain", text, best.name)
        level, opening, about_placebo = self._against_placebo(best)
        if credit[best.name] == "undecided":
            level, opening = "gain", "a gain, not shown to come from vectors"
        sentences.append(about_placebo)
        text_arm = self.controls[best.name].text
        if text_arm is not None:
            sentences.append(self._against_text(best, text_arm))
        if best.inputs == ("text",) and any("profile" in arm.inputs for arm in candidates):
            sentences.append("The best arm uses raw text: this gain needs no LLM")
        return Verdict(level, f"{place}: {opening}. {'. '.join(sentences)}.", best.name)

    def _credit(self, arm: Arm) -> Literal["nothing", "vectors", "backbone", "undecided"]:
        """Return what a gain over the baseline is due to; ``undecided`` if no arm without vectors has its backbone."""
        test = self._test(arm, self.baseline)
        if test is None or not test.better:
            return "nothing"
        if self._on_baseline_backbone(arm):
            return "vectors"
        backbone_only = self.controls[arm.name].backbone_only
        if backbone_only is None:
            return "undecided"
        test = self._test(arm, backbone_only.name)
        return "vectors" if test is not None and test.better else "backbone"

    def _against_backbone(self, best: Arm) -> list[str]:
        """Compare with the same backbone without vectors, if its options differ from the baseline's."""
        if self._on_baseline_backbone(best):
            return []
        backbone_only = self.controls[best.name].backbone_only
        if backbone_only is None:
            sentence = (
                f"Its backbone options differ from those of {self.baseline}, and no arm without vectors shares them, "
                "so they may explain the gain"
            )
            return [sentence]
        test = self._test(best, backbone_only.name)
        reached = f"The same backbone without vectors, {backbone_only.name}, reaches {self._mean(backbone_only)}"
        if test is not None and test.better:
            return [f"{reached} ({_p_value(test)})"]
        return [f"{reached}, {_no_worse(test)}: the gain comes from the backbone"]

    def _against_placebo(self, best: Arm) -> tuple[Level, str, str]:
        """Return the level, the opening of the verdict, and the sentence about shuffled vectors."""
        placebo = self.controls[best.name].placebo
        if placebo is None:
            return (
                "gain",
                "a gain, not shown to come from meaning",
                "No arm with shuffled vectors was run, so a wider input may explain the gain",
            )
        test = self._test(best, placebo.name)
        apart = recipe_differences(best, placebo)
        other = f" ({', '.join(apart)})" if apart else ""
        reached = f"Shuffled vectors{other} reach {self._mean(placebo)}"
        if test is None or not test.better:
            sentence = f"{reached}, {_no_worse(test)}: the gain is not shown to come from meaning"
            return "gain", "a gain, but no semantic gain", sentence
        if apart:
            sentence = (
                f"{reached} ({_p_value(test)}), but by another recipe, and the difference may explain the gain: run an "
                f"arm like {best.name} with shuffle = true"
            )
            return "gain", "a gain, but not shown to be semantic", sentence
        return "semantic gain", "a semantic gain", f"{reached} ({_p_value(test)}): the gain comes from meaning"

    def _against_text(self, best: Arm, text: Arm) -> str:
        test = self._test(best, text.name)
        apart = recipe_differences(best, text, width=False)
        other = f" ({', '.join(apart)})" if apart else ""
        reached = f"Raw text without an LLM{other} reaches {self._mean(text)}"
        if test is None or not test.significant:
            return f"{reached}, which is not significantly different{_p_value_if_known(test)}"
        if not test.better:
            return f"{reached}, significantly better ({_p_value(test)})"
        return f"{reached} ({_p_value(test)}){', by another recipe' if apart else ': the LLM improves on it'}"

    def _test(self, arm: Arm, against: str) -> Comparison | None:
        return self.finding.compare(arm.name, against, self.metric)

    def _mean(self, arm: Arm) -> str:
        return format_number(self.finding.mean(arm.name, self.metric))

    def _on_baseline_backbone(self, arm: Arm) -> bool:
        return same_backbone(arm, next(other for other in self.arms if other.name == self.baseline))


def _untestable(comparison: Comparison) -> str:
    interval = comparison.users_interval
    over_users = ""
    if interval is not None:
        low, high = map(format_number, interval)
        over_users = f"; its 95% interval over users is {low} to {high}"
    return f"The difference is the same for every seed, so it cannot be tested over seeds{over_users}."


def _no_worse(comparison: Comparison | None) -> str:
    """Describe a control that the best arm is not significantly better than."""
    worse = comparison is not None and comparison.worse
    return f"{'significantly better' if worse else 'not significantly worse'}{_p_value_if_known(comparison)}"


def _p_value_if_known(comparison: Comparison | None) -> str:
    return f" ({_p_value(comparison)})" if comparison is not None and comparison.p_adjusted is not None else ""


def _p_value(comparison: Comparison) -> str:
    p = 1.0 if comparison.p_adjusted is None else comparison.p_adjusted
    shown = format_number(p, 3)
    return f"p < {shown[1:]}" if shown.startswith("<") else f"p = {shown}"


def _change(comparison: Comparison) -> str:
    if comparison.relative is None:
        return ""
    if comparison.relative >= 9.95:
        return f", {1 + comparison.relative:.0f} times as much"
    return f", {comparison.relative:+.1%}".replace("-", "\N{MINUS SIGN}")
