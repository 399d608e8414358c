"""The one retry layer: which failures are tried again, how often, and after how long. No library below retries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from enhancer.errors import ConnectionFailedError, DeadlineError, RateLimitError, ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TRANSIENT = (RateLimitError, ServerError, ConnectionFailedError, DeadlineError)
"""What may go away by itself. Everything else is raised at once."""
_PATIENT_FACTOR = 10
"""A 429 is the gate's business (it slows down); the call's own attempts are spent on it ten times more slowly."""


def is_transient(error: BaseException) -> bool:
    """Whether trying again can help."""
    return isinstance(error, TRANSIENT)


class _Stop:
    """Counts attempts, of which a 429 is only a small part."""

    def __init__(self, max_attempts: int) -> None:
        self._most = max_attempts

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        spent: float = getattr(state, "spent", 0.0)
        spent += 1 / _PATIENT_FACTOR if isinstance(error, RateLimitError) else 1
        state.spent = spent  # type: ignore[attr-defined]
        return spent >= self._most - 1e-9


def retrying(
    max_attempts: int,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    initial: float = 0.5,
    longest: float = 30.0,
) -> AsyncRetrying:
    """Full-jitter exponential back-off over transient failures.

    Retry-After is not waited for here: the gate holds every call back, so that no other worker runs into it either.

    Args:
        max_attempts: Tries in all.
        sleep: Waits.
        initial: The first back-off lasts up to this many seconds.
        longest: No back-off lasts longer.
    """

    async def pause(seconds: float) -> None:
        await sleep(seconds)

    return AsyncRetrying(
        stop=_Stop(max_attempts),
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=initial, max=longest),
        sleep=pause,
        reraise=True,
    )
