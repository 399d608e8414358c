"""Read rate limits from the headers of a provider's answers."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_WINDOW = 120.0
"""Longest window in seconds over which the remaining calls are spread."""
_NEVER = float("-inf")
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)


class Remaining(NamedTuple):
    """Remaining requests and tokens until the next reset of a rate limit."""

    requests: float | None = None
    """Number of requests left."""
    tokens: float | None = None
    """Number of tokens left."""
    requests_reset: float | None = None
    """Seconds until the number of requests is reset."""
    tokens_reset: float | None = None
    """Seconds until the number of tokens is reset."""
    requests_limit: float | None = None
    """Number of requests after a reset."""
    tokens_limit: float | None = None
    """Number of tokens after a reset."""


def remaining(headers: Mapping[str, str]) -> Remaining | None:
    """Parse ``x-ratelimit-{remaining,reset,limit}-*`` headers. Invalid values are ignored; None if nothing is left.

    >>> remaining({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2.5s"})[:4]
    (0.0, None, 62.5, None)
    """
    if not headers:
        return None
    found = Remaining(
        _count(headers.get("x-ratelimit-remaining-requests")),
        _count(headers.get("x-ratelimit-remaining-tokens")),
        duration(headers.get("x-ratelimit-reset-requests")),
        duration(headers.get("x-ratelimit-reset-tokens")),
        _count(headers.get("x-ratelimit-limit-requests")),
        _count(headers.get("x-ratelimit-limit-tokens")),
    )
    return None if found[:2] == (None, None) == found[4:] else found


def duration(text: str | None) -> float | None:
    """Parse a duration such as ``"20ms"``, ``"6m0s"`` or ``"1.5"`` into seconds; None for anything else."""
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
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return None
    return float(text)


class Allowance:
    """Paces calls by one rate limit of the provider: once half of it is used, the rest is spread until its reset.

    This suits fixed windows, for which the rest lasts until the reset, and token buckets, for which the rate settles at
    the refill rate. A limit without a remaining count is treated as a limit per minute.
    """

    def __init__(self) -> None:
        self._left = math.inf
        self._until = _NEVER
        self._next = _NEVER
        self._rate: float | None = None

    def update(
        self, left: float | None, limit: float | None, reset: float | None, *, in_flight: float, now: float
    ) -> None:
        """Update the limit from the headers of an answer.

        Args:
            left: Remaining amount.
            limit: Amount after a reset.
            reset: Seconds until the reset.
            in_flight: Amount used by other calls in flight, which ``left`` may not include yet.
            now: Current time in seconds.
        """
        self._rate = None
        if left is None or reset is None:
            if left is None and limit:
                self._rate = limit / 60.0
            return
        scarce = left - in_flight < (limit / 2 if limit else 4 * in_flight)
        # The rest of a limit of hours or days is used at once, so that the run gets as far as possible now.
        if not scarce or left <= 0 or not 0 < reset <= MAX_WINDOW:
            self._left, self._until, self._next = math.inf, _NEVER, _NEVER
            return
        self._left, self._until = max(left - in_flight, 1.0), now + reset
        self._next = min(self._next, self._until)

    def paces(self, now: float) -> bool:
        """Check whether calls are paced, so that each answer's headers count."""
        return self._rate is not None or now < self._until

    def wait(self, now: float) -> float:
        """Return the seconds until the next call may start."""
        return self._next - now if self._next > now else 0.0

    def take(self, amount: float, now: float) -> None:
        """Record a call that uses ``amount``."""
        begin = max(self._next, now)
        if self._rate is not None:
            self._next = begin + amount / self._rate
        elif now < self._until:
            share = amount / self._left
            self._next = self._until if share >= 1.0 else begin + (self._until - begin) * share
            self._left = max(self._left - amount, 1.0)
