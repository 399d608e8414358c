"""Provide the time for records, the ledger and leases."""

from __future__ import annotations

import time

_latest = ""
_second = (0, "")
"""Last whole second that was asked for, and its text: a second sees thousands of answers."""


def now() -> str:
    """Return the current time in UTC as ISO 8601 text with milliseconds, which sorts chronologically.

    Within a process the result never decreases, even if the system clock is set back, so texts can be compared to order
    events.
    """
    global _latest, _second  # noqa: PLW0603 - the only state; a race costs a millisecond of order
    seconds = time.time()
    second = int(seconds)
    known, text = _second
    if known != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        _second = (second, text)
    current = f"{text}.{int(1000 * (seconds - second)):03d}Z"
    _latest = max(_latest, current)
    return _latest


def lease_clock() -> float:
    """Return monotonic seconds that are the same in all processes of the machine, for leases.

    SQLite's write-ahead log works on one machine only, so clocks of other machines do not matter.
    """
    return time.monotonic()
