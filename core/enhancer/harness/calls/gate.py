"""The one place through which every call goes: concurrency, rates, pauses, and the circuit breaker.

The number of calls in flight grows by one for each round of answers and halves when the provider says that it is too
much (AIMD), once for all the calls that were in flight at that moment. A Retry-After pauses everybody. Requests and
tokens a minute come from the configuration and from what the provider says in ``x-ratelimit-*`` headers. When nothing
has got through for long, the circuit opens and the run stops; a few transient errors never open it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING

from enhancer.errors import CircuitOpenError, ProviderError, RateLimitError, ServerError
from enhancer.harness.calls.rate_headers import Allowance, remaining

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

MAX_PAUSE = 120.0
"""Seconds that a Retry-After can hold the run at most."""
_JITTER = 0.05
"""Share of a pause that is added at most: several processes that were told the same do not come back at once."""
_SHORT = 1.0
"""Seconds of a pause from which on people are told of it."""
_SHORTEST = 1e-6
_MIN_FAILURES = 10
_MIN_FAILURES_AT_START = 5
_EXHAUSTED = 3


class _Bucket:
    """A limit per minute, spread evenly over it: providers that count by the second see no bursts either."""

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60.0
        self._next = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until something may go."""
        return max(0.0, self._next - now)

    def take(self, amount: float, now: float) -> None:
        self._next = max(self._next, now) + amount / self._rate


class Ticket:
    """One call that was let through."""

    __slots__ = ("epoch", "tokens")

    def __init__(self, tokens: float, epoch: int) -> None:
        self.tokens = tokens
        self.epoch = epoch


class Gate:
    """For one event loop.

    Args:
        concurrency: Calls in flight at most.
        requests_per_minute: Limit on calls, or None.
        tokens_per_minute: Limit on tokens, or None.
        patience: Seconds without one success, pauses that the provider asked for not counted, after which the circuit
            may open.
        clock: Monotonic seconds.
        sleep: Waits.
        chance: Gives numbers from 0 to 1, for jitter.

    Attributes:
        in_flight: Calls that are out.
        limit: How many may be out just now.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        patience: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._most = float(concurrency)
        self.limit = float(concurrency)
        self.in_flight = 0
        self._requests = _Bucket(requests_per_minute) if requests_per_minute else None
        self._tokens = _Bucket(tokens_per_minute) if tokens_per_minute else None
        self._told_requests: Allowance | None = None
        self._told_tokens: Allowance | None = None
        self._tokens_out = 0.0
        self._chance = chance
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._queue: deque[tuple[asyncio.Future[Ticket], float]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._paused_until = float("-inf")
        self._epoch = 0
        self._successes = 0
        self._failures = 0
        self._exhausted = 0
        self._quiet_since = clock()
        self._paused_seconds = 0.0
        self._error: CircuitOpenError | None = None

    def throttling(self) -> str | None:
        """How the provider's answers slow the run, as a text for people; None while they do not."""
        wait = self._paused_until - self._clock()
        if int(self.limit) >= int(self._most) and wait < _SHORT:
            return None
        waiting = f", waiting {wait:.0f}s" if wait >= _SHORT else ""
        return f"{max(1, int(self.limit))} of {int(self._most)} in flight{waiting}"

    async def enter(self, tokens: float = 0.0) -> Ticket:
        """Wait for permission to call.

        Args:
            tokens: What the call is expected to use.

        Raises:
            CircuitOpenError: Nothing gets through.
        """
        if (ticket := self.enter_now(tokens)) is not None:
            return ticket
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._queue.append((future, tokens))
        self._pump()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                # Permitted and cancelled in the same turn of the loop: its place is free again.
                self._leave(future.result())
            raise

    def enter_now(self, tokens: float = 0.0) -> Ticket | None:
        """Permission to call, if it can be had without waiting; else None.

        Raises:
            CircuitOpenError: Nothing gets through.
        """
        if self._error is not None:
            raise self._error
        if not self._queue and self._has_room() and self._delay() == 0.0:
            return self._grant(tokens)
        return None

    def succeeded(self, ticket: Ticket, headers: Mapping[str, str], tokens: float | None = None) -> None:
        """A call was answered, whether or not the answer is valid."""
        self._successes += 1
        self._alive()
        if ticket.epoch == self._epoch and self.limit < self._most:
            self.limit = min(self._most, self.limit + 1.0 / max(self.limit, 1.0))
        if self._tokens is not None and tokens is not None:
            self._tokens.take(tokens - ticket.tokens, self._clock())
        if headers:
            self._heed(headers, ticket)
        self._leave(ticket)

    def refused(self, ticket: Ticket) -> None:
        """A call was answered, but the provider refused that request: it is reachable and not too busy."""
        self._alive()
        self._leave(ticket)

    def failed(self, ticket: Ticket, error: ProviderError) -> None:
        """A call failed, and trying again may help."""
        self._failures += 1
        too_much = isinstance(error, RateLimitError) or (isinstance(error, ServerError) and error.status == 503)
        if too_much and ticket.epoch == self._epoch:
            self._epoch += 1
            self.limit = max(1.0, self.limit / 2)
        if error.retry_after is not None:
            self._pause(min(max(error.retry_after, 0.0), MAX_PAUSE))
        elif too_much:
            self._pause(0.25)
        quiet = self._clock() - self._quiet_since
        if self._failures >= _MIN_FAILURES and (
            quiet - self._paused_seconds > self._patience or quiet > 8 * self._patience
        ):
            self._open(error)
        self._leave(ticket)

    def abandoned(self, ticket: Ticket) -> None:
        """A call was cancelled from our side."""
        self._leave(ticket)

    def exhausted(self, error: ProviderError) -> None:
        """A call has used up its attempts. Opens the circuit if nothing else gets through either.

        Raises:
            CircuitOpenError: The run must stop.
        """
        self._exhausted += 1
        never = self._successes == 0 and self._failures >= _MIN_FAILURES_AT_START
        if never or (self._exhausted >= _EXHAUSTED and self._failures >= _MIN_FAILURES):
            self._open(error)
        if self._error is not None:
            raise self._error

    # -- inside -----------------------------------------------------------------------------------------------------

    def _alive(self) -> None:
        self._failures = self._exhausted = 0
        self._quiet_since = self._clock()
        self._paused_seconds = 0.0

    def _has_room(self) -> bool:
        return self.in_flight < max(1, int(self.limit))

    def _delay(self) -> float:
        now = self._clock()
        wait = max(0.0, self._paused_until - now)
        if self._requests is not None:
            wait = max(wait, self._requests.wait(now))
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(now))
        if self._told_requests is not None:
            wait = max(wait, self._told_requests.wait(now))
        if self._told_tokens is not None:
            wait = max(wait, self._told_tokens.wait(now))
        # A rounding error is not worth a wait: it may be shorter than what a clock can measure.
        return wait if wait > _SHORTEST else 0.0

    def _grant(self, tokens: float) -> Ticket:
        now = self._clock()
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        if self._told_requests is not None:
            self._told_requests.take(1, now)
        if self._told_tokens is not None:
            self._told_tokens.take(tokens, now)
        self._tokens_out += tokens
        self.in_flight += 1
        return Ticket(tokens, self._epoch)

    def _leave(self, ticket: Ticket) -> None:
        self.in_flight -= 1
        self._tokens_out -= ticket.tokens
        if self._queue:
            self._pump()

    def _pump(self) -> None:
        """Let through whoever may go, first come first served; set the timer when time alone is in the way."""
        while self._queue and self._has_room():
            future, tokens = self._queue[0]
            if future.done():
                self._queue.popleft()
                continue
            delay = self._delay()
            if delay > 0.0:
                if self._timer is None or self._timer.done():
                    self._timer = asyncio.get_running_loop().create_task(self._wake(delay))
                return
            self._queue.popleft()
            future.set_result(self._grant(tokens))

    async def _wake(self, delay: float) -> None:
        await self._sleep(delay)
        self._timer = None
        self._pump()

    def _pause(self, seconds: float) -> None:
        seconds += self._chance() * _JITTER * seconds
        now = self._clock()
        until = now + seconds
        if until > self._paused_until:
            self._paused_seconds += until - max(self._paused_until, now)
            self._paused_until = until

    def _heed(self, headers: Mapping[str, str], ticket: Ticket) -> None:
        """Spread what the provider says is left; wait for the reset once that is nothing."""
        told = remaining(headers)
        if told is None:
            return
        now = self._clock()
        if told.requests is not None or told.requests_limit is not None:
            self._told_requests = self._told_requests or Allowance()
            out = self.in_flight - 1
            self._told_requests.hear(told.requests, told.requests_limit, told.requests_reset, out=out, now=now)
        if told.tokens is not None or told.tokens_limit is not None:
            self._told_tokens = self._told_tokens or Allowance()
            spoken = max(0.0, self._tokens_out - ticket.tokens)
            self._told_tokens.hear(told.tokens, told.tokens_limit, told.tokens_reset, out=spoken, now=now)
        for count, reset in ((told.requests, told.requests_reset), (told.tokens, told.tokens_reset)):
            if count is not None and count <= 0 and reset:
                self._pause(min(reset, MAX_PAUSE))

    def _open(self, error: ProviderError) -> None:
        if self._error is not None:
            return
        self._error = CircuitOpenError(
            f"nothing gets through to the LLM: {self._failures} attempts failed without one success between them;"
            f" the last: {error.message}",
            hint="what was paid for is kept; run again when the provider answers",
        )
        queue, self._queue = self._queue, deque()
        for future, _ in queue:
            if not future.done():
                future.set_exception(self._error)
