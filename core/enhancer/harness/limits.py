"""What a provider says about its limits, in the headers of its answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Remaining:
    """What may still be sent before the limit's next reset."""

    requests: float | None = None
    tokens: float | None = None
    requests_reset: float | None = None
    """Seconds until the count of requests is full again."""
    tokens_reset: float | None = None


def remaining(headers: Mapping[str, str]) -> Remaining | None:
    """Read ``x-ratelimit-remaining-*`` and ``x-ratelimit-reset-*``; None where there are none, junk is ignored.

    >>> remaining({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"})
    Remaining(requests=0.0, tokens=None, requests_reset=62.5, tokens_reset=None)
    """
    if not headers:
        return None
    found = Remaining(
        _count(headers.get("x-ratelimit-remaining-requests")),
        _count(headers.get("x-ratelimit-remaining-tokens")),
        duration(headers.get("x-ratelimit-reset-requests")),
        duration(headers.get("x-ratelimit-reset-tokens")),
    )
    return None if found.requests is None and found.tokens is None else found


def duration(text: str | None) -> float | None:
    """Seconds of ``"20ms"``, ``"6m0s"`` or ``"1.5"``; None for anything else."""
    if text is None:
        return None
    text = text.strip()
    plain = _count(text)
    if plain is not None:
        return plain
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT[unit] for number, unit in parts)


def _count(text: str | None) -> float | None:
    if text is None or not re.fullmatch(r"\d{1,15}(?:\.\d{1,9})?", text.strip(), re.ASCII):
        return None
    return float(text)
