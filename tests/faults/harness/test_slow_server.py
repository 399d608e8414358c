"""Test that a run finds how many calls in flight a slow server bears."""

from __future__ import annotations

import time
from typing import Any

import pytest
from generation import GenerationProject, answer, entities
from loopback import Behaviour, LoopbackServer
from run_outcomes import complete

from enhancer.errors import CircuitOpenError


class OneSlot:
    """Server with one slot: it serves in order of arrival, and also those who have gone away."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._free_at = 0.0

    def __call__(self, number: int, body: Any) -> Behaviour:
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + self._seconds
        return Behaviour(answer=answer, latency=self._free_at - now)


@pytest.mark.parametrize(("rows", "seconds"), [(30, 0.05), (40, 0.03)])
def test_one_slot_and_many_in_flight(
    bench: GenerationProject, llm_server: LoopbackServer, rows: int, seconds: float
) -> None:
    bench.rows = entities(rows)
    bench.llm |= {"concurrency": 32, "timeout": 0.3}
    llm_server.script.choose = OneSlot(seconds)
    report = bench.generate()
    complete(bench, report)
    assert report.generated == rows
    assert llm_server.count < 2.5 * rows
    assert report.requests + report.failed_requests == llm_server.count, "every request is counted"
    assert report.to_json()["failed_requests"] == report.failed_requests


def test_a_call_that_hangs_among_many_that_do_not_slows_nobody(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.rows = entities(200)
    bench.llm |= {"concurrency": 8, "timeout": 0.3}
    llm_server.script.default = Behaviour(answer=answer, latency=0.02)
    llm_server.script.choose = lambda number, _: Behaviour(fault="hang") if number == 20 else None
    pipeline = bench.pipeline()
    slowed: list[Any] = []
    report = pipeline.generate(lambda progress: slowed.append(progress.detail.get("slowed")))
    complete(bench, report)
    assert (report.generated, report.failed_requests) == (200, 1)
    assert set(slowed) == {None}


def test_a_server_that_is_always_too_slow_is_told_as_such(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.llm |= {"timeout": 0.1, "max_attempts": 2}
    llm_server.script.default = Behaviour(answer=answer, latency=0.5)
    with pytest.raises(CircuitOpenError) as caught:
        bench.generate()
    assert "timeout" in (caught.value.hint or "")
