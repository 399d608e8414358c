from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from enhancer.errors import (
    CircuitOpenError,
    ConnectionFailedError,
    DeadlineError,
    ProviderError,
    RateLimitError,
    ServerError,
)
from enhancer.harness import Gate
from enhancer.harness.calls.rate_headers import duration, remaining
from enhancer.harness.calls.retry import retrying


class FakeTime:
    """Virtual clock: sleepers wake in order as soon as nothing else can run."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now + max(seconds, 0.0), self._count, future))
        await future

    async def drive(self, main: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.ensure_future(main)
        while not task.done():
            for _ in range(20):
                await asyncio.sleep(0)
            if task.done():
                break
            assert self._sleepers, "deadlock: nobody runs and nobody sleeps"
            at, _, future = heapq.heappop(self._sleepers)
            self.now = max(self.now, at)
            if not future.done():
                future.set_result(None)
        return task.result()


def make(time: FakeTime, concurrency: int = 4, **more: Any) -> Gate:
    return Gate(concurrency, **{"clock": time.clock, "sleep": time.sleep, "random_number": lambda: 0.0, **more})


async def one(
    gate: Gate, time: FakeTime, latency: float = 1.0, error: ProviderError | None = None, **more: Any
) -> float:
    ticket = await gate.enter(more.get("tokens", 0.0))
    started = time.now
    await time.sleep(latency)
    if error is None:
        gate.succeeded(ticket, more.get("headers", {}), more.get("used"))
    else:
        gate.failed(ticket, error)
    return started


def run(body: Callable[[FakeTime], Awaitable[Any]]) -> Any:
    time = FakeTime()
    return asyncio.run(time.drive(body(time)))  # type: ignore[arg-type]


def test_no_more_are_out_than_allowed() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 3)
        most = 0

        async def call() -> None:
            nonlocal most
            ticket = await gate.enter()
            most = max(most, gate.in_flight)
            await time.sleep(1)
            gate.succeeded(ticket, {})

        await asyncio.gather(*(call() for _ in range(10)))
        assert most == 3
        assert time.now == 4.0
        assert gate.in_flight == 0

    run(body)


def test_requests_a_minute_are_paced() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 100, requests_per_minute=60)
        starts = await asyncio.gather(*(one(gate, time) for _ in range(5)))
        assert sorted(starts) == pytest.approx([0, 1, 2, 3, 4])

    run(body)


def test_tokens_a_minute_are_paced_and_corrected_by_what_was_used() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 100, tokens_per_minute=6000)
        starts = sorted(await asyncio.gather(*(one(gate, time, tokens=100) for _ in range(3))))
        assert starts == pytest.approx([0, 1, 2])
        gate = make(time, 1, tokens_per_minute=6000)
        began = time.now
        await one(gate, time, tokens=100, used=1000.0)
        assert await one(gate, time, tokens=100) - began == pytest.approx(10)

    run(body)


def test_retry_after_holds_everybody_and_is_capped() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time)
        await one(gate, time, 0.0, RateLimitError("429", retry_after=7.0))
        assert await one(gate, time) == 7.0
        before = time.now
        await one(gate, time, 0.0, RateLimitError("429", retry_after=1e9))
        assert await one(gate, time) - before == 120.0
        before = time.now
        await one(gate, time, 0.0, RateLimitError("429", retry_after=-5.0))
        assert await one(gate, time) - before == 0.0

    run(body)


def test_too_much_halves_once_for_all_that_were_out_and_success_adds_up_again() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 16)
        await asyncio.gather(*(one(gate, time, 1.0, RateLimitError("429")) for _ in range(8)))
        assert gate.limit == 8.0
        await one(gate, time, 0.0, ServerError("busy", status=503))
        assert gate.limit == 4.0
        await one(gate, time, 0.0, ServerError("broken", status=500))
        assert gate.limit == 4.0
        for _ in range(200):
            await one(gate, time, 0.1)
        assert gate.limit == 16.0

    run(body)


def test_the_limit_never_falls_below_one() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 4)
        for _ in range(9):
            await one(gate, time, 0.1, RateLimitError("429"))
        assert gate.limit == 1.0
        await one(gate, time)

    run(body)


def test_an_empty_allowance_is_waited_for() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time)
        headers = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6s"}
        await one(gate, time, 0.0, headers=headers)
        assert await one(gate, time, 0.0) == 6.0
        headers = {"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "60s"}
        await one(gate, time, 0.0, headers=headers)
        assert await one(gate, time, 0.0) == 6.0

    run(body)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20ms", 0.02),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1.5", 1.5),
        ("", None),
        ("soon", None),
        ("-3s", None),
        ("5 s", None),
        ("1e9", None),
        ("٣s", None),
        (None, None),
    ],
)
def test_durations(text: str | None, seconds: float | None) -> None:
    assert duration(text) == seconds


@given(st.dictionaries(st.sampled_from(["x-ratelimit-remaining-requests", "x-ratelimit-reset-tokens"]), st.text()))
def test_junk_in_headers_is_ignored(headers: dict[str, str]) -> None:
    remaining(headers)


# -- the circuit breaker ------------------------------------------------------------------------------------------


def test_a_few_transients_never_open_the_circuit() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 8, patience=60)
        await asyncio.gather(*(one(gate, time, 0.1, ConnectionFailedError("reset")) for _ in range(200)))
        await one(gate, time)
        time.now += 1000
        await asyncio.gather(*(one(gate, time, 0.1, ConnectionFailedError("reset")) for _ in range(5)))
        await one(gate, time)

    run(body)


def test_the_circuit_opens_when_nothing_gets_through_for_long() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 2, patience=60)
        with pytest.raises(CircuitOpenError, match="connection refused"):  # noqa: PT012 - any of them may
            for _ in range(100):
                await one(gate, time, 5.0, ConnectionFailedError("connection refused"))
        assert 60 < time.now < 80

    run(body)


def test_a_pause_that_the_provider_asked_for_is_no_silence() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 2, patience=60)
        for _ in range(8):
            await one(gate, time, 0.1, RateLimitError("429", retry_after=50.0))
        await one(gate, time)
        assert time.now > 300

    run(body)


def test_whoever_waits_hears_of_the_open_circuit() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 1, patience=10)
        ticket = await gate.enter()
        waiting = asyncio.ensure_future(gate.enter())
        await asyncio.sleep(0)
        for _ in range(10):
            gate.in_flight += 1  # as if another call were in flight
            gate.failed(ticket, ConnectionFailedError("x"))
            time.now += 5
        with pytest.raises(CircuitOpenError):
            await waiting

    run(body)


def test_calls_that_used_up_their_attempts_open_it_unless_others_get_through() -> None:
    async def body(time: FakeTime) -> None:
        error = ServerError("500", status=500)
        gate = make(time)
        for _ in range(4):
            await one(gate, time, 0.1, error)
        gate.exhausted(error)
        await one(gate, time, 0.1, error)
        with pytest.raises(CircuitOpenError):
            gate.exhausted(error)
        gate = make(time)
        for _ in range(20):
            await one(gate, time)
            for _ in range(6):
                await one(gate, time, 0.1, error)
            gate.exhausted(error)

    run(body)


def test_a_cancelled_waiter_leaves_no_trace() -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, 1)
        first = await gate.enter()
        waiting = [asyncio.ensure_future(gate.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.succeeded(first, {})
        waiting[1].cancel()  # admitted and cancelled in the same turn of the loop
        second = await waiting[2]
        gate.succeeded(second, {})
        assert gate.in_flight == 0

    run(body)


OUTCOME = st.sampled_from(["ok", "429", "429+", "503", "500", "reset", "cancel"])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(OUTCOME, st.floats(0, 3)), min_size=1, max_size=60),
    st.integers(1, 8),
    st.none() | st.floats(30, 600),
)
def test_under_any_weather_the_limits_hold_and_everybody_gets_out(
    weather: list[tuple[str, float]], concurrency: int, rpm: float | None
) -> None:
    async def body(time: FakeTime) -> None:
        gate = make(time, concurrency, requests_per_minute=rpm, patience=1e6)
        starts: list[float] = []

        async def call(outcome: str, latency: float) -> None:
            ticket = await gate.enter(1.0)
            starts.append(time.now)
            assert 1 <= gate.in_flight <= concurrency
            await time.sleep(latency)
            if outcome == "ok":
                gate.succeeded(ticket, {})
            elif outcome == "cancel":
                gate.abandoned(ticket)
            else:
                errors = {
                    "429": RateLimitError("x"),
                    "429+": RateLimitError("x", retry_after=latency * 10),
                    "503": ServerError("x", status=503),
                    "500": ServerError("x", status=500),
                    "reset": ConnectionFailedError("x"),
                }
                gate.failed(ticket, errors[outcome])

        await asyncio.gather(*(call(*each) for each in weather))
        assert gate.in_flight == 0
        assert 1.0 <= gate.limit <= concurrency
        assert len(starts) == len(weather)
        if rpm is not None:
            for begin in starts:
                assert sum(begin <= at < begin + 60 for at in starts) <= rpm + 1

    run(body)


# -- the retry layer ----------------------------------------------------------------------------------------------


async def attempts(error: Exception, most: int, fail: int) -> tuple[int, list[float]]:
    count, slept = 0, []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def call() -> int:
        nonlocal count
        count += 1
        if count <= fail:
            raise error
        return count

    try:
        await retrying(most, sleep=sleep)(call)
    except type(error):
        return -count, slept
    return count, slept


async def test_transient_failures_are_tried_again_with_growing_jittered_pauses() -> None:
    count, slept = await attempts(ServerError("x"), 6, 5)
    assert count == 6
    assert all(0 <= pause <= 0.5 * 2**n for n, pause in enumerate(slept))
    assert (await attempts(ServerError("x"), 6, 99))[0] == -6


async def test_permanent_failures_are_not() -> None:
    assert await attempts(ProviderError("x"), 6, 99) == (-1, [])


async def test_a_429_spends_a_tenth_of_an_attempt() -> None:
    assert (await attempts(RateLimitError("x"), 6, 40))[0] == 41
    assert (await attempts(RateLimitError("x"), 1, 99))[0] == -10


# -- slow servers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "slots", "rows", "gone_away_are_served"),
    [
        *((10.0, 1, 30, served) for served in (True, False)),
        *((10.0, 4, 100, served) for served in (True, False)),
        *((4.0, 1, 200, served) for served in (True, False)),
        (25.0, 1, 40, False),
    ],
)
def test_the_concurrency_that_a_slow_server_bears_is_found(
    seconds: float, slots: int, rows: int, gone_away_are_served: bool
) -> None:
    """With 32 in flight at first, and a deadline of a minute."""
    deadline = 60.0

    async def body(time: FakeTime) -> None:
        gate = make(time, 32)
        queue: list[list[float]] = [[] for _ in range(slots)]
        requests = 0

        async def call() -> bool:
            nonlocal requests
            ticket = await gate.enter()
            requests += 1
            # A server with slots, which works in order of arrival.
            slot = min(queue, key=lambda ends: max(ends, default=0.0))
            slot[:] = [end for end in slot if end > time.now]
            end = max(slot, default=time.now) + seconds
            slot.append(end)
            if end <= time.now + deadline:
                await time.sleep(end - time.now)
                gate.succeeded(ticket, {})
                return True
            if not gone_away_are_served:
                slot.remove(end)
            await time.sleep(deadline)
            gate.failed(ticket, DeadlineError("too slow"))
            return False

        attempts = []

        async def row() -> None:
            tried = 1
            while not await call():
                tried += 1
            attempts.append(tried)

        await asyncio.gather(*(row() for _ in range(rows)))
        assert max(attempts) <= 6
        assert requests < rows + 3 * 32
        assert time.now < 2.5 * rows * seconds / slots + 32 * seconds / slots

    run(body)
