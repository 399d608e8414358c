"""The result of one check of a diagnosis, and its level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts.record import Kind

Level = Literal["good", "fair", "poor", "unknown"]
Topic = Literal[
    "coverage",
    "duplicates",
    "near-duplicates",
    "echo",
    "length",
    "spread",
    "agreement",
    "alone",
    "leak",
    "facts",
    "frames",
    "aspects",
    "claims",
    "memory",
]
"""Subject of a check: a stable key for programs, whereas its name is for people."""

BADNESS = {"good": 0, "unknown": 1, "fair": 2, "poor": 3}
"""Order of the levels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagnosticCheck:
    """Result of one check."""

    topic: Topic
    name: str
    kind: Kind
    level: Level
    words: str
    source: str = ""
    """Input of the vectors (``profile``, ``text``, ``profile + text``), or aspect of the notes; else empty."""
    values: Mapping[str, Any] = field(default_factory=dict)


def at_least(value: float, edges: tuple[float, float]) -> Level:
    """Return the level of a value that must be large: the edges are the minima of good and fair."""
    return "good" if value >= edges[0] else "fair" if value >= edges[1] else "poor"


def at_most(value: float, edges: tuple[float, float]) -> Level:
    """Return the level of a value that must be small: the edges are the maxima of good and fair."""
    return "good" if value <= edges[0] else "fair" if value <= edges[1] else "poor"


def percent(share: float) -> str:
    """Format a share.

    >>> percent(0.5), percent(0.0123), percent(0.9999), percent(1.0), percent(0)
    ('50%', '1.2%', '99.9%', '100%', '0%')
    """
    if share in (0, 1):
        return f"{share:.0%}"
    shown = min(max(share, 0.0001), 0.999) * 100
    return f"{shown:.2f}%" if shown < 0.1 else f"{shown:.1f}%" if shown < 10 or shown > 99 else f"{shown:.0f}%"
