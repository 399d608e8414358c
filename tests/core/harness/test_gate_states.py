"""Test the gate under arbitrary sequences of events, and with providers that report limits in headers."""

from __future__ import annotations

import asyncio
import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from enhancer.errors import ConnectionFailedError, ProviderError, RateLimitError, ServerError
from enhancer.harness import Gate
from enhancer.harness.calls.gate import Ticket

CONCURRENCY = 5
REQUESTS = 90.0
TOKENS = 6000.0
LARGEST = 300.0
ERRORS: dict[str, Callable[[], ProviderError]] = {
    "429": lambda: RateLimitError("x"),
    "429, 7 s": lambda: RateLimitError("x", retry_after=7.0),
    "503": lambda: ServerError("x", status=503),
    "500": lambda: ServerError("x", status=500),
    "reset": lambda: ConnectionFailedError("x"),
}


class Timeline:
    """Virtual clock that advances only on request."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self._count += 1
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + max(seconds, 0.0), self._count, future))
        await future

    def next(self) -> float | None:
        """Return the time at which the next sleeper wakes."""
        return self._sleepers[0][0] if self._sleepers else None

    async def until(self, moment: float) -> None:
        """Advance the clock and run all tasks that become ready."""
        await settle()
        while self._sleepers and self._sleepers[0][0] <= moment:
            at, _, future = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            if not future.done():
                future.set_result(None)
            await settle()
        self.now = max(self.now, moment)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class GateMachine(RuleBasedStateMachine):
    """State machine in which calls start, succeed, fail or are cancelled in any order at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.time = Timeline()
        self.gate = Gate(
            CONCURRENCY,
            requests_per_minute=REQUESTS,
            tokens_per_minute=TOKENS,
            patience=1e9,
            clock=self.time.clock,
            sleep=self.time.sleep,
        )
        self.waiting: list[asyncio.Task[None]] = []
        self.held: list[Ticket] = []
        self.starts: list[tuple[float, float]] = []

    def play(self, body: Coroutine[Any, Any, None] | None = None) -> None:
        async def main() -> None:
            if body is not None:
                await body
            await settle()

        self.loop.run_until_complete(main())
        self.waiting = [task for task in self.waiting if not task.done()]

    async def tell(self, what: Callable[[], None]) -> None:
        """Run a function in the event loop."""
        what()

    async def call(self, tokens: float) -> None:
        ticket = await self.gate.enter(tokens)
        self.held.append(ticket)
        self.starts.append((self.time.now, tokens))

    @rule(tokens=st.floats(0, LARGEST), n=st.integers(1, 4))
    def calls_come(self, tokens: float, n: int) -> None:
        async def come() -> None:
            self.waiting += [asyncio.ensure_future(self.call(tokens)) for _ in range(n)]

        self.play(come())

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), extra=st.floats(0, 50))
    def one_is_answered(self, which: int, extra: float) -> None:
        ticket = self.held.pop(which % len(self.held))
        self.play(self.tell(lambda: self.gate.succeeded(ticket, {}, ticket.tokens + extra)))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), how=st.sampled_from(sorted(ERRORS)))
    def one_fails(self, which: int, how: str) -> None:
        ticket = self.held.pop(which % len(self.held))
        self.play(self.tell(lambda: self.gate.failed(ticket, ERRORS[how]())))

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), how=st.sampled_from(["abandoned", "refused"]))
    def one_ends_otherwise(self, which: int, how: str) -> None:
        ticket = self.held.pop(which % len(self.held))
        self.play(self.tell(lambda: getattr(self.gate, how)(ticket)))

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 99))
    def one_gives_up_waiting(self, which: int) -> None:
        self.waiting[which % len(self.waiting)].cancel()
        self.play()

    @rule(seconds=st.floats(0.001, 30))
    def time_passes(self, seconds: float) -> None:
        self.play(self.time.until(self.time.now + seconds))

    @invariant()
    def never_more_than_the_limit_are_out(self) -> None:
        assert len(self.held) == self.gate.in_flight <= CONCURRENCY
        assert 1.0 <= self.gate.limit <= CONCURRENCY

    @invariant()
    def never_over_the_rates_in_any_minute(self) -> None:
        for begin, _ in self.starts[-40:]:
            minute = [tokens for at, tokens in self.starts if begin <= at < begin + 60]
            assert len(minute) <= REQUESTS + 1
            assert sum(minute) <= TOKENS + LARGEST

    @invariant()
    def nobody_waits_without_a_reason(self) -> None:
        if self.waiting and len(self.held) < int(self.gate.limit):
            assert self.time.next() is not None  # only time is missing

    def teardown(self) -> None:
        async def end() -> None:
            # After any events, all calls are admitted, all permissions are released, and the limit recovers.
            for _ in range(10_000):
                while self.held:
                    self.gate.succeeded(self.held.pop(), {})
                await settle()
                if not self.held and all(task.done() for task in self.waiting):
                    break
                if not self.held:
                    moment = self.time.next()
                    assert moment is not None
                    await self.time.until(moment)
            assert self.gate.in_flight == 0
            for _ in range(16):
                task = asyncio.ensure_future(self.gate.enter())
                await self.time.until(self.time.now + 30.0)
                self.gate.succeeded(await task, {})
            assert self.gate.limit == CONCURRENCY

        try:
            self.loop.run_until_complete(end())
        finally:
            self.loop.close()


GateMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestGateMachine = GateMachine.TestCase


# -- limits that only the provider's headers tell -----------------------------------------------------------------


class Provider(ABC):
    """Provider that allows ``limit`` requests per minute and reports it in OpenAI's headers."""

    def __init__(self, time: Timeline, limit: int) -> None:
        self.time, self.limit, self.refused, self.served = time, limit, 0, 0

    @abstractmethod
    def ask(self) -> bool:
        """Return whether a request is served now."""

    @abstractmethod
    def told(self) -> tuple[int, float]:
        """Return the remaining requests and the seconds until the reset."""

    def headers(self) -> dict[str, str]:
        left, reset = self.told()
        return {
            "x-ratelimit-limit-requests": str(self.limit),
            "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }


class Window(Provider):
    """Fixed window: the limit is reset at each full minute."""

    def __init__(self, time: Timeline, limit: int) -> None:
        super().__init__(time, limit)
        self._minute, self._used = 0, 0

    def ask(self) -> bool:
        minute = int(self.time.now // 60)
        if minute != self._minute:
            self._minute, self._used = minute, 0
        self._used += 1
        return self._used <= self.limit

    def told(self) -> tuple[int, float]:
        return max(0, self.limit - self._used), 60 - self.time.now % 60


class Steady(Provider):
    """Token bucket: the limit is refilled steadily."""

    def __init__(self, time: Timeline, limit: int) -> None:
        super().__init__(time, limit)
        self._level, self._at = float(limit), 0.0

    def ask(self) -> bool:
        self._level = min(self.limit, self._level + (self.time.now - self._at) * self.limit / 60)
        self._at = self.time.now
        if self._level < 1:
            return False
        self._level -= 1
        return True

    def told(self) -> tuple[int, float]:
        return int(self._level), (self.limit - self._level) * 60 / self.limit


@pytest.mark.parametrize("kind", [Window, Steady])
def test_limits_told_in_headers_are_kept_without_a_429(kind: type[Provider]) -> None:
    time = Timeline()
    provider = kind(time, 60)
    gate = Gate(4, clock=time.clock, sleep=time.sleep, random_number=lambda: 0.0)

    async def worker(calls: list[int]) -> None:
        while calls:
            calls.pop()
            ticket = await gate.enter()
            await time.sleep(0.2)
            if provider.ask():
                provider.served += 1
                gate.succeeded(ticket, provider.headers())
            else:
                provider.refused += 1
                gate.failed(ticket, RateLimitError("429"))

    async def main() -> None:
        calls = list(range(200))
        workers = [asyncio.ensure_future(worker(calls)) for _ in range(6)]
        while not all(one.done() for one in workers):
            await settle()
            moment = time.next()
            if moment is not None:
                await time.until(moment)

    asyncio.run(main())
    assert provider.refused == 0
    assert provider.served == 200
    # About as fast as the provider allows: 60 at once and one per second, or 60 per minute.
    assert time.now < 200


def test_tokens_told_in_headers_are_spread_too() -> None:
    time = Timeline()
    gate = Gate(8, clock=time.clock, sleep=time.sleep)
    headers = {
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "300",
        "x-ratelimit-reset-tokens": "30s",
    }

    async def main() -> list[float]:
        gate.succeeded(await gate.enter(100), headers)
        starts = []
        for _ in range(3):
            entered = asyncio.ensure_future(gate.enter(100))
            await time.until(time.now)
            while not entered.done():
                moment = time.next()
                assert moment is not None
                await time.until(moment)
            starts.append(time.now)
        return starts

    assert asyncio.run(main()) == pytest.approx([0, 10, 20])


def test_a_limit_alone_is_one_a_minute() -> None:
    time = Timeline()
    gate = Gate(8, clock=time.clock, sleep=time.sleep)

    async def main() -> float:
        gate.succeeded(await gate.enter(), {"x-ratelimit-limit-requests": "30"})
        gate.abandoned(await gate.enter())
        entered = asyncio.ensure_future(gate.enter())
        await time.until(10)
        assert entered.done()
        return time.now

    assert asyncio.run(main()) == 10
    assert gate._delay() == 0.0  # two seconds per request, and ten have passed


def test_plenty_and_windows_of_a_day_hold_nobody_up() -> None:
    for left, reset in (("600", "50s"), ("10", "20h")):
        gate = Gate(8, clock=lambda: 0.0)
        headers = {
            "x-ratelimit-limit-requests": "1000",
            "x-ratelimit-remaining-requests": left,
            "x-ratelimit-reset-requests": reset,
        }

        async def main(gate: Gate = gate, headers: dict[str, str] = headers) -> None:
            gate.succeeded(await gate.enter(), headers)
            for _ in range(8):
                assert gate.enter_now() is not None

        asyncio.run(main())


def test_pauses_are_jittered_upwards() -> None:
    for chance, ends in ((0.0, 10.0), (1.0, 10.5)):
        time = Timeline()
        gate = Gate(1, clock=time.clock, sleep=time.sleep, random_number=lambda chance=chance: chance)

        async def main(gate: Gate = gate) -> float:
            gate.failed(await gate.enter(), RateLimitError("429", retry_after=10.0))
            return gate._delay()

        assert asyncio.run(main()) == pytest.approx(ends)
