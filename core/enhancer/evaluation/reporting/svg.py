"""Primitives of plots as SVG: axes, lines, dots and text. All outside text passes through :func:`text`."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WIDTH = 360
"""Width of a plot: legible on a phone, and several fit side by side on a desktop."""


def text(value: object) -> str:
    """Escape a value for markup."""
    return escape(str(value), quote=True)


def document(parts: Sequence[str], height: float, label: str, width: float = WIDTH) -> str:
    """Return the plot.

    Args:
        parts: Its marks, the lowest first.
        height: Height of the view box.
        label: Accessible name.
        width: Width of the view box.
    """
    body = "".join(parts)
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{text(label)}">{body}</svg>'


def axis(low: float, high: float, start: float, end: float) -> tuple[Callable[[float], float], list[float], int]:
    """Return a linear scale that covers the values with a margin, its round ticks, and their number of decimals."""
    if high - low < 1e-9:
        middle = abs(high) or 0.01
        low, high = low - 0.05 * middle, high + 0.05 * middle
    pad = 0.04 * (high - low)
    low, high = (low if low == 0 else low - pad), high + pad
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if abs(step / power - 2.5) < 1e-9 else 0)
    first = math.ceil(low / step - 1e-9)
    ticks = [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]

    def scale(value: float) -> float:
        return start + (value - low) / (high - low) * (end - start)

    return scale, ticks, decimals


def segment(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Draw a line of a CSS class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def dot(x: float, y: float, r: float, kind: str, title: str = "") -> str:
    """Draw a circle of a CSS class, with a tooltip."""
    inner = f"<title>{text(title)}</title>" if title else ""
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="{r}">{inner}</circle>'


def cut(name: str, length: int) -> str:
    """Shorten a name to a number of characters."""
    return name if len(name) <= length else name[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"


def tick_text(value: float, decimals: int, *, signed: bool = False) -> str:
    """Format the value of a tick."""
    shown = f"{value:.{decimals}f}"
    if float(shown) == 0:
        return "0"
    shown = f"+{shown}" if signed and value > 0 else shown
    return shown.replace("0.", ".", 1).replace("-", "\N{MINUS SIGN}") if abs(value) < 1 else shown
