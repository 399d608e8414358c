"""Render our metrics beside those of another library for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.cli.formatting import number
from enhancer.cli.layout import prose, table

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTES = {"trec_eval": "Ties are in our drawn order here; trec_eval orders them by descending id."}


def metrics_like_table(compared: Mapping[str, Any]) -> str:
    """Render the values over all warm items: a row for each arm, two columns for each metric.

    Args:
        compared: As ``enhancer ablate --metrics-like LIBRARY --json`` prints under ``metrics_like``.
    """
    library, arms = compared["library"], compared["strata"].get("all", {})
    metrics = list(next(iter(arms.values()), {}))
    if not metrics:
        return prose(f"none of the metrics is one of a ranking, so {library} has no value to compare")
    head = ["arm", *(name for metric in metrics for name in (metric, f"{metric} of {library}"))]
    rows = []
    for arm, values in arms.items():
        pairs = [(values[metric]["ours"], values[metric]["theirs"]) for metric in metrics]
        rows.append([arm, *("-" if value is None else number(value) for pair in pairs for value in pair)])
    parts = [table(head, rows, right=range(1, len(head)))]
    if library in _NOTES:
        parts.append(prose(_NOTES[library]))
    return "\n\n".join(parts)
