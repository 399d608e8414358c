"""Bound what a process holds: connections, and bytes of bodies and answers."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from enhancer.serving.service.answers import FullError, error_answer

if TYPE_CHECKING:
    from enhancer.serving.service.answers import Answer
    from enhancer.serving.service.metrics import Metrics
    from enhancer.serving.service.settings import Limits

_log = logging.getLogger("enhancer.serving")
_BURST_SECONDS: Final = 10.0
"""Quiet seconds after which refusals are a new burst, which is logged again."""
_HINT: Final = "try again in a second"


class Admission:
    """Counts connections and bytes, and refuses more than the limits. Each burst of refusals is one line of the log.

    Args:
        limits: The limits.
        metrics: Numbers of this process.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._limits, self._metrics = limits, metrics
        self._connections = self._held = 0
        self._last_refusal: dict[str, float] = {}

    def connect(self) -> Answer | None:
        """Count a connection; return the answer to it if it is one too many."""
        limit = self._limits.connections
        if self._connections >= limit:
            self._refuse("connections_refused_total", f"{limit:,} connections are open, further ones are refused")
            return error_answer(FullError(f"{limit:,} connections are open", hint=_HINT))
        self._connections += 1
        self._metrics.add("connections")
        return None

    def disconnect(self) -> None:
        """Count a connection that has ended."""
        self._connections -= 1
        self._metrics.add("connections", -1)

    def hold(self, amount: int) -> Answer | None:
        """Count bytes that are kept; return an answer, and count nothing, if they are too many."""
        limit = self._limits.held
        if self._held + amount > limit:
            self._refuse("bodies_refused_total", f"bodies and answers of {limit:,} bytes are held, more are refused")
            return error_answer(FullError(f"{limit:,} bytes of other requests are held", hint=_HINT))
        self._held += amount
        self._metrics.add("held_bytes", amount)
        return None

    def release(self, amount: int) -> None:
        """Count bytes that are kept no more."""
        self._held -= amount
        self._metrics.add("held_bytes", -amount)

    def _refuse(self, counter: str, message: str) -> None:
        self._metrics.add(counter)
        now = time.monotonic()
        if now - self._last_refusal.get(counter, -_BURST_SECONDS) >= _BURST_SECONDS:
            _log.warning("%s until some are done", message)
        self._last_refusal[counter] = now
