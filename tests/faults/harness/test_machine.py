"""Test faults of the machine: concurrent processes, damaged files, a full disk, clocks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from dists import HELPERS
from generation import GenerationProject, answer, entities, entity
from loopback import Behaviour, LoopbackServer, returns
from processes import start
from run_outcomes import complete

from enhancer.errors import EnhancerError, StoreCorruptError
from enhancer.harness import Journal, clock

SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from dists import HELPERS
from generation import GenerationProject, entities
bench = GenerationProject(Path(sys.argv[2]), sys.argv[3], entities(int(sys.argv[4])), concurrency=4)
report = bench.generate()
print(report.generated, report.cached, flush=True)
"""


def generate(bench: GenerationProject, n: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(HELPERS), str(bench.folder), bench.url, str(n)]
    return start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_share_the_work_and_pay_once(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.default = Behaviour(answer=answer, latency=0.02)
    n = 200
    processes = [generate(bench, n) for _ in range(2)]
    told = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    counts = [tuple(map(int, out.split())) for out, _ in told]
    assert all(generated + cached == n for generated, cached in counts)
    assert sum(generated for generated, _ in counts) == n
    assert llm_server.count == n
    bench.rows = entities(n)
    assert bench.generate().cached == n


def test_a_damaged_journal_is_an_error_that_says_what_to_do(bench: GenerationProject) -> None:
    bench.generate()
    (bench.store.directory / "journal.sqlite").write_bytes(b"")
    for verb in (bench.plan, bench.generate):
        with pytest.raises(StoreCorruptError, match="move"):
            verb()


def test_a_full_disk_stops_the_run_and_the_next_one_goes_on(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    put = bench.store.put

    def full(records: Any) -> None:
        from enhancer.errors import StoreError

        raise StoreError("the disk is full", hint="make room and run again")

    bench.store.put = full  # type: ignore[method-assign]
    with pytest.raises(EnhancerError, match="disk is full"):
        bench.generate()
    bench.store.put = put  # type: ignore[method-assign]
    report = bench.generate()
    complete(bench, report)
    assert llm_server.count == 6, "what was paid for before the disk was full came from the journal"


@pytest.fixture(autouse=True)
def own_latest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have other tests not start at the latest time of these, because time never goes back within a process."""
    monkeypatch.setattr(clock, "_latest", "")


def test_a_claim_outlives_any_setting_of_the_clock(bench: GenerationProject, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(bench.store.directory) as one, Journal(bench.store.directory) as other:
        assert one.claim(["a"]).result() == {"a"}
        real = time.time
        for jump in (1e6, -1e6, 120.0, -120.0):
            monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
            assert other.claim(["a"]).result() == set()


def test_clocks_that_run_backwards_ask_nobody_again(
    bench: GenerationProject, llm_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal prompts need several passes; a failure in the first must not count as an old one in the next."""
    begun = time.monotonic()
    monkeypatch.setattr(time, "time", lambda: 4e9 - 1000 * (time.monotonic() - begun))
    bench.rows = [*entities(4), *(entity(f"same{n}", "title: the same") for n in range(3))]
    llm_server.script.choose = lambda _, b: returns("no") if "film 2" in json.dumps(b) else None
    report = bench.generate(retry_quarantined=True)
    complete(bench, report)
    assert (report.generated, report.cached, report.quarantined) == (4, 2, 1)
    assert llm_server.count == 3 + 3 + 1


def test_clocks_that_jump_change_nothing(bench: GenerationProject, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    jumps = iter([0.0, 1e6, -1e6, 5e7, -5e7] * 1000)
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 6
