"""Write the card of an artifact: on what it was trained, how good it is beside simple models, what it is not good for.

Figures are of the model that was tested. Intervals are over users: how much the mean would vary with other users of the
same kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.evaluation import bootstrap
from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.measuring.metrics import direction
from enhancer.serving.artifact import own_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.data import Interactions
    from enhancer.evaluation.measuring.panels import ScoresByStratum
    from enhancer.evaluation.measuring.views import Views
    from enhancer.project.parts import ProjectParts

_STRATA = {
    "all": "Items with interactions",
    "tail": "Rare items",
    "cold": "New items, ranked among themselves",
    "everything": "New items among all others",
}
_SECONDS = (3e8, 5e9)
"""Range in which a time counts as seconds since 1970: from 1979 to 2128."""


@dataclass(frozen=True, kw_only=True)
class TestedModel:
    """A model, and what it was measured beside."""

    views: Views
    """The split."""
    metrics: Sequence[str]
    """Names such as ``ndcg@10``; the first one decides."""
    refit: bool
    """Whether another model is served, fitted on all interactions."""
    semantic: bool
    """Whether it has semantic vectors."""
    places_items: bool
    """Whether items without interactions are placed."""
    scores: ScoresByStratum = field(default_factory=dict)
    """Metrics of each user, by stratum; empty if there is nothing to measure on."""
    beyond_accuracy: Mapping[str, float] = field(default_factory=dict)
    """``coverage`` among others; see :func:`enhancer.evaluation.measuring.panels.measure`."""
    references: Mapping[str, ScoresByStratum] = field(default_factory=dict)
    """The same of each reference line, by its name."""


def card(parts: ProjectParts, tested: TestedModel, everything: Interactions, facts: Mapping[str, str]) -> str:
    """Return the card, in Markdown.

    Args:
        parts: The project's parts.
        tested: The model that was tested.
        everything: All interactions.
        facts: What else is to be said of the model, by name.
    """
    blocks = [
        f"# {facts['backbone']}, {facts['fuser']}",
        f"Trained by enhancer {own_version()} on {datetime.now(UTC):%Y-%m-%d}. `manifest.json` has the configuration.",
        _table(["", ""], [["data", _data(parts, everything)], *(list(pair) for pair in facts.items())]),
        "## How good it is",
        _measured_on(parts, tested),
    ]
    for name, title in _STRATA.items():
        if name in tested.scores:
            blocks += [f"### {title}", _figures(tested, name)]
    blocks += ["## What it is not good for", "\n".join(f"- {line}" for line in _limits(parts, tested, everything))]
    return "\n\n".join(blocks) + "\n"


def _data(parts: ProjectParts, everything: Interactions) -> str:
    users, items = len(everything.user_ids), len(everything.item_ids)
    told = f"`{parts.settings.data.interactions}`: {len(everything):,} interactions, {users:,} users, {items:,} items"
    times = everything.timestamps
    if times is None or not len(times):
        return told
    first, last = (float(edge) / 10**everything.time_decimals for edge in (times.min(), times.max()))
    if not all(_SECONDS[0] <= edge <= _SECONDS[1] for edge in (first, last)):
        return told
    return f"{told}, from {datetime.fromtimestamp(first, UTC):%Y-%m-%d} to {datetime.fromtimestamp(last, UTC):%Y-%m-%d}"


def _measured_on(parts: ProjectParts, tested: TestedModel) -> str:
    if not tested.scores:
        return "It was not measured: no test interaction has both a user and an item with training interactions."
    train = len(tested.views.split.train.users)
    told = (
        f"Measured on held-out interactions (split `{parts.settings.evaluation.split}`), by a model of {train:,}"
        " training interactions. In brackets: the 95% interval over users."
    )
    return f"{told} The served model has learnt from the others, too." if tested.refit else told


def _figures(tested: TestedModel, stratum: str) -> str:
    scores = tested.scores[stratum]
    ranked = list(scores.values)
    intervals = bootstrap(np.stack([scores.values[name] for name in ranked], axis=1)) if ranked else []
    shown = dict(zip(ranked, intervals, strict=True))
    lines = {name: found[stratum] for name, found in tested.references.items() if stratum in found}

    def value_of(found: Any, metric: str) -> str:
        return format_number(found.mean(metric)) if metric in {*found.values, *found.totals} else "-"

    def own(metric: str) -> str:
        interval = shown.get(metric)
        between = "" if interval is None else f" [{format_number(interval[0])}, {format_number(interval[1])}]"
        return value_of(scores, metric) + between

    rows = [
        [metric_label(metric), own(metric), *(value_of(found, metric) for found in lines.values())]
        for metric in tested.metrics
    ]
    users = f"{len(scores.users):,} users" if len(scores.users) != 1 else "1 user"
    return _table([users, "this model", *lines], rows)


def _limits(parts: ProjectParts, tested: TestedModel, everything: Interactions) -> list[str]:
    settings, metric = parts.settings, tested.metrics[0]
    label = metric_label(metric)
    found = []
    if (behind := _behind(tested)) is not None:
        found.append(behind)
    if {"tail", "all"} <= set(tested.scores):
        tail, whole = (tested.scores[name].mean(metric) for name in ("tail", "all"))
        found.append(
            f"Rare items, which have a fifth of the interactions: {label} {format_number(tail)}, against"
            f" {format_number(whole)} over all items."
        )
    if not tested.places_items:
        found.append("Items without interactions: it does not recommend them. Name a fuser that places them.")
    elif "cold" not in tested.scores:
        found.append(
            "Items without interactions: it places them by their vectors; how well, was not measured"
            " (`[evaluation] cold_items`)."
        )
    if "coverage" in tested.beyond_accuracy:
        found.append(
            f"Showing the whole catalogue: its lists hold {tested.beyond_accuracy['coverage']:.0%} of the items."
        )
    found.append(
        f"Users whom it has not seen: it knows {len(everything.user_ids):,}. Others need a history with the request."
    )
    if not settings.evaluation.split.startswith("temporal"):
        found.append(
            "Telling how it will do tomorrow: test interactions are not the latest of all, so the figures are of a"
            ' world that stands still (`split = "temporal-global"`).'
        )
    return found


def _behind(tested: TestedModel) -> str | None:
    """Say which reference line is not behind the model, if any is."""
    if "all" not in tested.scores:
        return None
    metric, own = tested.metrics[0], tested.scores["all"]
    best: tuple[float, str] | None = None
    for name, found in tested.references.items():
        if "all" in found and metric in {*found["all"].values, *found["all"].totals}:
            value = direction(metric) * found["all"].mean(metric)
            best = max(best or (value, name), (value, name))
    if best is None:
        return None
    value, name = best
    if metric in own.values:
        gains = (own.values[metric] - tested.references[name]["all"].values[metric])[:, None]
        (interval,) = bootstrap(gains)
        ahead, below = (False, False) if interval is None else (interval[0] > 0, interval[1] < 0)
    else:
        ahead = direction(metric) * own.mean(metric) > value
        below = not ahead
    if ahead:
        return None
    shown = f"`{name}` ({metric_label(metric)} {format_number(abs(value))})"
    how = " without any text" if tested.semantic else ""
    if below:
        return f"Items with interactions: {shown} is better{how}. Serve that, unless new items matter most."
    return f"Items with interactions: {shown} is as good{how}, up to chance over users."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (head, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
