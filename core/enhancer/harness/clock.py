"""Provide the time for records, the ledger and leases."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_latest = ""


def now() -> str:
    """Return the current time in UTC as ISO 8601 text with milliseconds, which sorts chronologically.

    Within a process the result never decreases, even if the system clock is set back, so texts can be compared to order
    events.
    """
    global _latest  # noqa: PLW0603 - the only state; a race costs a millisecond of order
    current = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    _latest = max(_latest, current)
    return _latest


def lease_clock() -> float:
    """Return monotonic seconds that are the same in all processes of the machine, for leases.

    SQLite's write-ahead log works on one machine only, so clocks of other machines do not matter.
    """
    return time.monotonic()
