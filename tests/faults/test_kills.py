"""Kill runs at random: nothing that is on disk is lost or paid for twice."""

from __future__ import annotations

import contextlib
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
from typing import Any

import pytest
from dists import HELPERS
from generation import GenerationProject, answer, asked_ids, entities
from loopback import Behaviour, LoopbackServer, Script, fails, returns
from notes import TEMPLATE, answer_notes, asked_notes

from enhancer.harness import AnswerValidator, Journal
from enhancer.prompts import PROFILE_SCHEMA

KILLS, ENTITIES, WORKERS, LATENCY = 40, 1000, 4, 0.02
POISONED = "777"

# Imports once and forks one run for each line: forty starts of an interpreter would dominate the test.
FORKING_PROGRAM = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from generation import GenerationProject, entities
import enhancer.features.generating.direct_run, enhancer.harness.calls.retry, aiohttp, jsonschema
enhancer.harness.calls.retry.BACKOFF_SECONDS = 0.005
for _ in sys.stdin:
    child = os.fork()
    if not child:
        try:
            limits = {"concurrency": int(sys.argv[5]), "items_per_request": int(sys.argv[6])}
            project = GenerationProject(Path(sys.argv[2]), sys.argv[3], entities(int(sys.argv[4])), **limits)
            project.prompts, project.inputs = json.loads(sys.argv[7])
            project.generate()
        finally:
            os._exit(1)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


@contextlib.contextmanager
def forking(
    folder: Path, url: str, entities: int, *, group_size: int = 1, prompts: Any = (), inputs: Any = ("profile",)
) -> Iterator[subprocess.Popen[str]]:
    """Start the program that forks a run for each line that it reads."""
    arguments = [str(HELPERS), str(folder), url, str(entities), str(WORKERS), str(group_size)]
    arguments.append(json.dumps([dict(prompts), list(inputs)]))
    command = [sys.executable, "-c", FORKING_PROGRAM, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        process.wait(20)


@pytest.fixture
def forker(tmp_path: Path, llm_server: LoopbackServer) -> Iterator[subprocess.Popen[str]]:
    with forking(tmp_path, llm_server.url, ENTITIES) as process:
        yield process


def kill_one(forker: subprocess.Popen[str], server: LoopbackServer, seconds: float) -> None:
    """Start a run, and kill it some time after its first call."""
    assert forker.stdin is not None
    assert forker.stdout is not None
    before = server.count
    forker.stdin.write("\n")
    forker.stdin.flush()
    child = int(forker.stdout.readline())
    deadline = time.monotonic() + 10
    while server.count == before and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(int(forker.stdout.readline())), "the run was killed, it did not end by itself"


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
    journal = tmp_path / "features.sqlite" / "journal.sqlite"
    acknowledged: list[tuple[int, set[str]]] = []
    advanced = 0
    for _ in range(KILLS):
        before = llm_server.count
        kill_one(forker, llm_server, chance.uniform(0, 0.2))
        advanced += llm_server.count > before
        acknowledged.append((len(llm_server.bodies), on_disk(journal)))
    assert advanced == KILLS, "every run was killed after a call"
    assert acknowledged[-1][1], "answers are read from the journal"
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


@pytest.mark.parametrize("group_size", [1, 3])
def test_notes_on_disk_at_a_kill_are_not_paid_for_again(
    tmp_path: Path, llm_server: LoopbackServer, group_size: int
) -> None:
    """Runs that ask for two notes are killed, then one that asks for a third, too."""
    (tmp_path / "films.toml").write_text(TEMPLATE)
    llm_server.script = Script(default=Behaviour(answer=answer_notes, latency=LATENCY))
    journal = tmp_path / "features.sqlite" / "journal.sqlite"
    aspects, kills, films = ["plot", "mood"], 5, 60 * group_size  # enough requests that no run ends by itself
    acknowledged = []
    for count in (2, 3):
        aspects = ["plot", "mood", "making"][:count]
        prompts = {"item": {"template": "films.toml", "aspects": aspects}}
        chosen = {"group_size": group_size, "prompts": prompts, "inputs": aspects}
        with forking(tmp_path, llm_server.url, films, **chosen) as forker:
            for number in range(kills):
                kill_one(forker, llm_server, 0.02 * number)
                acknowledged.append((len(llm_server.bodies), notes_on_disk(journal)))
    time.sleep(3 * LATENCY)
    bench = GenerationProject(tmp_path, llm_server.url, entities(films), items_per_request=group_size)
    bench.prompts, bench.inputs = prompts, aspects
    report = bench.generate()
    assert report.entities == report.cached + report.generated == films
    assert len(list(bench.store.scan(kind="item"))) == 3 * films
    bench.store.close()
    for place, there in acknowledged:
        assert there.isdisjoint(pair for body in llm_server.bodies[place:] for pair in asked_pairs(body))
    assert any(there for _, there in acknowledged[:kills])
    assert len({pair for body in llm_server.bodies for pair in asked_pairs(body)}) == 3 * films


def asked_pairs(body: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the ids and notes that a request asks for."""
    found = re.search(r"film (\d+)", body["messages"][1]["content"])
    ids = asked_ids(body) or [found.group(1) if found else ""]
    return {(id_, name) for id_ in ids for name in asked_notes(body)}


def notes_on_disk(journal: Path) -> set[tuple[str, str]]:
    """Return the ids and notes whose answers are on disk."""
    if not journal.exists():
        return set()
    with sqlite3.connect(journal) as connection:
        texts = [row[0] for row in connection.execute("SELECT text FROM completions")]
    connection.close()
    found = re.findall(r"The (\w+) of number (\d+),", " ".join(texts))
    return {(id_, name) for name, id_ in found}
