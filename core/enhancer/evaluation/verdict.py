"""The verdict in words. It claims no more than the tests allow: a gain that shuffled vectors share is not meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from enhancer.evaluation.arms import controls
from enhancer.evaluation.metrics import direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.arms import Arm
    from enhancer.evaluation.result import Comparison, Finding

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


def verdicts(findings: Mapping[str, Finding], arms: Sequence[Arm], baseline: str, metric: str) -> dict[str, Verdict]:
    """The verdict for all, tail and cold, where there are such."""
    return {
        name: verdict(findings[name], arms, baseline, metric, place)
        for name, place in _PLACES.items()
        if name in findings
    }


def verdict(finding: Finding, arms: Sequence[Arm], baseline: str, metric: str, place: str) -> Verdict:
    """Judge the best arm with vectors on one finding: of those that gain significantly, if any do.

    The best one is picked after the fact; Holm's correction over all arms is what makes that fair.
    """
    able = [arm for arm in arms if arm.semantic and not arm.shuffle and arm.name != baseline]
    if not able:
        return Verdict("unknown", f"{place}: no arm with vectors was run, so there is nothing to judge.")
    gaining = [arm for arm in able if (test := finding.compare(arm.name, baseline, metric)) is not None and test.better]
    best = max(gaining or able, key=lambda arm: direction(metric) * finding.mean(arm.name, metric))
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
    level, opening, about_placebo = _against_placebo(finding, best, arms, metric)
    sentences = [f"{best.name} {numbers} ({odds})", about_placebo]
    sentences += [_against_text(finding, best, arm, metric) for arm in controls(best, arms) if not arm.shuffle]
    if best.inputs == ("text",) and any("profile" in arm.inputs for arm in able):
        sentences.append("The best arm is raw text: no LLM is needed for this")
    return Verdict(level, f"{place}: {opening}. {'. '.join(sentences)}.", best.name)


def _without_chance(comparison: Comparison) -> str:
    reach = comparison.users_interval
    over_users = "" if reach is None else f"; over users it is {number(reach[0])} to {number(reach[1])} (95%)"
    return f"The difference is the same for every seed, so no test over seeds can weigh it{over_users}."


def _against_placebo(finding: Finding, best: Arm, arms: Sequence[Arm], metric: str) -> tuple[Level, str, str]:
    placebo = next((arm for arm in controls(best, arms) if arm.shuffle), None)
    if placebo is None:
        return (
            "gain",
            "a gain, with nothing to show that meaning made it",
            "No arm with shuffled vectors was run, so a wider input may be all there is to it",
        )
    test = finding.compare(best.name, placebo.name, metric)
    reached = number(finding.mean(placebo.name, metric))
    other = "" if placebo.fuser == best.fuser else f" (through {placebo.fuser}, not {best.fuser})"
    if test is not None and test.better:
        words = f"Shuffled vectors reach {reached}{other} ({_odds(test)}): the meaning made it"
        return "semantic gain", "a semantic gain", words
    odds = f" ({_odds(test)})" if test is not None and test.p_adjusted is not None else ""
    words = f"Shuffled vectors reach {reached}{other}, not significantly less{odds}: it is not shown to be meaning"
    return "gain", "a gain, but no semantic gain", words


def _against_text(finding: Finding, best: Arm, raw: Arm, metric: str) -> str:
    test = finding.compare(best.name, raw.name, metric)
    reached = number(finding.mean(raw.name, metric))
    if test is None or not test.significant:
        odds = f" ({_odds(test)})" if test is not None and test.p_adjusted is not None else ""
        return f"Raw text without an LLM reaches {reached}, which is not significantly different{odds}"
    if test.better:
        return f"Raw text without an LLM reaches {reached} ({_odds(test)}): the LLM adds to it"
    return f"Raw text without an LLM reaches {reached}, significantly more ({_odds(test)})"


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
