"""The verdict in words. It claims no more than the tests allow: a gain that shuffled vectors share is not meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from enhancer.evaluation.judging.controls import recipe_differences, same_backbone
from enhancer.evaluation.measuring.metrics import direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.judging.controls import Controls
    from enhancer.evaluation.judging.findings import Comparison, Finding
    from enhancer.evaluation.running.arms import Arm

Level = Literal["semantic gain", "gain", "no significant gain", "loss", "unknown"]
"""``gain``: significant, but not shown to be of meaning; ``unknown``: one seed, or nothing to compare."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement of one panel."""

    level: Level
    words: str
    arm: str | None = None
    """The best arm with vectors."""

    def __str__(self) -> str:
        return self.words


_PLACES = {
    "all": "Over all items",
    "tail": "On the tail",
    "cold": "On items that training never saw, ranked among themselves",
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
        numbers = f"reaches {show(metric)} {number(reached)} against {number(base)} of {baseline}{_change(against)}"
        if against.paired.n == 1:
            words = f"{place}: {best.name} {numbers}. One seed cannot tell a gain from luck: run several."
            return Verdict("unknown", words, best.name)
        if against.paired.p is None:
            return Verdict("unknown", f"{place}: {best.name} {numbers}. {_without_chance(against)}", best.name)
        odds = _odds(against)
        if not against.significant:
            words = f"{place}: no significant gain. The best arm with vectors, {best.name}, {numbers} ({odds})."
            return Verdict("no significant gain", words, best.name)
        if against.worse:
            words = f"{place}: no gain. Even the best arm with vectors loses: {best.name} {numbers} ({odds})."
            return Verdict("loss", words, best.name)
        sentences = [f"{best.name} {numbers} ({odds})", *self._against_backbone(best)]
        if credit[best.name] == "backbone":
            words = f"{place}: no significant gain by vectors. {'. '.join(sentences)}."
            return Verdict("no significant gain", words, best.name)
        level, opening, about_placebo = self._against_placebo(best)
        if credit[best.name] == "undecided":
            level, opening = "gain", "a gain, but it is not told whether by vectors"
        sentences.append(about_placebo)
        text = self.controls[best.name].text
        if text is not None:
            sentences.append(self._against_text(best, text))
        if best.inputs == ("text",) and any("profile" in arm.inputs for arm in candidates):
            sentences.append("The best arm is raw text: no LLM is needed for this")
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
            words = (
                f"Its backbone is set otherwise than that of {self.baseline}, and no arm without vectors shares its "
                "options, so that may be all there is to it"
            )
            return [words]
        test = self._test(best, backbone_only.name)
        reached = f"The same backbone without vectors, {backbone_only.name}, reaches {self._mean(backbone_only)}"
        if test is not None and test.better:
            return [f"{reached} ({_odds(test)})"]
        return [f"{reached}, {_no_worse(test)}: the backbone made it"]

    def _against_placebo(self, best: Arm) -> tuple[Level, str, str]:
        """Return the level, the opening of the verdict, and the sentence about shuffled vectors."""
        placebo = self.controls[best.name].placebo
        if placebo is None:
            return (
                "gain",
                "a gain, with nothing to show that meaning made it",
                "No arm with shuffled vectors was run, so a wider input may be all there is to it",
            )
        test = self._test(best, placebo.name)
        apart = recipe_differences(best, placebo)
        other = f" ({', '.join(apart)})" if apart else ""
        reached = f"Shuffled vectors{other} reach {self._mean(placebo)}"
        if test is None or not test.better:
            words = f"{reached}, {_no_worse(test)}: it is not shown to be meaning"
            return "gain", "a gain, but no semantic gain", words
        if apart:
            words = (
                f"{reached} ({_odds(test)}), but that is another recipe, so what differs may be all there is to it; an "
                f"arm like {best.name} with shuffle = true would tell"
            )
            return "gain", "a gain, but not shown to be a semantic one", words
        return "semantic gain", "a semantic gain", f"{reached} ({_odds(test)}): the meaning made it"

    def _against_text(self, best: Arm, text: Arm) -> str:
        test = self._test(best, text.name)
        apart = recipe_differences(best, text, width=False)
        other = f" ({', '.join(apart)})" if apart else ""
        reached = f"Raw text without an LLM{other} reaches {self._mean(text)}"
        if test is None or not test.significant:
            return f"{reached}, which is not significantly different{_odds_if_told(test)}"
        if not test.better:
            return f"{reached}, significantly better ({_odds(test)})"
        return f"{reached} ({_odds(test)}){', by another recipe' if apart else ': the LLM adds to it'}"

    def _test(self, arm: Arm, against: str) -> Comparison | None:
        return self.finding.compare(arm.name, against, self.metric)

    def _mean(self, arm: Arm) -> str:
        return number(self.finding.mean(arm.name, self.metric))

    def _on_baseline_backbone(self, arm: Arm) -> bool:
        return same_backbone(arm, next(other for other in self.arms if other.name == self.baseline))


def _without_chance(comparison: Comparison) -> str:
    reach = comparison.users_interval
    over_users = "" if reach is None else f"; over users it is {number(reach[0])} to {number(reach[1])} (95%)"
    return f"The difference is the same for every seed, so no test over seeds can weigh it{over_users}."


def _no_worse(comparison: Comparison | None) -> str:
    """How a control stands that the best arm is not shown to be above of."""
    worse = comparison is not None and comparison.worse
    return f"{'even better' if worse else 'not significantly worse'}{_odds_if_told(comparison)}"


def _odds_if_told(comparison: Comparison | None) -> str:
    return f" ({_odds(comparison)})" if comparison is not None and comparison.p_adjusted is not None else ""


def _odds(comparison: Comparison) -> str:
    p = 1.0 if comparison.p_adjusted is None else comparison.p_adjusted
    shown = number(p, 3)
    return f"p < {shown[1:]}" if shown.startswith("<") else f"p = {shown}"


def show(metric: str) -> str:
    """A metric's name as people write it.

    >>> show("ndcg@10"), show("recall@20")
    ('NDCG@10', 'Recall@20')
    """
    name, at, k = metric.lower().partition("@")
    names = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "auc": "AUC", "gauc": "GAUC", "logloss": "log loss"}
    return f"{names.get(name, name.capitalize())}{at}{k}"


def number(value: float, digits: int = 4) -> str:
    """A number below one without its leading zero, as papers print it.

    >>> number(0.32714), number(0.0003, 3), number(-0.02), number(1.0)
    ('.3271', '<.001', '-.0200', '1.0000')
    """
    if 0 < value < 0.5 * 10**-digits:
        return f"<.{'0' * (digits - 1)}1"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _change(comparison: Comparison) -> str:
    if comparison.relative is None:
        return ""
    if comparison.relative >= 9.95:
        return f", {1 + comparison.relative:.0f} times as much"
    return f", {comparison.relative:+.1%}".replace("-", "\N{MINUS SIGN}")
