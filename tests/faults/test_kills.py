"""Kill runs at random: nothing that is on disk is lost or paid for twice."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dists import HELPERS
from generation import GenerationProject, answer, entities
from loopback import Behaviour, LoopbackServer, Script, fails, returns

from enhancer.harness import AnswerValidator, Journal
from enhancer.prompts import PROFILE_SCHEMA

KILLS, ENTITIES, WORKERS, LATENCY = 40, 1000, 4, 0.02
POISONED = "777"

# Imports once and forks one run for each line: forty starts of an interpreter would dominate the test.
FORKING_PROGRAM = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from generation import GenerationProject, entities
import enhancer.features.generating.direct_run, enhancer.harness.calls.retry, aiohttp, jsonschema
enhancer.harness.calls.retry.BACKOFF_SECONDS = 0.005
for _ in sys.stdin:
    child = os.fork()
    if not child:
        try:
            GenerationProject(Path(sys.argv[2]), sys.argv[3], entities(int(sys.argv[4])), concurrency=int(sys.argv[5])).generate()
        finally:
            os._exit(1)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@pytest.fixture
def forker(tmp_path: Path, llm_server: LoopbackServer) -> Iterator[subprocess.Popen[str]]:
    arguments = [str(HELPERS), str(tmp_path), llm_server.url, str(ENTITIES), str(WORKERS)]
    command = [sys.executable, "-c", FORKING_PROGRAM, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


def on_disk(journal: Path) -> set[str]:
    """Return the ids whose answers are on disk."""
    if not journal.exists():
        return set()
    with sqlite3.connect(journal) as connection:
        texts = [row[0] for row in connection.execute("SELECT text FROM completions")]
    connection.close()
    found = [re.search(r"about number (\d+),", text) for text in texts]
    return {match.group(1) for match in found if match}


def test_forty_kills_at_random(tmp_path: Path, llm_server: LoopbackServer, forker: subprocess.Popen[str]) -> None:
    chance = random.Random(4)

    def fault(number: int, body: object) -> Behaviour | None:
        if f"film {POISONED}\n" in json.dumps(body).replace("\\n", "\n"):
            return returns("I would rather not.", latency=LATENCY)
        return fails(500) if number % 97 == 5 else None

    llm_server.script = Script(default=Behaviour(answer=answer, latency=LATENCY), choose=fault)
    assert forker.stdin is not None
    assert forker.stdout is not None
    journal = tmp_path / "features" / "journal.sqlite"
    acknowledged: list[tuple[int, set[str]]] = []
    advanced = 0
    for _ in range(KILLS):
        before = llm_server.count
        forker.stdin.write("\n")
        forker.stdin.flush()
        child = int(forker.stdout.readline())
        deadline = time.monotonic() + 10
        while llm_server.count == before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.2))
        os.kill(child, signal.SIGKILL)
        assert os.WIFSIGNALED(int(forker.stdout.readline())), "the run was killed, it did not end by itself"
        advanced += llm_server.count > before
        acknowledged.append((len(llm_server.bodies), on_disk(journal)))
    assert advanced == KILLS, "every run was killed after a call"
    time.sleep(3 * LATENCY)

    with GenerationProject(tmp_path, llm_server.url, entities(ENTITIES), concurrency=WORKERS).open_store() as store:
        half_way = sum(1 for _ in store.scan())
    assert half_way > ENTITIES / 20, "records stored before a kill are kept"

    bench = GenerationProject(tmp_path, llm_server.url, entities(ENTITIES), concurrency=8 * WORKERS)
    report = bench.generate()
    stored = bench.stored()
    with Journal(bench.store.directory) as ledger:
        failed = {line.id: line for line in ledger.all_quarantined()}
        paid = ledger.costs()[0].calls
    bench.store.close()
    assert set(failed) == {POISONED}
    assert failed[POISONED].reason
    assert failed[POISONED].raw == "I would rather not."
    assert report.entities == report.cached + report.generated + report.quarantined == ENTITIES
    judge = AnswerValidator(PROFILE_SCHEMA, "x")
    assert set(stored) == {str(n) for n in range(ENTITIES)} - {POISONED}
    for record in stored.values():
        judge.validate({"profile": record.profile, "tags": list(record.tags)}, "")
        assert f"about number {record.id}," in record.profile

    # Every entity is paid for once, the one without a valid answer three times, and calls in flight at a kill again.
    asked = [next(iter(re.findall(r"film (\d+)", body["messages"][1]["content"]))) for body in llm_server.bodies]
    refused = sum(number % 97 == 5 for number in range(len(asked)))
    assert paid == ENTITIES + 2
    assert len(asked) <= ENTITIES + 2 + refused + KILLS * WORKERS
    for place, there in acknowledged:
        assert not there & set(asked[place:]), "an answer on disk at a kill was asked for again"
