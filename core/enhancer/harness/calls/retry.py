"""Retry failed calls. This is the only retry layer: the libraries below are configured not to retry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from enhancer.errors import ConnectionFailedError, DeadlineError, ProviderError, RateLimitError, ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")
BACKOFF_SECONDS = 0.5
"""Upper bound of the first wait after a failure in seconds; it doubles with each further failure."""
_MAX_RETRY_AFTER = 120.0
"""Longest Retry-After that is honoured, in seconds."""
TRANSIENT = (RateLimitError, ServerError, ConnectionFailedError, DeadlineError)
"""Errors that are retried. All others are raised at once."""
_RATE_LIMIT_ERRORS_PER_ATTEMPT = 10
"""Number of 429 responses that count as one attempt, because the gate already slows down for them."""


def is_transient(error: BaseException) -> bool:
    """Check whether an error is worth a retry."""
    return isinstance(error, TRANSIENT)


class _Stop:
    """Stop condition that counts a 429 as a fraction of an attempt."""

    def __init__(self, max_attempts: int) -> None:
        self._max_attempts = max_attempts

    def __call__(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome is not None else None
        spent: float = getattr(state, "spent", 0.0)
        spent += 1 / _RATE_LIMIT_ERRORS_PER_ATTEMPT if isinstance(error, RateLimitError) else 1
        state.spent = spent  # type: ignore[attr-defined]
        return spent >= self._max_attempts - 1e-9


def retrying(
    max_attempts: int,
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    max_wait: float = 30.0,
) -> AsyncRetrying:
    """Return a retry controller with full-jitter exponential back-off for transient errors.

    It does not wait for Retry-After, because the gate delays all calls by it.

    Args:
        max_attempts: Maximum number of attempts.
        sleep: Waits.
        max_wait: Longest back-off in seconds.
    """

    async def pause(seconds: float) -> None:
        await sleep(seconds)

    return AsyncRetrying(
        stop=_Stop(max_attempts),
        retry=retry_if_exception(is_transient),
        wait=wait_random_exponential(multiplier=BACKOFF_SECONDS, max=max_wait),
        sleep=pause,
        reraise=True,
    )


async def with_retries(
    call: Callable[[], Awaitable[T]], max_attempts: int, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> T:
    """Retry a call that is not subject to the gate, waiting for Retry-After.

    Args:
        call: Makes the call.
        max_attempts: Maximum number of attempts.
        sleep: Waits.

    Raises:
        ProviderError: The call was refused, or all attempts failed.
    """

    async def attempt() -> T:
        try:
            return await call()
        except ProviderError as error:
            if is_transient(error) and error.retry_after:
                await sleep(min(error.retry_after, _MAX_RETRY_AFTER))
            raise

    return await retrying(max_attempts, sleep=sleep)(attempt)
