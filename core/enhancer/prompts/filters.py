"""Filters of template expressions. Each limits the length of its result."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2.filters import do_title

from enhancer.prompts.quoting import MAX_VALUE

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ELEMENTS = 1000
"""Maximum length of a list, and so of a loop."""


class Filter(NamedTuple):
    """A filter and the number of arguments that it takes beside the value."""

    function: Callable[..., Any]
    min_arguments: int
    max_arguments: int


def list_elements(value: object) -> list[str]:
    """Return the elements of a list for a loop.

    Raises:
        TypeError: The value is not a list.
    """
    if not isinstance(value, list):
        message = f"a loop needs a list, not {type(value).__name__}: use the filter 'lines' or 'split'"
        raise TypeError(message)
    return value[:MAX_ELEMENTS]


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def bounded(value: Any, *arguments: Any) -> Any:
        result = function(value, *arguments)
        if isinstance(result, str):
            return result[:MAX_VALUE]
        return result[:MAX_ELEMENTS] if isinstance(result, list) else result

    return bounded


def _default(value: Any, other: Any) -> Any:
    return other if value is None or value in ("", []) else value


def _replace(value: Any, old: str, new: str) -> str:
    # Without a limit, a long replacement for a short text multiplies the length before the result can be cut.
    return str(value).replace(str(old), str(new), MAX_VALUE // max(1, len(str(new))) + 1)


def _truncate(value: Any, length: int) -> str:
    text = str(value)
    return text if len(text) <= length else text[: max(0, int(length) - 1)].rstrip() + "…"


def _split(value: Any, separator: str | None = None) -> list[str]:
    parts = str(value).split(separator or None, MAX_ELEMENTS)
    return [part.strip() for part in parts if part.strip()]


def _lines(value: Any) -> list[str]:
    return [line for line in str(value).splitlines() if line.strip()]


def _join(value: Any, separator: str = ", ") -> str:
    return str(separator).join(map(str, list_elements(value)))


def _first(value: Any) -> Any:
    return next(iter(value), "")


def _last(value: Any) -> Any:
    return value[-1] if value else ""


def _int(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        number = _float(value)
        return int(number) if abs(number) < float("inf") else 0


def _float(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return number if number == number else 0.0  # noqa: PLR0124 - excludes NaN


def _entry(function: Callable[..., Any], least: int = 0, most: int = 0) -> Filter:
    return Filter(_bounded(function), least, most)


FILTERS: dict[str, Filter] = {
    "capitalize": _entry(lambda value: str(value).capitalize()),
    "default": _entry(_default, 1, 1),
    "first": _entry(_first),
    "float": _entry(_float),
    "int": _entry(_int),
    "join": _entry(_join, 0, 1),
    "last": _entry(_last),
    "length": _entry(len),
    "lines": _entry(_lines),
    "lower": _entry(lambda value: str(value).lower()),
    "replace": _entry(_replace, 2, 2),
    "round": _entry(round, 0, 1),
    "sort": _entry(lambda value: sorted(list_elements(value))),
    "split": _entry(_split, 0, 1),
    "title": _entry(lambda value: do_title(str(value))),
    "trim": _entry(lambda value: str(value).strip()),
    "truncate": _entry(_truncate, 1, 1),
    "unique": _entry(lambda value: list(dict.fromkeys(list_elements(value)))),
    "upper": _entry(lambda value: str(value).upper()),
}
"""Filters by name."""
