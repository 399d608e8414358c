"""Format counts, prices, times and metrics for the terminal."""

from __future__ import annotations

import math
from typing import Any

_HOUR, _MINUTE = 3600, 60


def count(value: float | None) -> str:
    """Format a count; a dash where it is unknown.

    >>> count(12345), count(None)
    ('12,345', '-')
    """
    return "-" if value is None else f"{value:,.0f}"


def counted(number: int, noun: str) -> str:
    """Format a count with its noun, in the plural where needed.

    >>> counted(1, "fault"), counted(1200, "fault"), counted(0, "entity")
    ('1 fault', '1,200 faults', '0 entities')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}s"


def dollars(value: float | None) -> str:
    """Format a price in USD; amounts below one dollar have four decimals.

    >>> dollars(12.5), dollars(0.0021), dollars(0), dollars(None)
    ('$12.50', '$0.0021', '$0.00', 'unknown')
    """
    if value is None:
        return "unknown"
    return f"${value:,.2f}" if value == 0 or value >= 1 else f"${value:.4f}"


def duration(seconds: float | None) -> str:
    """Format a duration.

    >>> duration(0.31), duration(42), duration(192), duration(7500), duration(None)
    ('0.3s', '42s', '3m12s', '2h05m', '-')
    """
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"


def number(value: Any) -> str:
    """Format a number of a result; four decimals unless it is an integer.

    >>> number(0.31415926), number(3), number(None), number(float("nan")), number("x")
    ('0.3142', '3', '-', '-', 'x')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if math.isfinite(value) else "-"
