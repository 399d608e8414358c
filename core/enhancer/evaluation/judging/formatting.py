"""Format metric names and values for people."""

from __future__ import annotations


def metric_label(metric: str) -> str:
    """Return a metric's name as it is usually written.

    >>> metric_label("ndcg@10"), metric_label("recall@20")
    ('NDCG@10', 'Recall@20')
    """
    name, at, k = metric.lower().partition("@")
    names = {"ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "auc": "AUC", "gauc": "GAUC", "logloss": "log loss"}
    return f"{names.get(name, name.capitalize())}{at}{k}"


def format_change(relative: float) -> str:
    """Format a relative change in a few characters.

    >>> format_change(0.0312), format_change(-1.5), format_change(11.2)
    ('+3.1%', '−150%', '×12')
    """
    if relative >= 9.95:
        return f"×{1 + relative:.0f}"  # noqa: RUF001  multiplication sign
    shown = f"{relative:+.0%}" if abs(relative) >= 0.995 else f"{relative:+.1%}"
    return shown.replace("-", "\N{MINUS SIGN}")


def format_number(value: float, digits: int = 4) -> str:
    """Format a number without the leading zero, as is common in papers.

    >>> format_number(0.32714), format_number(0.0003, 3), format_number(-0.02), format_number(1.0)
    ('.3271', '<.001', '-.0200', '1.0000')
    """
    if 0 < value < 0.5 * 10**-digits:
        return f"<.{'0' * (digits - 1)}1"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
