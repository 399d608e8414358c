"""Draw plots as inline SVG, without scripts, fonts or requests; colours come from the style sheet of the page.

Every function returns markup that is safe to embed, since all outside text passes through :func:`text`. The view box is
360 units wide: legible on a phone, and several fit side by side on a desktop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enhancer.evaluation.reporting.svg import WIDTH, axis, cut, document, dot, segment, text, tick_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LEFT, _RIGHT = 92, 66
_ROW = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class GainRow:
    """An arm in a plot of gains."""

    label: str
    colour: str
    delta: float
    seeds: Sequence[float]
    """Gain of each seed."""
    interval: tuple[float, float] | None
    """95% interval over seeds."""
    users: tuple[float, float] | None
    """95% interval over users."""
    note: str
    """Text at the right."""
    hollow: bool = False
    """Whether to draw a hollow dot: for a placebo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRow:
    """An arm in a plot of metric values."""

    label: str
    colour: str
    values: Sequence[float]
    """Value of each seed."""
    hollow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A run in a plot of training."""

    label: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    best: float | None = None
    """Epoch whose factors were kept."""


def gains(rows: Sequence[GainRow], label: str) -> str:
    """Draw gains: a dot for each seed, a thick interval over seeds, a thin one over users, and a line at zero."""
    ends = [0.0]
    for row in rows:
        ends += [row.delta, *row.seeds, *(row.interval or ()), *(row.users or ())]
    x, ticks, decimals = axis(min(ends), max(ends), _LEFT, WIDTH - _RIGHT)
    height = _ROW * len(rows) + 34
    bottom = height - 26
    parts = _grid(x, ticks, decimals, bottom, signed=True)
    parts.append(segment(x(0), 4, x(0), bottom, "zero"))
    for number, row in enumerate(rows):
        y = 4 + _ROW * (number + 0.5)
        parts.append(_label(row.label, y))
        if row.users is not None:
            parts.append(segment(x(row.users[0]), y, x(row.users[1]), y, f"thin k{row.colour}"))
        if row.interval is not None:
            parts.append(segment(x(row.interval[0]), y, x(row.interval[1]), y, f"thick k{row.colour}"))
        parts += [dot(x(value), y - 8, 1.8, f"seed k{row.colour}") for value in row.seeds]
        title = f"{row.label}: {row.delta:+.4f}"
        if row.interval is not None:
            title += f", over seeds {row.interval[0]:+.4f} to {row.interval[1]:+.4f}"
        if row.users is not None:
            title += f", over users {row.users[0]:+.4f} to {row.users[1]:+.4f}"
        parts.append(dot(x(row.delta), y, 4.5, f"point k{row.colour}{' hollow' if row.hollow else ''}", title))
        parts.append(f'<text class="note" x="{WIDTH - 2}" y="{y + 4:.1f}" text-anchor="end">{text(row.note)}</text>')
    return document(parts, height, label)


def levels(rows: Sequence[LevelRow], lines: Sequence[tuple[str, float]], label: str) -> str:
    """Draw values as bars from zero, with a dot for each seed and vertical reference lines."""
    top = max([value for row in rows for value in row.values] + [value for _, value in lines] + [1e-9])
    x, ticks, decimals = axis(0.0, top, _LEFT, WIDTH - _RIGHT)
    start = 4 + 13 * len(lines)
    height = start + _ROW * len(rows) + 30
    bottom = height - 26
    parts = _grid(x, ticks, decimals, bottom, top=start)
    for number, row in enumerate(rows):
        y = start + _ROW * (number + 0.5)
        mean = sum(row.values) / len(row.values)
        parts.append(_label(row.label, y))
        hollow = " hollow" if row.hollow else ""
        parts.append(
            f'<rect class="bar k{row.colour}{hollow}" x="{x(0):.1f}" y="{y - 8:.1f}" '
            f'width="{max(x(mean) - x(0), 0.5):.1f}" height="16" rx="3">'
            f"<title>{text(row.label)}: {mean:.4f}</title></rect>"
        )
        parts += [dot(x(value), y, 1.8, "onbar") for value in row.values]
        parts.append(f'<text class="note" x="{WIDTH - 2}" y="{y + 4:.1f}" text-anchor="end">{_short(mean)}</text>')
    # Each label has its own row, so that labels of close lines do not overlap, and lines pass behind labels.
    placed = list(enumerate(sorted(lines, key=lambda line: line[1])))
    parts += [segment(x(value), 5 + 13 * place, x(value), bottom, "reference") for place, (_, value) in placed]
    for place, (name, value) in placed:
        at = x(value)
        anchor, shift = ("end", -4) if at > WIDTH / 2 else ("start", 4)
        parts.append(
            f'<text class="tick halo" x="{at + shift:.1f}" y="{11 + 13 * place}" text-anchor="{anchor}">'
            f"{text(name)} {_short(value)}</text>"
        )
    return document(parts, height, label)


def pairs(
    left: tuple[str, Sequence[float]],
    right: tuple[str, Sequence[float]],
    seeds: Sequence[int],
    colour: str,
    label: str,
) -> str:
    """Draw a line for each seed, from the value of one arm to that of the other."""
    values = [*left[1], *right[1]]
    y, ticks, decimals = axis(min(values), max(values), 150, 18)
    at = (76.0, 204.0)
    parts = []
    for tick in ticks:
        parts.append(segment(44, y(tick), 236, y(tick), "grid"))
        parts.append(
            f'<text class="tick" x="39" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick_text(tick, decimals)}</text>'
        )
    for seed, a, b in zip(seeds, left[1], right[1], strict=True):
        parts.append(segment(at[0], y(a), at[1], y(b), f"pair {'up' if b > a else 'down'} k{colour}"))
        parts.append(dot(at[0], y(a), 3, "point kb", f"{left[0]}/seed{seed}: {a:.4f}"))
        parts.append(dot(at[1], y(b), 3, f"point k{colour}", f"{right[0]}/seed{seed}: {b:.4f}"))
    for place, (name, _) in zip(at, (left, right), strict=True):
        parts.append(f'<text class="label" x="{place}" y="172" text-anchor="middle">{text(cut(name, 12))}</text>')
    return document(parts, 180, label, width=240)


def curves(runs: Sequence[Curve], label: str, y_label: str) -> str:
    """Draw a curve for each run over epochs, with a dot at the epoch that was kept."""
    xs, ys = [value for run in runs for value in run.x], [value for run in runs for value in run.y]
    if not xs:
        return ""
    x, x_ticks, x_decimals = axis(min(0.0, *xs), max(xs), 40, WIDTH - 10)
    y, y_ticks, y_decimals = axis(min(ys), max(ys), 172, 16)
    parts = []
    for tick in y_ticks:
        parts.append(segment(40, y(tick), WIDTH - 10, y(tick), "grid"))
        parts.append(
            f'<text class="tick" x="35" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick_text(tick, y_decimals)}</text>'
        )
    parts += [
        f'<text class="tick" x="{x(tick):.1f}" y="190" text-anchor="middle">{tick_text(tick, x_decimals)}</text>'
        for tick in x_ticks
    ]
    for run in runs:
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(run.x, run.y, strict=True))
        parts.append(
            f'<polyline class="curve k{run.colour}" points="{points}"><title>{text(run.label)}</title></polyline>'
        )
        kept = [(a, b) for a, b in zip(run.x, run.y, strict=True) if a == run.best]
        parts += [dot(x(a), y(b), 2.6, f"point k{run.colour}", f"{run.label}: {b:.4f} at {a:g}") for a, b in kept]
    parts.append(f'<text class="tick" x="40" y="9">{text(y_label)}</text>')
    parts.append(f'<text class="tick" x="{WIDTH - 10}" y="204" text-anchor="end">epoch</text>')
    return document(parts, 208, label)


def scatter(points: Sequence[tuple[str, str, float, float]], label: str, x_label: str, y_label: str) -> str:
    """Draw labelled points.

    Args:
        points: Name, colour, x and y of each point.
        label: Accessible name of the plot.
        x_label: Name of the x axis.
        y_label: Name of the y axis.
    """
    x, x_ticks, x_decimals = axis(0.0, max(point[2] for point in points), 44, WIDTH - 24)
    y, y_ticks, y_decimals = axis(min(point[3] for point in points), max(point[3] for point in points), 164, 22)
    parts = []
    for tick in y_ticks:
        parts.append(segment(44, y(tick), WIDTH - 10, y(tick), "grid"))
        parts.append(
            f'<text class="tick" x="39" y="{y(tick) + 3.5:.1f}" text-anchor="end">{tick_text(tick, y_decimals)}</text>'
        )
    parts += [
        f'<text class="tick" x="{x(tick):.1f}" y="190" text-anchor="middle">{tick_text(tick, x_decimals)}</text>'
        for tick in x_ticks
    ]
    for name, colour, a, b in points:
        parts.append(dot(x(a), y(b), 5, f"point k{colour}", f"{name}: {b:.4f} at {a:.4g}"))
        anchor, shift = ("end", -9) if x(a) > WIDTH * 0.6 else ("start", 9)
        parts.append(
            f'<text class="tick" x="{x(a) + shift:.1f}" y="{y(b) + 4:.1f}" text-anchor="{anchor}">'
            f"{text(cut(name, 16))}</text>"
        )
    parts.append(f'<text class="tick" x="44" y="9">{text(y_label)}</text>')
    parts.append(f'<text class="tick" x="{WIDTH - 10}" y="204" text-anchor="end">{text(x_label)}</text>')
    return document(parts, 208, label)


def _grid(
    x: Callable[[float], float],
    ticks: Sequence[float],
    decimals: int,
    bottom: float,
    *,
    signed: bool = False,
    top: float = 4,
) -> list[str]:
    parts = [segment(x(tick), top, x(tick), bottom, "grid") for tick in ticks]
    parts += [
        f'<text class="tick" x="{x(tick):.1f}" y="{bottom + 14:.1f}" text-anchor="middle">'
        f"{tick_text(tick, decimals, signed=signed)}</text>"
        for tick in ticks
    ]
    return parts


def _label(name: str, y: float) -> str:
    return (
        f'<text class="label" x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">'
        f"{text(cut(name, 13))}<title>{text(name)}</title></text>"
    )


def _short(value: float) -> str:
    return f"{value:.4f}".replace("0.", ".", 1) if 0 <= value < 1 else f"{value:.4f}"
