"""The verdict in words. It claims no more than the tests allow: a gain that shuffled vectors share is not meaning."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.evaluation.result import controls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.arms import Arm
    from enhancer.evaluation.result import Comparison, Finding

_PLACES = {
    "all": "Over all items",
    "tail": "On the tail",
    "cold": "On items that training never saw, ranked among themselves",
}


def verdicts(findings: Mapping[str, Finding], arms: Sequence[Arm], baseline: str, metric: str) -> dict[str, str]:
    """The verdict for all, tail and cold, where there are such."""
    return {
        name: verdict(findings[name], arms, baseline, metric, place)
        for name, place in _PLACES.items()
        if name in findings
    }


def verdict(finding: Finding, arms: Sequence[Arm], baseline: str, metric: str, place: str) -> str:
    """Judge the best arm with vectors on one finding.

    The best one is picked after the fact; Holm's correction over all arms is what makes that fair.
    """
    able = [arm for arm in arms if arm.semantic and not arm.shuffle and arm.name != baseline]
    if not able:
        return f"{place}: no arm with vectors was run, so there is nothing to judge."
    best = max(able, key=lambda arm: finding.mean(arm.name, metric))
    against = finding.compare(best.name, baseline, metric)
    if against is None:
        return f"{place}: {best.name} was not compared."
    reached, base = finding.mean(best.name, metric), finding.mean(baseline, metric)
    numbers = (
        f"{best.name} reaches {show(metric)} {number(reached)} against {number(base)} of {baseline}{_change(against)}"
    )
    if against.paired.n == 1:
        return f"{place}: {numbers}. One seed cannot tell a gain from luck: run several."
    if against.paired.p is None:
        return f"{place}: {numbers}. {_without_chance(against)}"
    odds = f"p = {number(against.p_adjusted or 0.0, 3)}"
    if not against.significant:
        return f"{place}: no significant gain. The best arm with vectors, {numbers} ({odds})."
    if against.worse:
        return f"{place}: no gain. Even the best arm with vectors loses: {numbers} ({odds})."
    sentences = [f"{numbers} ({odds})"]
    others = {control.name: control for control in controls(best, arms)}
    placebo = next((arm for arm in others.values() if arm.shuffle), None)
    if placebo is None:
        opening = "a gain, with nothing to show that meaning made it"
        sentences.append("No arm with shuffled vectors was run, so a wider input may be all there is to it")
    else:
        opening, sentence = _against_placebo(finding, best, placebo, metric)
        sentences.append(sentence)
    sentences += [_against_text(finding, best, arm, metric) for arm in others.values() if not arm.shuffle]
    if best.inputs == ("text",):
        profiles = [arm for arm in able if "profile" in arm.inputs]
        if profiles:
            sentences.append("The best arm is raw text: no LLM is needed for this")
    return f"{place}: {opening}. {'. '.join(sentences)}."


def _without_chance(comparison: Comparison) -> str:
    reach = comparison.users_interval
    over_users = (
        "" if reach is None else f"; over users the difference is {number(reach[0])} to {number(reach[1])} (95%)"
    )
    return f"The difference is the same for every seed, so no test over seeds can weigh it{over_users}."


def _against_placebo(finding: Finding, best: Arm, placebo: Arm, metric: str) -> tuple[str, str]:
    test = finding.compare(best.name, placebo.name, metric)
    reached = number(finding.mean(placebo.name, metric))
    other = "" if placebo.fuser == best.fuser else f" (through {placebo.fuser}, not {best.fuser})"
    if test is None or not test.better:
        odds = "" if test is None or test.p_adjusted is None else f", p = {number(test.p_adjusted, 3)}"
        return (
            "a gain, but no semantic gain",
            f"It is not significantly above shuffled vectors, which reach {reached}{other}{odds}: not shown to be meaning",
        )
    odds = number(test.p_adjusted or 0.0, 3)
    return "a semantic gain", f"Shuffled vectors reach {reached}{other} (p = {odds}): the meaning made it"


def _against_text(finding: Finding, best: Arm, text: Arm, metric: str) -> str:
    test = finding.compare(best.name, text.name, metric)
    reached = number(finding.mean(text.name, metric))
    if test is None or test.p_adjusted is None or not test.significant:
        odds = "" if test is None or test.p_adjusted is None else f" (p = {number(test.p_adjusted, 3)})"
        return f"Raw text without an LLM reaches {reached}, which is not significantly different{odds}"
    if test.better:
        return f"Raw text without an LLM reaches {reached} (p = {number(test.p_adjusted, 3)}): the LLM adds to it"
    return f"Raw text without an LLM reaches {reached}, significantly more"


def show(metric: str) -> str:
    """A metric's name as people write it.

    >>> show("ndcg@10"), show("recall@20")
    ('NDCG@10', 'Recall@20')
    """
    name, _, k = metric.lower().partition("@")
    written = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP"}.get(name, name.capitalize())
    return f"{written}@{k}"


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
    return f", {comparison.relative:+.1%}".replace("-", "\N{MINUS SIGN}")
