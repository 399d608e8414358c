"""Format a user's history for a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_TITLE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One item in a user's history."""

    title: str
    rating: float | None = None


def history_text(lines: Iterable[HistoryLine]) -> str:
    """Format a history as one line per item, in the given order.

    >>> print(history_text([HistoryLine("Heat (1995)", 5.0), HistoryLine("Babe (1995)")]))
    - Heat (1995) — 5
    - Babe (1995)
    """
    formatted = []
    for line in lines:
        title = " ".join(line.title.split())
        if len(title) > _MAX_TITLE_LENGTH:
            title = title[: _MAX_TITLE_LENGTH - 1] + "…"
        formatted.append(f"- {title}" if line.rating is None else f"- {title} — {line.rating:g}")
    return "\n".join(formatted)
