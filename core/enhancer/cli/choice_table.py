"""Render the backbones that ``[backbone] use = "auto"`` tried, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from enhancer.cli.formatting import count, duration, number
from enhancer.cli.layout import prose, table

if TYPE_CHECKING:
    from collections.abc import Mapping


def choice_table(choice: Mapping[str, Any], arms: Mapping[str, str] | None = None) -> str:
    """Return a table of the candidates, the best first, and a line on each that was not tried.

    Args:
        choice: What ``--json`` prints as ``choice``.
        arms: Backbone of each arm; None after ``train``.
    """
    tried = [each for each in choice["candidates"] if each["validation"] is not None]
    left_out = [each for each in choice["candidates"] if each["validation"] is None]
    rows = [
        [
            each["label"],
            ", ".join(f"{name} = {value}" for name, value in each["options"].items()) or "defaults",
            number(each["validation"]),
            count(len(each["trials"])),
            duration(sum(trial["seconds"] for trial in each["trials"])),
        ]
        for each in tried
    ]
    head = ["backbone, by auto", "options", f"validation {choice['metric']}", "trials", "time"]
    parts = [table(head, rows, right=[2, 3, 4])]
    if arms:
        used: dict[str, list[str]] = {}
        for arm, backbone in arms.items():
            used.setdefault(backbone, []).append(arm)
        parts.append(prose("; ".join(f"on {backbone}: {', '.join(names)}" for backbone, names in used.items())))
    parts += [prose(f"not tried: {each['label']}: {each['reason']}") for each in left_out]
    return "\n".join(parts)
