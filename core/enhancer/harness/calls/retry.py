"""The one retry layer: which failures are tried again, how often, and after how long. No library below retries."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from enhancer.errors import ConnectionFailedError, DeadlineError, ProviderError, RateLimitError, ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
BACKOFF_SECONDS = 0.5
"""The first wait after a failure lasts up to so long; each further one up to twice as long."""
_LONGEST_PAUSE = 120.0
"""Seconds that a provider may have us wait by Retry-After."""
TRANSIENT = (RateLimitError, ServerError, ConnectionFailedError, DeadlineError)
"""What may go away by itself. Everything else is raised at once."""
_PATIENT_FACTOR = 10
"""The gate deals with a 429 by slowing down, so a 429 counts as only a tenth of an attempt."""


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
    longest: float = 30.0,
) -> AsyncRetrying:
    """Full-jitter exponential back-off over transient failures.

    Retry-After is not waited for here: the gate holds every call back, so that no other worker runs into it either.

    Args:
        max_attempts: Tries in all.
        sleep: Waits.
        longest: No back-off lasts longer.
    """

    async def pause(seconds: float) -> None:
        await sleep(seconds)

    return AsyncRetrying(
        stop=_Stop(max_attempts),
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=BACKOFF_SECONDS, max=longest),
        sleep=pause,
        reraise=True,
    )


async def with_retries(
    call: Callable[[], Awaitable[T]], max_attempts: int, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> T:
    """Repeat a call until it works. For calls that pass no gate, so that Retry-After must be waited for here.

    Raises:
        ProviderError: Permanent, or transient once too often.
    """

    async def attempt() -> T:
        try:
            return await call()
        except ProviderError as error:
            if is_transient(error) and error.retry_after:
                await sleep(min(error.retry_after, _LONGEST_PAUSE))
            raise

    return await retrying(max_attempts, sleep=sleep)(attempt)
