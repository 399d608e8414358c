"""What a provider says about its limits, in the headers of its answers."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_WINDOW = 120.0
"""Seconds. What is left of a longer window is not spread over it."""
_NEVER = float("-inf")
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII)
_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|d)", re.ASCII)


class Remaining(NamedTuple):
    """What may still be sent before the limit's next reset."""

    requests: float | None = None
    tokens: float | None = None
    requests_reset: float | None = None
    """Seconds until the count of requests is full again."""
    tokens_reset: float | None = None
    requests_limit: float | None = None
    """How many requests there are when the count is full."""
    tokens_limit: float | None = None


def remaining(headers: Mapping[str, str]) -> Remaining | None:
    """Read ``x-ratelimit-{remaining,reset,limit}-*``; None where there are none, junk is ignored.

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
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return None
    return float(text)


class Allowance:
    """What the provider's headers leave of one limit, spent evenly until its reset once half of it is gone.

    That fits a window that fills up all at once (the rest lasts until then) as well as a bucket that fills up steadily
    (what is spent settles at what flows in). Without a count of what remains, a limit alone is taken for one a minute.
    """

    def __init__(self) -> None:
        self._left = math.inf
        self._until = _NEVER
        self._next = _NEVER
        self._rate: float | None = None

    def hear(self, left: float | None, limit: float | None, reset: float | None, *, out: float, now: float) -> None:
        """Take what an answer told.

        Args:
            left: What remains.
            limit: What there is when the count is full.
            reset: Seconds until then.
            out: What the other calls in flight use, which may not be counted in ``left`` yet.
            now: Seconds.
        """
        self._rate = None
        if left is None or reset is None:
            if left is None and limit:
                self._rate = limit / 60.0
            return
        scarce = left - out < (limit / 2 if limit else 4 * out)
        # What is left of hours or days is used at once: who waits for a run wants it to get as far as it can now.
        if not scarce or left <= 0 or not 0 < reset <= LONGEST_WINDOW:
            self._left, self._until, self._next = math.inf, _NEVER, _NEVER
            return
        self._left, self._until = max(left - out, 1.0), now + reset
        self._next = min(self._next, self._until)

    def wait(self, now: float) -> float:
        """Seconds until something may go."""
        return self._next - now if self._next > now else 0.0

    def take(self, amount: float, now: float) -> None:
        """Something went that uses ``amount``."""
        begin = max(self._next, now)
        if self._rate is not None:
            self._next = begin + amount / self._rate
        elif now < self._until:
            share = amount / self._left
            self._next = self._until if share >= 1.0 else begin + (self._until - begin) * share
            self._left = max(self._left - amount, 1.0)
