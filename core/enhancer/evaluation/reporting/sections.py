"""Build the parts of the report about cost, hyper-parameter search and beyond-accuracy measures."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.evaluation.judging.findings import sample_std
from enhancer.evaluation.judging.formatting import format_change, format_number, metric_label
from enhancer.evaluation.judging.left_out import signed
from enhancer.evaluation.measuring.metrics import direction
from enhancer.evaluation.reporting import plots
from enhancer.evaluation.reporting.blocks import ReportSection, ReportTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup

    from enhancer.evaluation.frontier.gains import Gain
    from enhancer.evaluation.judging.findings import Comparison
    from enhancer.evaluation.judging.knowledge import KnowledgeGains
    from enhancer.evaluation.judging.left_out import LeftOut
    from enhancer.evaluation.judging.memory import MemoryGains
    from enhancer.evaluation.judging.result import Ablation
    from enhancer.evaluation.reporting.gallery import Gallery
    from enhancer.evaluation.running.search_result import SearchResult


def cost_plots(
    ablation: Ablation, metric: str, colours: Mapping[str, str], gallery: Gallery | None
) -> list[dict[str, Any]]:
    """Plot the metric of each arm against its training time, and its gain against the cost of its profiles."""
    times, costs = [], []
    unknown = gallery is None or gallery.cost_usd is None
    for arm in ablation.arms:
        seconds = [run.seconds for run in ablation.runs if run.arm == arm.name]
        reached = ablation.overall.mean(arm.name, metric)
        times.append((arm.name, colours[arm.name], sum(seconds) / len(seconds), reached))
        profiled = arm.semantic and arm.has_notes and gallery is not None
        price = 0.0 if not profiled or gallery is None else gallery.tokens if unknown else gallery.cost_usd or 0.0
        costs.append(
            (
                arm.name,
                colours[arm.name],
                float(price),
                direction(metric) * (reached - ablation.overall.mean(ablation.baseline, metric)),
            )
        )
    label = f"{metric_label(metric)} against training time"
    made = [_figure(label, plots.scatter(times, label, "seconds per run", metric_label(metric)))]
    if gallery is not None and any(price for *_, price, _ in costs):
        unit = "tokens" if unknown else "USD"
        label = f"gain in {metric_label(metric)} against the cost of profiles in {unit}"
        made.append(_figure(label, plots.scatter(costs, label, f"{unit}, paid once", "gain over the baseline")))
    return made


def left_out_section(found: LeftOut) -> ReportSection:
    """Return the table of what is lost without each input."""
    metric = metric_label(found.metric)
    panels = list(next(iter(found.gains.values())))
    rows = []
    for name, by_panel in found.gains.items():
        cells = []
        for panel in panels:
            one = by_panel[panel][found.metric]
            cells.append(f"{_with_interval(one.gain)}: {one.worth}")
        rows.append([name, *cells, found.worth(name)])
    text = (
        f"{found.verdict} Each number is what {found.whole} gains over the same arm without the input, with its 95% "
        "interval over users and seeds; p by Holm over the inputs. All of it is measured on the test part: what you "
        "choose by it is chosen there, so confirm the choice with another split_seed."
    )
    columns = ["input", *(f"{metric}, {panel}" for panel in panels), "in all"]
    return ReportSection("Which inputs earn their keep?", text, [ReportTable(columns, rows)])


def memory_section(found: MemoryGains) -> ReportSection:
    """Return the table of gains with and without the items that the LLM knows best."""
    rows = []
    for gain in found.gains:
        cells = [_with_interval(one) for one in (gain.whole, gain.without_known)]
        rows.append([gain.panel, gain.arm, gain.against, *cells, {True: "yes", False: "no", None: "?"}[gain.stands]])
    text = (
        f"{found.verdict} A model knows how things were received after the interactions of an old data set were "
        "recorded. A gain that stands on items which it knows less well owes less to that. These items are rarer, "
        "too, so the level of the metric differs; compare each gain with its interval, or relative to its control."
    )
    label = metric_label(found.metric)
    columns = ["panel", "arm", "over", f"gain in {label}", "without known items", "stands"]
    return ReportSection("How much is memory?", text, [ReportTable(columns, rows)])


def knowledge_section(found: KnowledgeGains) -> ReportSection:
    """Return the tables of what closed notes gain, and of what open ones gain over them."""
    gains = [
        [
            gain.panel,
            gain.against,
            *(_with_interval(one) for one in (gain.open, gain.closed)),
            "" if gain.share is None else f"{gain.share:.0%}",
            {True: "yes", False: "no", None: "?"}[gain.stands],
        ]
        for gain in found.gains
    ]
    differences = [
        [panel, _with_interval(one.gain), "" if one.p is None else format_number(one.p, 3)]
        for panel, one in found.differences.items()
    ]
    text = (
        f"{found.verdict} Both arms have the same split, seeds, fuser and options; their notes differ in what the "
        "model was told to write from. Closed notes hold no hindsight, as far as the model does what it was told: "
        "`enhancer diagnose` finds names, years and numbers in them that the text does not have."
    )
    label = metric_label(found.metric)
    return ReportSection(
        "How much stands without what the model knows?",
        text,
        [
            ReportTable(["panel", "over", f"gain in {label}, open", "closed", "share", "stands"], gains),
            ReportTable(["panel", f"open over closed, {label}", "p"], differences),
        ],
    )


def _with_interval(gain: Gain) -> str:
    interval = gain.interval()
    return signed(gain.delta) + ("" if interval is None else f" ({signed(interval[0])} to {signed(interval[1])})")


def search_table(ablation: Ablation) -> list[dict[str, Any]]:
    """Return for each arm the number of trials, the validation metric before and after, and the options found."""
    return [
        {
            "arm": name,
            "trials": len(each.trials),
            "before": _validation(each.trials[0].value),
            "after": _validation(each.best.value),
            "found": _toml(each),
            "seconds": f"{sum(trial.seconds for trial in each.trials):.0f}",
        }
        for name, each in ablation.searched.items()
    ]


def _toml(searched: SearchResult) -> str:
    """Return all options of the arm after the search, as they are written in ``[evaluation.arm.NAME]``."""
    if not any(searched.best.options.values()):
        return "as configured"
    whole = {"options": searched.arm.fuser_options, "backbone": searched.arm.backbone_options}
    lines = [
        f"{key} = {{ {', '.join(f'{name} = {_value(value)}' for name, value in options.items())} }}"
        for key, options in whole.items()
        if options
    ]
    return "\n".join(lines)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return str(value).lower() if isinstance(value, bool | int) else json.dumps(value)


def _validation(value: float | None) -> str:
    return "failed" if value is None else format_number(value)


def _figure(title: str, svg: str) -> dict[str, Any]:
    return {"title": title, "svg": svg_markup(svg)}


def svg_markup(svg: str) -> Markup:
    """Mark a plot as safe to embed without escaping."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704  plots escape all text


def line_table(ablation: Ablation, name: str, title: str) -> dict[str, Any] | None:
    """Return the relative change from each reference line or content baseline to each arm; None without any.

    Colours show the size, stars a corrected p below .05.
    """
    finding, metric = ablation.findings[name], ablation.metrics[0]
    lines = finding.lines(metric)
    if not finding.reference_comparisons or not lines:
        return None
    rows = []
    for arm in ablation.arms:
        tests = [finding.compare_line(arm.name, line, metric) for line in lines]
        rows.append((arm.name, [{"text": "", "css": ""} if test is None else change_cell(test) for test in tests]))
    return {"title": title, "lines": list(lines), "rows": rows}


def change_cell(comparison: Comparison) -> dict[str, str]:
    """Return the relative change, or the difference if there is none to relate it to, with its colour."""
    relative = comparison.relative
    shown = f"{comparison.paired.delta:+.4f}".replace("-", "\N{MINUS SIGN}")
    strength = 2 if relative is None else min(5, round(abs(relative) ** 0.5 * 10 + 0.2))
    return {
        "text": (shown if relative is None else format_change(relative)) + (" *" if comparison.significant else ""),
        "css": f"{'up' if comparison.gain >= 0 else 'down'}{strength}",
    }


def beyond_accuracy_table(ablation: Ablation) -> dict[str, Any]:
    """Return the coverage, inequality and novelty of the lists of each arm."""
    found = ablation.beyond_accuracy
    rows = []
    for arm, by_measure in found.items():
        cells = []
        for values in by_measure.values():
            std = sample_std(values)
            cells.append(format_number(float(np.mean(values))) + ("" if std is None else f" ± {format_number(std)}"))
        rows.append((arm, cells))
    return {"measures": [measure.capitalize() for measure in next(iter(found.values()))], "rows": rows}
