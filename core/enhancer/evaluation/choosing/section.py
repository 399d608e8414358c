"""The section of the report about the choice of the backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.reporting.blocks import ReportSection, ReportTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.evaluation.choosing.choice import BackboneChoice, TriedBackbone


def choice_section(choice: BackboneChoice) -> ReportSection:
    """Return a table of all candidates, the best first, and why any was left out."""
    metric = metric_label(choice.metric)
    rows = [_row(each) for each in (*choice.tried, *choice.left_out)]
    text = (
        f"[backbone] use = 'auto' tried these backbones without vectors on the validation part, by {metric}. Arms "
        f"without vectors use {choice.winner.label}. The best ones that accept an arm's fuser were tried with it and "
        "with the vectors; the arm uses the best of these pairs."
    )
    columns = ["backbone", "options", f"validation {metric}", "trials", "seconds", "note"]
    tables = [ReportTable(columns, rows)]
    finals = [
        [arm, label, "failed" if value is None else format_number(value)]
        for arm, values in choice.finals.items()
        for label, value in values.items()
    ]
    if finals:
        tables.append(ReportTable(["arm", "backbone", f"validation {metric} with the fuser"], finals))
    return ReportSection("How the backbone was chosen", text, tables)


def _row(each: TriedBackbone) -> list[str]:
    return [
        each.label,
        _options(each.options),
        "" if each.value is None else format_number(each.value),
        str(len(each.trials)),
        f"{sum(trial.seconds for trial in each.trials):.1f}",
        each.reason or "",
    ]


def _options(options: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in options.items()) or "defaults"
