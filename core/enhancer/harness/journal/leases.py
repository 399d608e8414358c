"""Tell whether the owner of a claim still renews it.

Where both processes have the same clock, the time at which a lease ends says so. A process of another machine, or of
another time namespace, has another clock: its lease has ended once it was not renewed for as long as a lease lasts,
by the clock of the process that looks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.harness import clock
from enhancer.harness.journal.owner_process import has_ended, shares_clock

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLAUSIBLE = 10
"""Leases that end later than this many leases from now were written before the machine was restarted."""


class LeaseWatch:
    """Remembers the leases of owners with another clock. Used by the writer thread of a journal alone.

    Args:
        lease: Seconds that a lease lasts.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: dict[str, tuple[float, float]] = {}
        """End of the lease of each owner, as last written, and when it was first seen."""

    def held(self, ends: Mapping[str, float], shared: float | None = None) -> set[str]:
        """Return the owners that hold their leases.

        Args:
            ends: End of the latest lease of each owner, by the owner's clock.
            shared: Time by a clock that all owners share, by which the leases then end.
        """
        if shared is not None:
            return {owner for owner, end in ends.items() if shared < end and not has_ended(owner)}
        now = clock.lease_clock()
        return {owner for owner, end in ends.items() if self._is_held(owner, end, now)}

    def _is_held(self, owner: str, end: float, now: float) -> bool:
        if shares_clock(owner):
            return now < end <= now + _PLAUSIBLE * self._lease and not has_ended(owner)
        last, since = self._seen.get(owner, (None, now))
        if last != end:
            since = now
            self._seen[owner] = (end, now)
        return now - since < self._lease
