"""Write ``density.html``, one file without scripts or requests, and ``density.csv`` with every number.

All functions take the dictionary that ``enhancer density --json`` prints.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from enhancer.config.inputs import TEXT
from enhancer.evaluation.frontier.wording import added_notes, format_cost, signed
from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.reporting.blocks import ReportFigures, ReportSection, ReportTable
from enhancer.evaluation.reporting.environment import template
from enhancer.evaluation.reporting.frontier_plot import FrontierPoint, frontier_plot
from enhancer.evaluation.reporting.page_files import write_page
from enhancer.evaluation.reporting.sections import svg_markup

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_TITLES = {
    "all": "All items",
    "head": "Head",
    "tail": "Tail",
    "cold": "New items",
    "everything": "Everything",
}
"""Strata that are shown, in this order; the CSV file and JSON have all."""
_LEVELS = {
    "buy": ("pays", "semantic-gain"),
    "text": ("raw text is enough", "gain"),
    "nothing": ("do not buy", "no-significant-gain"),
}
_UNITS = {"usd": "US dollars", "tokens": "tokens", "records": "generated texts"}
_FREE = "b"


def write_density_report(path: Path, result: Mapping[str, Any], *, title: str) -> Path:
    """Write the page, and a CSV file of the same name beside it.

    Args:
        path: Path of the page; its folder is created if necessary.
        result: What ``enhancer density --json`` prints.
        title: Title of the page.

    Raises:
        EvaluationError: A file cannot be written.
    """
    page = render_density_report(result, title=title)
    return write_page(path, page, render_density_csv(result))


def render_density_report(result: Mapping[str, Any], *, title: str) -> str:
    """Return the page as text; see :func:`write_density_report`."""
    metric = metric_label(result["metric"])
    seconds = result["seconds"]
    return template("density.html.j2").render(
        title=title,
        rungs=len(result["frontier"]),
        seeds=len(result["seeds"]),
        metric=metric,
        overall=result["verdict"]["overall"],
        cards=[_card(result, name, metric) for name in _shown(result) if name in result["verdict"]],
        sections=[frontier_section(result, verdict=False), _numbers(result)],
        facts=[(name, str(value)) for name, value in result["facts"].items()],
        duration=f"{seconds:.1f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes",
    )


def frontier_section(result: Mapping[str, Any], *, verdict: bool = True) -> ReportSection:
    """Return a section with a plot of gain against cost for every stratum shown, and the verdict unless it is above."""
    metric = metric_label(result["metric"])
    figures = []
    for name in _shown(result):
        title = _TITLES[name]
        label = f"{title}: gain in {metric} against cost"
        svg = frontier_plot(_points(result, name), label, _UNITS[result["unit"]], f"gain in {metric}")
        figures.append((title, result["strata"][name]["what"], svg_markup(svg)))
    text = (
        f"Gain in {metric} over interactions alone, against what the generated texts cost. A rung on the frontier "
        "gains beyond chance over every cheaper one; the line shows the best that each amount buys. Hollow dots are "
        "vectors as wide, shuffled among the items; gains within the grey band may be chance. All rungs but nothing "
        "have the raw text, if there is any."
    )
    if verdict:
        text = f"{result['verdict']['overall']} {text}"
    return ReportSection("What does it bring, and at what price?", text, [ReportFigures(figures)])


def render_density_csv(result: Mapping[str, Any]) -> str:
    """Return a CSV with a row for each stratum and rung; unknown values are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["stratum", "rung", "inputs", "share", "order", "records", "tokens", "cost_usd", "metric", "value", "gain"]
    writer.writerow([*head, "low", "high", "over_text", "over_placebo", "on_frontier"])
    for stratum in result["strata"]:
        for rung in result["frontier"]:
            found = rung["strata"][stratum]
            over = found["over"]
            row = [
                *(stratum, rung["rung"], " ".join(rung["inputs"]), rung["share"], rung["order"], rung["records"]),
                *(rung["tokens"], rung["cost_usd"], result["metric"], found["value"], found["gain"]),
                *(found["interval"] or (None, None)),
                *(over.get(control, {}).get("gain") for control in ("text", "placebo")),
                int(found["on_frontier"]),
            ]
            writer.writerow(["" if value is None else value for value in row])
    return out.getvalue()


def _shown(result: Mapping[str, Any]) -> list[str]:
    """Return the strata that are shown, those where generated texts pay first."""
    order = list(_LEVELS)
    shown = [name for name in _TITLES if name in result["strata"]]
    return sorted(shown, key=lambda name: order.index(result["strata"][name]["level"]))


def _points(result: Mapping[str, Any], stratum: str) -> list[FrontierPoint]:
    points = []
    for rung in result["frontier"]:
        found = rung["strata"][stratum]
        placebo = found["over"].get("placebo")
        points.append(
            FrontierPoint(
                label=rung["rung"],
                cost=cost_of(rung, result["unit"]),
                gain=found["gain"],
                interval=None if found["interval"] is None else tuple(found["interval"]),
                on_frontier=found["on_frontier"],
                placebo=found["gain"] - placebo["gain"] if placebo is not None and found["on_frontier"] else None,
                named=rung["rung"] == TEXT,
                colour="0" if rung["records"] else "t" if rung["inputs"] else _FREE,
            )
        )
    return points


def cost_of(rung: Mapping[str, Any], unit: str) -> float:
    """Return the cost of a rung in the unit of the frontier."""
    return float(rung[{"usd": "cost_usd", "tokens": "tokens", "records": "records"}[unit]])


def _card(result: Mapping[str, Any], stratum: str, metric: str) -> dict[str, str]:
    """Return the verdict on a stratum; its number is what the best rung gains beyond what costs nothing."""
    about = result["strata"][stratum]
    badge, css = _LEVELS[about["level"]]
    best = next(rung for rung in result["frontier"] if rung["rung"] == about["frontier"][-1])
    found, change, by = best["strata"][stratum], "0", f"{metric}, beyond chance"
    if about["level"] != "nothing":
        beyond = found["over"]["text"] if TEXT in about["frontier"][:-1] else found
        over = "raw text" if beyond is not found else "interactions alone"
        price = format_cost(cost_of(best, result["unit"]), result["unit"])
        change, by = signed(beyond["gain"]), f"{metric} over {over}: {best['rung']}, {price}"
    return {
        "title": _TITLES[stratum],
        "badge": badge,
        "css": css,
        "change": change,
        "by": by,
        "words": result["verdict"][stratum],
    }


def _numbers(result: Mapping[str, Any]) -> ReportSection:
    """Return a table of all rungs: cost, and gain with its interval on every stratum shown."""
    shown = [name for name in _TITLES if name in result["strata"]]
    rows = []
    for rung in result["frontier"]:
        cost = "unknown" if rung["cost_usd"] is None else format_cost(rung["cost_usd"], "usd")
        tokens = "unknown" if rung["tokens"] is None else f"{rung['tokens']:,}"
        rows.append([rung["rung"], cost, tokens, f"{rung['records']:,}", *(_cell(rung, name) for name in shown)])
    left_out = [[each["rung"], each["reason"]] for each in result["left_out"]]
    head = ["rung", "cost", "tokens", "texts", *(_TITLES[name] for name in shown)]
    tables = [ReportTable(head, rows, numeric=True)]
    if left_out:
        tables.append(ReportTable(["left out", "why"], left_out))
    text = (
        "Gain over interactions alone, with its 95% interval over users and seeds. ● on the frontier. Costs are those "
        "recorded, or tokens times the price of the model; an unknown cost is not counted as 0."
    )
    if (notes := added_notes(result)) is not None:
        text = f"{text} {notes}"
    return ReportSection("Every rung", text, tables)


def _cell(rung: Mapping[str, Any], stratum: str) -> str:
    found = rung["strata"][stratum]
    mark = "● " if found["on_frontier"] else ""
    if found["interval"] is None:
        return mark.strip()
    low, high = found["interval"]
    return f"{mark}{signed(found['gain'])} ± {format_number((high - low) / 2)}"
