"""Draw gain against cost: the frontier as a line from rung to rung, what is not on it as pale dots."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from enhancer.evaluation.reporting.svg import axis, cut, document, dot, segment, text, tick_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_WIDTH, _LEFT, _RIGHT = 460, 52, 14
_TOP, _BOTTOM = 20, 214
_LABEL, _ROOM = 13, 24
"""Least distance of two labels, and longest label in characters."""
_NARROW = 6.2
"""Width of a character of a label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontierPoint:
    """A rung in the plot."""

    label: str
    cost: float
    gain: float
    interval: tuple[float, float] | None
    """95% interval of the gain."""
    on_frontier: bool
    placebo: float | None = None
    """Gain of shuffled vectors of the same width; None if they were not run."""
    colour: str = "0"
    named: bool = False
    """Whether it is named although it is not on the frontier."""


def frontier_plot(points: Sequence[FrontierPoint], label: str, x_label: str, y_label: str) -> str:
    """Draw rungs by cost and gain.

    A step line joins the rungs on the frontier, which are named; a hollow dot at the same cost is its placebo. Others
    are pale, without interval, and named by their tooltip alone unless they are ``named``. The grey band around zero is
    as wide as the median interval: what lies in it may be chance.

    Args:
        points: The rungs, that of nothing among them.
        label: Accessible name of the plot.
        x_label: Unit of the costs.
        y_label: Name of the y axis.
    """
    ends = [0.0, *(point.gain for point in points)]
    ends += [end for point in points if point.on_frontier for end in point.interval or ()]
    ends += [point.placebo for point in points if point.placebo is not None]
    x, x_ticks, x_decimals = axis(0.0, max(*(point.cost for point in points), 1e-9), _LEFT, _WIDTH - _RIGHT)
    y, y_ticks, y_decimals = axis(min(ends), max(ends), _BOTTOM, _TOP)
    parts = _band(points, y)
    for tick in y_ticks:
        parts.append(segment(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), "grid"))
        shown = tick_text(tick, y_decimals, signed=True)
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{shown}</text>')
    parts += [
        f'<text class="tick" x="{x(tick):.1f}" y="{_BOTTOM + 16}" text-anchor="middle">'
        f"{tick_text(tick, x_decimals)}</text>"
        for tick in x_ticks
    ]
    parts.append(segment(_LEFT, y(0), _WIDTH - _RIGHT, y(0), "zero"))
    frontier = sorted((point for point in points if point.on_frontier), key=lambda point: (point.cost, point.gain))
    for point in points:
        if not point.on_frontier:
            kind = f"point k{point.colour}" if point.named else "pale"
            parts.append(dot(x(point.cost), y(point.gain), 3.4, kind, _title(point, x_label)))
    parts.append(_steps([(x(point.cost), y(point.gain)) for point in frontier], x(max(point.cost for point in points))))
    for point in frontier:
        at = x(point.cost)
        if point.interval is not None:
            parts.append(segment(at, y(point.interval[0]), at, y(point.interval[1]), f"thick k{point.colour}"))
        if point.placebo is not None:
            parts.append(
                dot(at, y(point.placebo), 3.6, "point kp hollow", f"{point.label}, shuffled: {point.placebo:+.4f}")
            )
        parts.append(dot(at, y(point.gain), 5, f"point k{point.colour}", _title(point, x_label)))
    named = [point for point in points if point.on_frontier or point.named]
    parts += _labels([(x(point.cost), y(point.gain), point.label) for point in named])
    parts.append(f'<text class="tick" x="{_LEFT}" y="10">{text(y_label)}</text>')
    parts.append(
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_BOTTOM + 31}" text-anchor="end">{text(x_label)}</text>'
    )
    return document(parts, _BOTTOM + 36, label, width=_WIDTH)


def _band(points: Sequence[FrontierPoint], y: Callable[[float], float]) -> list[str]:
    """Return the band of gains that may be chance; none without intervals."""
    halves = sorted((point.interval[1] - point.interval[0]) / 2 for point in points if point.interval is not None)
    if not halves:
        return []
    half = halves[len(halves) // 2]
    top, bottom = max(y(half), float(_TOP)), min(y(-half), float(_BOTTOM))
    size = f'x="{_LEFT}" y="{top:.1f}" width="{_WIDTH - _RIGHT - _LEFT}" height="{max(bottom - top, 0.5):.1f}"'
    return [f'<rect class="band" {size}><title>within {half:.4f}: may be chance</title></rect>']


def _steps(points: Sequence[tuple[float, float]], end: float) -> str:
    """Return the frontier: the best gain that each amount of money buys."""
    path = [points[0]]
    for (_, before), (at, gain) in pairwise(points):
        path += [(at, before), (at, gain)]
    path.append((end, points[-1][1]))
    joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in path)
    return f'<polyline class="frontier" points="{joined}"/>'


def _labels(points: Sequence[tuple[float, float, str]]) -> list[str]:
    """Return the names of points, each beside its own and none over another."""
    placed: list[tuple[float, float, float]] = []
    parts = []
    for at, height, name in sorted(points, key=lambda point: point[1]):
        shown = cut(name, _ROOM)
        width = _NARROW * len(shown)
        before = at + 9 + width > _WIDTH
        start = at - 9 - width if before else at + 9
        level = height - 8
        while any(
            abs(level - other) < _LABEL and start < right and left < start + width for other, left, right in placed
        ):
            level += _LABEL
        placed.append((level, start, start + width))
        parts.append(
            f'<text class="label halo" x="{at - 9 if before else at + 9:.1f}" y="{level + 4:.1f}" '
            f'text-anchor="{"end" if before else "start"}">{text(shown)}</text>'
        )
    return parts


def _title(point: FrontierPoint, unit: str) -> str:
    ends = "" if point.interval is None else f", 95% interval {point.interval[0]:+.4f} to {point.interval[1]:+.4f}"
    return f"{point.label}: {point.gain:+.4f}{ends}, at {point.cost:,.4g} {unit}"
