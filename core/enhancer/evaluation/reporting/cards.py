"""Build the cards at the top of the report: a verdict, what it is about, and the values that it compares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.evaluation.judging.formatting import format_change, format_number, metric_label
from enhancer.evaluation.measuring.metrics import direction

if TYPE_CHECKING:
    from enhancer.evaluation.judging.findings import Comparison
    from enhancer.evaluation.judging.result import Ablation

_LINES = 4
"""Largest number of reference lines or content baselines in a card, best first."""
_SPACE = "\N{NO-BREAK SPACE}"


def verdict_card(ablation: Ablation, name: str, title: str) -> dict[str, Any]:
    """Return the card of a panel.

    A large number is a gain that comes from meaning, that is above every line and that costs nobody, or a loss. Any
    other change could be mistaken for one that is worth having.

    Args:
        ablation: The results.
        name: The panel.
        title: Its title.
    """
    verdict = ablation.verdicts[name]
    told = _told(ablation, name)
    clean = verdict.standing in (None, "above") and not verdict.costs_others
    large = verdict.level == "loss" or (verdict.level == "semantic gain" and clean)
    headline = f"{verdict.headline}."
    return {
        "panel": title,
        "level": verdict.level,
        "css": verdict.level.replace(" ", "-"),
        "costs": verdict.costs_others,
        "change": format_change(told.relative) if large and told is not None and told.relative is not None else "",
        "arm": verdict.arm,
        "against": "" if told is None else told.baseline,
        "headline": _unbroken(headline[:1].upper() + headline[1:]),
        "text": _unbroken(verdict.text.partition(": ")[2].removeprefix(headline).strip()),
        "ladder": _ladder(ablation, name),
        "description": ablation.findings[name].description,
    }


def _told(ablation: Ablation, name: str) -> Comparison | None:
    """Return the comparison that a gain is told by: with the best content baseline, or else with the baseline."""
    verdict, finding, metric = ablation.verdicts[name], ablation.findings[name], ablation.metrics[0]
    if verdict.arm is None:
        return None
    if finding.content and verdict.line is not None:
        return finding.compare_line(verdict.arm, verdict.line, metric)
    return finding.compare(verdict.arm, ablation.baseline, metric)


def _ladder(ablation: Ablation, name: str) -> list[dict[str, str]]:
    """Return the values of the best arm, its controls, the baseline and the best lines, best first."""
    verdict, finding, metric = ablation.verdicts[name], ablation.findings[name], ablation.metrics[0]
    best = verdict.arm or ablation.baseline
    controls = ablation.controls[best].by_role().values()
    rows = [
        (finding.mean(arm, metric), arm, "", "best" if arm == verdict.arm else "")
        for arm in dict.fromkeys([best, ablation.baseline, *(each.name for each in controls)])
    ]
    kind = "content baseline" if finding.content else "reference"
    rows += [(value, line, kind, "line") for line, value in list(finding.lines(metric).items())[:_LINES]]
    rows.sort(key=lambda row: -direction(metric) * row[0])
    return [
        {"name": label, "kind": sort, "value": format_number(value), "css": css, "metric": metric_label(metric)}
        for value, label, sort, css in rows
    ]


def _unbroken(text: str) -> str:
    """Keep ``p < .001`` on one line."""
    return text.replace("p < ", f"p{_SPACE}<{_SPACE}").replace("p = ", f"p{_SPACE}={_SPACE}")
