"""Bound what is in flight until a model has proven that it can answer: a run in vain then costs few calls."""

from __future__ import annotations

import asyncio
from collections import deque

_CALLS = 24
"""Requests of a first wave, each with what is asked again after it."""
_FEWEST = 8
"""The same for requests about many entities."""


class FirstWave:
    """Bounds the requests that are worked on at once. For one event loop.

    A request counts until it has its last answer. Otherwise those that wait would be sent before any is asked again,
    and whether asking again helps would be known only after all of them.

    Args:
        size: Largest number of requests at once.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    @classmethod
    def of(cls, concurrency: int, entities: int = 1) -> FirstWave | None:
        """Return the first wave of a run; None if the run has no more in flight anyway.

        Args:
            concurrency: Largest number of calls in flight.
            entities: Entities in one request.
        """
        size = max(_FEWEST, _CALLS // entities)
        return cls(size) if size < concurrency else None

    async def enter(self) -> None:
        """Wait until a request may begin. :meth:`leave` must follow."""
        while self._free <= 0:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter
        self._free -= 1

    def leave(self) -> None:
        """Count the end of a request."""
        self._free += 1
        self._wake(1)

    def end(self) -> None:
        """Let all requests begin that wait, and those that come."""
        self._free += 1 << 30
        self._wake(len(self._waiting))

    def _wake(self, count: int) -> None:
        while count and self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():  # it is done if its task was cancelled
                waiter.set_result(None)
                count -= 1
