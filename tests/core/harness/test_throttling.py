"""Test that progress events describe throttling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generation import GenerationProject, answer, entities
from loopback import LoopbackServer, Script, fails, returns

from enhancer.errors import RateLimitError
from enhancer.harness import Gate
from enhancer.progress import Progress


async def test_the_gate_says_how_it_is_held_back() -> None:
    now = 0.0
    gate = Gate(32, clock=lambda: now, random_number=lambda: 0.0)
    assert gate.throttling() is None
    first, second = await gate.enter(), await gate.enter()
    gate.failed(first, RateLimitError("slow down", retry_after=12.0))
    assert gate.throttling() == "16 of 32 in flight, waiting 12s"
    now = 12.5
    assert gate.throttling() == "16 of 32 in flight"
    gate.succeeded(second, {})
    for _ in range(2000):
        gate.succeeded(await gate.enter(), {})
    assert gate.throttling() is None


def test_progress_tells_of_a_storm_of_429(tmp_path: Path, llm_server: LoopbackServer) -> None:
    storm = [fails(429, retry_after="1.4") for _ in range(3)]
    llm_server.script = Script(default=returns(answer), sequence=storm)
    bench = GenerationProject(tmp_path, llm_server.url, entities(10))
    seen: list[Progress] = []
    report: Any = bench.pipeline().generate(seen.append)
    bench.store.close()
    assert report.generated == 10
    told = {progress.detail.get("slowed") for progress in seen if progress.stage == "generate"}
    assert "4 of 8 in flight, waiting 1s" in told
    assert None in told, "it is told only while it lasts"
