"""The time as records and the ledger write it."""

from __future__ import annotations

import time
from datetime import UTC, datetime

_latest = ""


def now() -> str:
    """UTC, ISO 8601, to the millisecond; texts of two times compare as the times do.

    Never earlier than what it said before in this process, whatever happens to the machine's clock: whoever compares
    two of its times learns what came first.
    """
    global _latest  # noqa: PLW0603 - the one thing that it remembers; a race costs a millisecond of order
    told = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    _latest = max(_latest, told)
    return _latest


def lease_clock() -> float:
    """Seconds that all processes of the machine count alike, and that no setting of its clock moves.

    For leases: SQLite's write-ahead log works on one machine only, so no other's clock has to be met.
    """
    return time.monotonic()
