"""Limit the concurrency and rate of calls, honour Retry-After, and stop the run by a circuit breaker.

The concurrency limit is adaptive (additive increase, multiplicative decrease): it grows by one per round of answers and
halves when the provider reports overload, once for all calls in flight at that moment. A Retry-After pauses all calls.
A call that runs out of time is a sign of overload too, unless as many others as are in flight were answered meanwhile:
the limit falls to what the server answers within the deadline, and grows again only while answers take much less.
Limits of requests and tokens per minute come from the configuration and from ``x-ratelimit-*`` headers. If no call
succeeds for a long time, the circuit breaker opens and the run stops; a few transient errors never open it.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from typing import TYPE_CHECKING

from enhancer.errors import CircuitOpenError, DeadlineError, ProviderError, RateLimitError, ServerError
from enhancer.harness.calls.rate_headers import Allowance, remaining

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

MAX_PAUSE = 120.0
"""Longest pause by Retry-After in seconds."""
_HEADERS_INTERVAL = 0.02
"""Seconds for which the headers of further answers are not read while no limit is near."""
_JITTER = 0.05
"""Maximum share of a pause that is added at random, so that several processes do not resume at once."""
_MIN_SHOWN_PAUSE = 1.0
"""Shortest pause in seconds that is reported."""
_MIN_WAIT = 1e-6
"""Shortest wait in seconds; anything less is a rounding error."""
_OVERLOAD_PAUSE = 0.25
"""Seconds to pause after an overload error without Retry-After."""
_BEARABLE = 0.75
"""Calls in flight, as a share of those that the server answers within the deadline of one."""
_GROWING = 0.8
"""Share of the deadline that answers may take with one more call in flight, once calls have run out of time."""
_MIN_FAILURES = 10
"""Failures without a success in between that open the circuit breaker."""
_MIN_FAILURES_AT_START = 5
"""The same before the first success of the run."""
_MIN_EXHAUSTED = 3
"""Calls that used up their attempts that open the circuit breaker."""


_WAIT = "paid answers are kept; run again when the provider answers"
_TOO_SLOW = "paid answers are kept; raise the timeout, or lower the concurrency to what the server bears"


class _MinuteLimit:
    """Limit per minute, spread evenly, because some providers count by the second."""

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute / 60.0
        self._next = float("-inf")

    def wait(self, now: float) -> float:
        """Return the seconds until the next call may start."""
        return max(0.0, self._next - now)

    def take(self, amount: float, now: float) -> None:
        self._next = max(self._next, now) + amount / self._rate


class Ticket:
    """Permission for one call."""

    __slots__ = ("epoch", "started", "tokens")

    def __init__(self, tokens: float, epoch: int, started: float) -> None:
        self.tokens = tokens
        self.epoch = epoch
        self.started = started


class Gate:
    """Rate limiter and circuit breaker of all calls. For one event loop.

    Args:
        concurrency: Maximum number of calls in flight.
        requests_per_minute: Limit of requests, or None.
        tokens_per_minute: Limit of tokens, or None.
        patience: Seconds without a success after which the circuit breaker may open. Pauses that the provider asked
            for do not count, and neither does the time in which a slow server works off calls that ran out of time.
        subject: What is called, for the message of the circuit breaker.
        clock: Returns monotonic seconds.
        sleep: Waits.
        random_number: Returns random numbers from 0 to 1 for jitter.

    Attributes:
        in_flight: Number of calls in flight.
        limit: Current limit of calls in flight.
    """

    def __init__(
        self,
        concurrency: int,
        *,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        patience: float = 120.0,
        subject: str = "the LLM",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random_number: Callable[[], float] = random.random,
    ) -> None:
        self._max_concurrency = float(concurrency)
        self.limit = float(concurrency)
        self.in_flight = 0
        self._request_limit = _MinuteLimit(requests_per_minute) if requests_per_minute else None
        self._token_limit = _MinuteLimit(tokens_per_minute) if tokens_per_minute else None
        self._provider_requests: Allowance | None = None
        self._provider_tokens: Allowance | None = None
        self._headers_due = -math.inf
        self._tokens_in_flight = 0.0
        self._random_number = random_number
        self._patience = patience
        self._subject = subject
        self._clock = clock
        self._sleep = sleep
        self._queue: deque[tuple[asyncio.Future[Ticket], float]] = deque()
        self._timer: asyncio.Task[None] | None = None
        self._paused_until = float("-inf")
        self._epoch = 0
        self._successes = 0
        self._failures = 0
        self._exhausted = 0
        self._last_success = clock()
        self._successes_at: deque[float] = deque(maxlen=2 * concurrency)
        """Times of the last successes."""
        self._deadline: float | None = None
        """Seconds after which a call ran out of time."""
        self._paused_seconds = 0.0
        self._error: CircuitOpenError | None = None

    def throttling(self) -> str | None:
        """Describe how the provider slows down the run, or return None if it does not."""
        wait = self._paused_until - self._clock()
        if int(self.limit) >= int(self._max_concurrency) and wait < _MIN_SHOWN_PAUSE:
            return None
        waiting = f", waiting {wait:.0f}s" if wait >= _MIN_SHOWN_PAUSE else ""
        return f"{max(1, int(self.limit))} of {int(self._max_concurrency)} in flight{waiting}"

    async def enter(self, tokens: float = 0.0) -> Ticket:
        """Wait for permission to make a call.

        Args:
            tokens: Expected number of tokens of the call.

        Raises:
            CircuitOpenError: The circuit breaker is open.
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
                # Permitted and cancelled in the same turn of the loop: release the permission.
                self._leave(future.result())
            raise

    def enter_now(self, tokens: float = 0.0) -> Ticket | None:
        """Return permission to make a call if there is no need to wait, else None.

        Args:
            tokens: Expected number of tokens of the call.

        Raises:
            CircuitOpenError: The circuit breaker is open.
        """
        if self._error is not None:
            raise self._error
        if not self._queue and self._has_room() and self._delay() == 0.0:
            return self._grant(tokens)
        return None

    def succeeded(self, ticket: Ticket, headers: Mapping[str, str], tokens: float | None = None) -> None:
        """Record an answered call, whether or not the answer is valid.

        Args:
            ticket: Permission of the call.
            headers: Headers of the response.
            tokens: Tokens used, if known.
        """
        self._successes += 1
        self._reset_failures()
        self._successes_at.append(self._last_success)
        if ticket.epoch == self._epoch and self.limit < self._max_concurrency and self._may_grow(ticket):
            self.limit = min(self._max_concurrency, self.limit + 1.0 / max(self.limit, 1.0))
        if self._token_limit is not None and tokens is not None:
            self._token_limit.take(tokens - ticket.tokens, self._clock())
        if headers:
            self._apply_headers(headers, ticket)
        self._leave(ticket)

    def refused(self, ticket: Ticket) -> None:
        """Record a call that the provider refused: the provider is reachable and not overloaded."""
        self._reset_failures()
        self._leave(ticket)

    def failed(self, ticket: Ticket, error: ProviderError) -> None:
        """Record a call that failed with a transient error."""
        self._failures += 1
        overloaded = isinstance(error, RateLimitError) or (isinstance(error, ServerError) and error.status == 503)
        if overloaded and ticket.epoch == self._epoch:
            self._epoch += 1
            self.limit = max(1.0, self.limit / 2)
        elif isinstance(error, DeadlineError):
            self._fit_deadline(ticket)
        if error.retry_after is not None:
            self._pause(min(max(error.retry_after, 0.0), MAX_PAUSE))
        elif overloaded:
            self._pause(_OVERLOAD_PAUSE)
        silence = self._clock() - self._last_success
        if self._failures >= _MIN_FAILURES and (
            silence - self._paused_seconds > self._patience or silence > 8 * self._patience
        ):
            self._open(error)
        self._leave(ticket)

    def abandoned(self, ticket: Ticket) -> None:
        """Release the permission of a cancelled call."""
        self._leave(ticket)

    def exhausted(self, error: ProviderError) -> None:
        """Record a call that used up its attempts. Open the circuit breaker if no other call succeeds either.

        Raises:
            CircuitOpenError: The circuit breaker is open, and the run must stop.
        """
        self._exhausted += 1
        never = self._successes == 0 and self._failures >= _MIN_FAILURES_AT_START
        if never or (self._exhausted >= _MIN_EXHAUSTED and self._failures >= _MIN_FAILURES):
            self._open(error)
        if self._error is not None:
            raise self._error

    # -- inside -----------------------------------------------------------------------------------------------------

    def _reset_failures(self) -> None:
        self._failures = self._exhausted = 0
        self._last_success = self._clock()
        self._paused_seconds = 0.0

    def _may_grow(self, ticket: Ticket) -> bool:
        """Check whether an answer would come well before the deadline with one more call in flight."""
        if self._deadline is None:
            return True
        took = self._last_success - ticket.started
        return took * (self.limit + 1.0) / self.limit <= _GROWING * self._deadline

    def _fit_deadline(self, ticket: Ticket) -> None:
        """Lower the limit to what the server answers within the time that a call has run out of."""
        self._deadline = self._clock() - ticket.started
        answered = sum(at > ticket.started for at in self._successes_at)
        bearable = max(1.0, _BEARABLE * answered)
        if ticket.epoch == self._epoch and bearable < self.limit:
            if answered:
                # A server may serve those who have gone away before it serves anybody else.
                self._paused_seconds += self._deadline * self.limit / answered
            self._epoch += 1
            self.limit = bearable

    def _has_room(self) -> bool:
        return self.in_flight < max(1, int(self.limit))

    def _delay(self) -> float:
        now = self._clock()
        wait = max(0.0, self._paused_until - now)
        if self._request_limit is not None:
            wait = max(wait, self._request_limit.wait(now))
        if self._token_limit is not None:
            wait = max(wait, self._token_limit.wait(now))
        if self._provider_requests is not None:
            wait = max(wait, self._provider_requests.wait(now))
        if self._provider_tokens is not None:
            wait = max(wait, self._provider_tokens.wait(now))
        # A wait of a rounding error may be shorter than the resolution of the clock.
        return wait if wait > _MIN_WAIT else 0.0

    def _grant(self, tokens: float) -> Ticket:
        now = self._clock()
        if self._request_limit is not None:
            self._request_limit.take(1, now)
        if self._token_limit is not None:
            self._token_limit.take(tokens, now)
        if self._provider_requests is not None:
            self._provider_requests.take(1, now)
        if self._provider_tokens is not None:
            self._provider_tokens.take(tokens, now)
        self._tokens_in_flight += tokens
        self.in_flight += 1
        return Ticket(tokens, self._epoch, now)

    def _leave(self, ticket: Ticket) -> None:
        self.in_flight -= 1
        self._tokens_in_flight -= ticket.tokens
        if self._queue:
            self._pump()

    def _pump(self) -> None:
        """Admit waiting calls in order; if only time is missing, set the timer."""
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
        seconds += self._random_number() * _JITTER * seconds
        now = self._clock()
        until = now + seconds
        if until > self._paused_until:
            self._paused_seconds += until - max(self._paused_until, now)
            self._paused_until = until

    def _apply_headers(self, headers: Mapping[str, str], ticket: Ticket) -> None:
        """Spread the remaining calls until the reset; pause until the reset if none remain."""
        now = self._clock()
        if now < self._headers_due:
            return
        reported = remaining(headers)
        if reported is None:
            return
        if reported.requests is not None or reported.requests_limit is not None:
            self._provider_requests = self._provider_requests or Allowance()
            self._provider_requests.update(
                reported.requests,
                reported.requests_limit,
                reported.requests_reset,
                in_flight=self.in_flight - 1,
                now=now,
            )
        if reported.tokens is not None or reported.tokens_limit is not None:
            self._provider_tokens = self._provider_tokens or Allowance()
            other_tokens = max(0.0, self._tokens_in_flight - ticket.tokens)
            self._provider_tokens.update(
                reported.tokens, reported.tokens_limit, reported.tokens_reset, in_flight=other_tokens, now=now
            )
        for count, reset in ((reported.requests, reported.requests_reset), (reported.tokens, reported.tokens_reset)):
            if count is not None and count <= 0 and reset:
                self._pause(min(reset, MAX_PAUSE))
        allowances = (self._provider_requests, self._provider_tokens)
        plenty = 0 not in reported[:2] and not any(one.paces(now) for one in allowances if one is not None)
        # Of limits that are far away, a few dozen answers a second tell enough.
        self._headers_due = now + _HEADERS_INTERVAL if plenty else -math.inf

    def _open(self, error: ProviderError) -> None:
        if self._error is not None:
            return
        self._error = CircuitOpenError(
            f"{self._subject} cannot be reached: {self._failures} attempts failed without a success in between;"
            f" last error: {error.message}",
            hint=_TOO_SLOW if isinstance(error, DeadlineError) else _WAIT,
        )
        queue, self._queue = self._queue, deque()
        for future, _ in queue:
            if not future.done():
                future.set_exception(self._error)
