"""Write ``report.html``, one file without scripts or requests; beside it ``report.csv`` and ``report.json``."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from enhancer.evaluation.judging.formatting import format_change, format_number, metric_label
from enhancer.evaluation.measuring.metrics import direction
from enhancer.evaluation.reporting import plots
from enhancer.evaluation.reporting.cards import verdict_card
from enhancer.evaluation.reporting.environment import template
from enhancer.evaluation.reporting.page_files import write_page
from enhancer.evaluation.reporting.plots import Curve, GainRow, LevelRow
from enhancer.evaluation.reporting.saved_report import render_json
from enhancer.evaluation.reporting.sections import (
    beyond_accuracy_table,
    change_cell,
    cost_plots,
    line_table,
    search_table,
    svg_markup,
)
from enhancer.evaluation.reporting.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from enhancer.evaluation.judging.findings import Finding
    from enhancer.evaluation.judging.result import Ablation
    from enhancer.evaluation.reporting.blocks import ReportSection
    from enhancer.evaluation.reporting.gallery import Gallery
    from enhancer.evaluation.reporting.summary import Summary
    from enhancer.evaluation.running.arms import Arm

_TITLES = {
    "all": "All items",
    "head": "Head",
    "middle": "Middle",
    "tail": "Tail",
    "cold": "Cold items",
    "cold_among_all": "Cold items among all items",
    "everything": "Everything",
    "cold_users": "Cold users",
    "history_short": "Short history",
    "history_medium": "Medium history",
    "history_long": "Long history",
}
_DECISIONS = {
    "ship": "semantic-gain",
    "ship in part": "semantic-gain",
    "do not ship": "loss",
    "not decided": "unknown",
}
"""Style of each decision."""
_MINUS = "\N{MINUS SIGN}"
_COLOURS = 6


def write_report(
    path: Path,
    ablation: Ablation,
    *,
    title: str = "Does the feature help?",
    facts: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    sections: Sequence[ReportSection] = (),
    gallery: Gallery | None = None,
    data: str = "",
    date: str = "",
) -> Path:
    """Write the report, and beside it a CSV and a JSON file of the same name.

    Args:
        path: Path of the page, such as ``report.html``; its folder is created if necessary.
        ablation: The results.
        title: Title of the page.
        facts: Facts about the data, by name; nested mappings are flattened.
        settings: The configuration.
        sections: More sections, placed after the plots.
        gallery: Profiles to show.
        data: Names of the data.
        date: Day on which the ablation ended.

    Returns:
        ``path``.

    Raises:
        EvaluationError: A file cannot be written.
    """
    page = render_report(
        ablation,
        title=title,
        facts=facts,
        settings=settings,
        sections=sections,
        gallery=gallery,
        data=data,
        date=date,
    )
    summary = summarise(ablation, gallery=gallery, data=data, date=date)
    return write_page(path, page, render_csv(ablation), render_json(ablation, summary))


def render_report(
    ablation: Ablation,
    *,
    title: str = "Does the feature help?",
    facts: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    sections: Sequence[ReportSection] = (),
    gallery: Gallery | None = None,
    data: str = "",
    date: str = "",
) -> str:
    """Return the page as text; see :func:`write_report`."""
    return template("report.html.j2").render(
        title=title,
        sections=sections,
        gallery=gallery,
        searches=search_table(ablation),
        summary=_summary(summarise(ablation, gallery=gallery, data=data, date=date)),
        **_page(ablation, facts or {}, settings or {}, gallery),
    )


def render_csv(ablation: Ablation) -> str:
    """Return a CSV with columns ``panel,arm,metric,seed,value``; rows of reference lines have no seed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["panel", "arm", "metric", "seed", "value"])
    for name, finding in ablation.findings.items():
        for arm, metrics in finding.per_seed.items():
            for metric, values in metrics.items():
                for seed, value in zip(ablation.seeds, values, strict=True):
                    writer.writerow([name, arm, metric, seed, repr(value)])
        for line, reached in finding.reference.items():
            for metric, value in reached.items():
                writer.writerow([name, line, metric, "", repr(value)])
        if name == "all":
            for arm, by_measure in ablation.beyond_accuracy.items():
                for measure, values in by_measure.items():
                    for seed, value in zip(ablation.seeds, values, strict=True):
                        writer.writerow([name, arm, measure, seed, repr(value)])
    return out.getvalue()


def _summary(summary: Summary) -> dict[str, Any]:
    """Return the box at the top of the page."""
    return {"headline": summary.headline, "lines": summary.lines(), "css": _DECISIONS[summary.decision]}


def _page(
    ablation: Ablation, facts: Mapping[str, Any], settings: Mapping[str, Any], gallery: Gallery | None
) -> dict[str, Any]:
    metric = ablation.metrics[0]
    colours = _colours(ablation)
    shown = [name for name in ("all", "tail", "cold") if name in ablation.findings]
    rest = [name for name in ablation.findings if name not in shown]
    return {
        "metric": metric_label(metric),
        "baseline": ablation.baseline,
        "seeds": len(ablation.seeds),
        "cards": [verdict_card(ablation, name, _title(name)) for name in shown],
        "legend": [
            {"name": arm.name, "text": arm.description, "colour": colours[arm.name], "hollow": arm.shuffle}
            for arm in ablation.arms
        ],
        "gains": [_gains(ablation, ablation.findings[name], metric, colours) for name in shown],
        "more_gains": [_gains(ablation, ablation.findings[name], metric, colours) for name in rest],
        "meaning": [
            _gains(ablation, ablation.findings[name], metric, colours, over_placebo=True)
            for name in shown
            if any(_placebo(ablation, arm) for arm in _others(ablation))
        ],
        "levels": [_levels(ablation, ablation.findings[name], metric, colours) for name in shown],
        "against_lines": [found for name in shown if (found := line_table(ablation, name, _title(name)))],
        "heat": _heat(ablation, metric),
        "pairs": _pairs(ablation, metric, colours),
        "curves": _curves(ablation, metric, colours),
        "costs": cost_plots(ablation, metric, colours, gallery),
        "numbers": [_numbers(ablation, finding) for finding in ablation.findings.values()],
        "beyond_accuracy": beyond_accuracy_table(ablation),
        "markdown": _markdown(ablation),
        "facts": _flat({**ablation.facts, **facts}),
        "settings": _flat(settings),
        "runs": [
            (run.name, f"{run.seconds:.1f}", run.epochs, run.best_epoch, _or_empty(run.validation))
            for run in ablation.runs
        ],
        "duration": _duration(ablation.seconds),
    }


def _colours(ablation: Ablation) -> dict[str, str]:
    """Return the CSS class suffix of each arm: ``b`` the baseline, ``p`` a placebo, ``t`` raw text, else a number."""
    suffixes: dict[str, str] = {}
    used = 0
    for arm in ablation.arms:
        if arm.name == ablation.baseline:
            suffixes[arm.name] = "b"
        elif arm.shuffle:
            suffixes[arm.name] = "p"
        elif arm.inputs == ("text",) and arm.semantic:
            suffixes[arm.name] = "t"
        else:
            suffixes[arm.name] = str(used % _COLOURS)
            used += 1
    return suffixes


def _gains(
    ablation: Ablation, finding: Finding, metric: str, colours: Mapping[str, str], *, over_placebo: bool = False
) -> dict[str, Any]:
    """Plot the gain of each arm over the baseline, or over its placebo, the same arm with shuffled vectors."""
    rows, sign = [], direction(metric)
    for arm in _others(ablation):
        against = _placebo(ablation, arm) if over_placebo else ablation.baseline
        comparison = None if against is None else finding.compare(arm.name, against, metric)
        if against is None or comparison is None:
            continue
        base = finding.per_seed[against][metric]
        rows.append(
            GainRow(
                label=arm.name,
                colour=colours[arm.name],
                delta=comparison.gain,
                seeds=[sign * (a - b) for a, b in zip(finding.per_seed[arm.name][metric], base, strict=True)],
                interval=_signed(comparison.paired.interval, sign),
                users=_signed(comparison.users_interval, sign),
                note=change_cell(comparison)["text"],
                hollow=arm.shuffle,
            )
        )
    title = _title(finding.name)
    over = "shuffled vectors" if over_placebo else ablation.baseline
    label = f"{title}: gain of each arm over {over} in {metric_label(metric)}"
    return {"title": title, "description": _describe(finding), "svg": svg_markup(plots.gains(rows, label))}


def _signed(interval: tuple[float, float] | None, sign: int) -> tuple[float, float] | None:
    """Return the interval of a gain, for a metric that may be better when lower (``sign`` -1)."""
    if interval is None or sign > 0:
        return interval
    return -interval[1], -interval[0]


def _placebo(ablation: Ablation, arm: Arm) -> str | None:
    placebo = ablation.controls[arm.name].placebo
    return None if placebo is None else placebo.name


def _levels(ablation: Ablation, finding: Finding, metric: str, colours: Mapping[str, str]) -> dict[str, Any]:
    rows = [
        LevelRow(
            label=arm.name,
            colour=colours[arm.name],
            values=finding.per_seed[arm.name][metric],
            hollow=arm.shuffle,
        )
        for arm in ablation.arms
    ]
    # Reference lines cannot rank cold items better than chance: there, content baselines are what to beat.
    unfair = finding.name.startswith("cold") and not finding.content
    lines = [] if unfair else list(finding.lines(metric).items())
    title = _title(finding.name)
    label = f"{title}: {metric_label(metric)} of each arm"
    return {"title": title, "description": _describe(finding), "svg": svg_markup(plots.levels(rows, lines, label))}


def _heat(ablation: Ablation, metric: str) -> dict[str, Any]:
    """Return relative gains by stratum and arm; colours show the size, stars a corrected p below .05."""
    arms = _others(ablation)
    rows = []
    for finding in ablation.findings.values():
        cells = []
        for arm in arms:
            comparison = finding.compare(arm.name, ablation.baseline, metric)
            if comparison is None:
                cells.append({"text": "", "css": "up0"})
                continue
            cells.append(change_cell(comparison))
        rows.append(
            {
                "title": _title(finding.name),
                "description": finding.description,
                "users": f"{finding.users:,}",
                "cells": cells,
            }
        )
    return {"arms": [arm.name for arm in arms], "rows": rows}


def _pairs(ablation: Ablation, metric: str, colours: Mapping[str, str]) -> list[dict[str, Any]]:
    if len(ablation.seeds) < 2:
        return []
    base = (ablation.baseline, ablation.overall.per_seed[ablation.baseline][metric])
    made = []
    for arm in _others(ablation):
        values = ablation.overall.per_seed[arm.name][metric]
        wins = sum(direction(metric) * (a - b) > 0 for a, b in zip(values, base[1], strict=True))
        svg = plots.pairs(
            base,
            (arm.name, values),
            ablation.seeds,
            colours[arm.name],
            f"{arm.name} against {ablation.baseline} by seed",
        )
        made.append(
            {"title": arm.name, "description": f"better in {wins} of {len(values)} seeds", "svg": svg_markup(svg)}
        )
    return made


def _curves(ablation: Ablation, metric: str, colours: Mapping[str, str]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    shown = [run for run in ablation.runs if run.arm in colours]  # arms that lack an input have no colour
    for key, label in (("metric", f"validation {metric_label(metric)}"), ("loss", "training loss")):
        runs = []
        for run in shown:
            points = [(entry["epoch"], entry[key]) for entry in run.history if key in entry and "epoch" in entry]
            if points:
                xs, ys = zip(*points, strict=True)
                best = float(run.best_epoch) if key == "metric" else None
                runs.append(Curve(label=run.name, colour=colours[run.arm], x=xs, y=ys, best=best))
        if runs:
            made.append({"title": label, "svg": svg_markup(plots.curves(runs, label, label))})
    return made


def _numbers(ablation: Ablation, finding: Finding) -> dict[str, Any]:
    rows = []
    for arm in ablation.arms:
        cells = []
        for metric in ablation.metrics:
            std, comparison = finding.std(arm.name, metric), finding.compare(arm.name, ablation.baseline, metric)
            reached = format_number(finding.mean(arm.name, metric))
            cells.append(reached if std is None else f"{reached} ± {format_number(std)}")
            cells.append(
                "" if comparison is None or comparison.relative is None else format_change(comparison.relative)
            )
            cells.append(
                "" if comparison is None or comparison.p_adjusted is None else format_number(comparison.p_adjusted, 3)
            )
        rows.append((arm.name, cells))
    for name in finding.content:
        cells = []
        for metric in ablation.metrics:
            known = metric in finding.per_seed[name]
            cells += [format_number(finding.mean(name, metric)) if known else "", "", ""]
        rows.append((f"{name} (content baseline)", cells))
    for line, reached_by in finding.reference.items():
        cells = []
        for metric in ablation.metrics:
            cells += [format_number(reached_by[metric]) if metric in reached_by else "", "", ""]
        rows.append((f"{line} (reference)", cells))
    return {
        "title": _title(finding.name),
        "description": _describe(finding),
        "metrics": [metric_label(metric) for metric in ablation.metrics],
        "rows": rows,
    }


def _markdown(ablation: Ablation) -> str:
    """Return the table of all panels in Markdown."""
    head = ["panel", "arm", *(metric_label(metric) for metric in ablation.metrics)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for finding in ablation.findings.values():
        for arm in ablation.arms:
            cells = []
            for metric in ablation.metrics:
                std, comparison = finding.std(arm.name, metric), finding.compare(arm.name, ablation.baseline, metric)
                star = "*" if comparison is not None and comparison.significant else ""
                spread = "" if std is None else f" ± {format_number(std)}"
                cells.append(f"{format_number(finding.mean(arm.name, metric))}{spread}{star}")
            name = arm.name.replace("|", "\\|")
            lines.append(f"| {_title(finding.name)} | {name} | {' | '.join(cells)} |")
        beside = {
            name: {metric: finding.mean(name, metric) for metric in finding.per_seed[name]} for name in finding.content
        }
        for name, reached in (beside | ({} if finding.name.startswith("cold") else finding.reference)).items():
            cells = [format_number(reached[metric]) if metric in reached else "" for metric in ablation.metrics]
            lines.append(f"| {_title(finding.name)} | {name} | {' | '.join(cells)} |")
    lines.append(f"\n* differs from {ablation.baseline}, p < .05 (paired t over seeds, Holm)")
    return "\n".join(lines)


def _others(ablation: Ablation) -> list[Arm]:
    return [arm for arm in ablation.arms if arm.name != ablation.baseline]


def _title(name: str) -> str:
    return _TITLES.get(name, name.replace("_", " ").capitalize())


def _describe(finding: Finding) -> str:
    sizes = f"{finding.users:,} users, {finding.items:,} items, {finding.interactions:,} test interactions"
    return f"{finding.description}: {sizes}"


def _or_empty(value: float | None) -> str:
    return "" if value is None else format_number(value)


def _duration(seconds: float) -> str:
    """Format a duration in seconds, or in minutes from 100 seconds.

    >>> _duration(0.38), _duration(75), _duration(600)
    ('0.4 seconds', '75.0 seconds', '10.0 minutes')
    """
    return f"{seconds:.1f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            rows += _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(map(str, value))))
        else:
            grouped = isinstance(value, int) and not isinstance(value, bool)
            rows.append((name, "not set" if value is None else f"{value:,}" if grouped else str(value)))
    return rows
