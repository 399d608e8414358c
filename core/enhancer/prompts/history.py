"""A user's history, as a prompt shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_TITLE = 200


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One thing that a user chose."""

    title: str
    rating: float | None = None


def history_text(lines: Iterable[HistoryLine]) -> str:
    """Write a history, a line each, in the order given (most recent first is the caller's business).

    >>> print(history_text([HistoryLine("Heat (1995)", 5.0), HistoryLine("Babe (1995)")]))
    - Heat (1995) — 5
    - Babe (1995)
    """
    shown = []
    for line in lines:
        title = " ".join(line.title.split())
        if len(title) > _MAX_TITLE:
            title = title[: _MAX_TITLE - 1] + "…"
        shown.append(f"- {title}" if line.rating is None else f"- {title} — {line.rating:g}")
    return "\n".join(shown)
