"""Phrases about comparisons that all sentences of a verdict share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.evaluation.judging.formatting import format_number

if TYPE_CHECKING:
    from enhancer.evaluation.judging.findings import Comparison

MINUS = "\N{MINUS SIGN}"


def p_value(comparison: Comparison) -> str:
    """Return the adjusted p-value, such as ``p = .012``."""
    return format_p(1.0 if comparison.p_adjusted is None else comparison.p_adjusted)


def format_p(p: float) -> str:
    """Format a p-value.

    >>> format_p(0.0119), format_p(0.00001)
    ('p = .012', 'p < .001')
    """
    shown = format_number(p, 3)
    return f"p < {shown[1:]}" if shown.startswith("<") else f"p = {shown}"


def p_value_if_known(comparison: Comparison | None) -> str:
    """Return the adjusted p-value in parentheses, after a space; empty if it is unknown."""
    return f" ({p_value(comparison)})" if comparison is not None and comparison.p_adjusted is not None else ""


def percentage(relative: float) -> str:
    """Format a relative change.

    >>> percentage(0.0123), percentage(-0.5)
    ('+1.2%', '−50.0%')
    """
    return f"{relative:+.1%}".replace("-", MINUS)


def size_of(comparison: Comparison) -> str:
    """Return the relative change, or the difference if the baseline is 0."""
    delta, relative = comparison.paired.delta, comparison.relative
    return format_number(delta).replace("-", MINUS) if relative is None else percentage(relative)


def change(comparison: Comparison) -> str:
    """Return the relative change after a comma, such as ``, +3.1%``; empty if the baseline is 0."""
    if comparison.relative is None:
        return ""
    if comparison.relative >= 9.95:
        return f", {1 + comparison.relative:.0f} times as much"
    return f", {percentage(comparison.relative)}"


def enumerate_words(words: list[str]) -> str:
    """Join words by commas and ``and``."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)
