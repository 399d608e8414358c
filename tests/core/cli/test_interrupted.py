"""Tests of Ctrl-C, SIGTERM and SIGHUP: the report goes to stderr, and the process ends soon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import processes
import pytest
from command_line import project_file
from dists import make_dist
from generation import answer
from loopback import Behaviour, Script, returns

from enhancer.harness import Journal

SLOW = """
from enhancer.contracts import Embedder

class Slow(Embedder):
    dim, fingerprint = 8, "slow"
    def __init__(self, options, context): pass
    def encode(self, texts):
        import time
        open("encoding", "w").close()
        time.sleep(60)  # cannot be interrupted, like the import of a large library

@hookimpl
def register_embedders(register):
    register("slow", Slow)
"""


@pytest.fixture
def start(tables, hashing, llm_server):
    make_dist(tables / ".site", "slow", SLOW)
    begun = []

    def run(embedder, *flags, fresh=False):
        (tables / "enhancer.toml").write_text(project_file(llm_server.url, llm="concurrency = 2", embedder=embedder))
        command = [sys.executable, "-c", processes.COMMAND_LINE, "generate", "--yes", "--json", *flags]
        path = os.pathsep.join([str(tables / ".site"), *sys.path])
        process = processes.start(
            command,
            fresh=fresh,
            cwd=tables,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        process.kill()
        process.wait()


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


@pytest.mark.parametrize(
    ("flags", "stop"),
    [((), signal.SIGINT), (("--log-json",), signal.SIGINT), ((), signal.SIGTERM), ((), signal.SIGHUP)],
    ids=["plain", "json", "terminated", "hung up"],
)
def test_what_was_done_is_told(start, llm_server, flags, stop):
    llm_server.script = Script(default=returns(answer))
    llm_server.script.choose = lambda number, _: Behaviour(latency=1.0) if number >= 3 else None
    process = start("hashing", *flags)
    wait_for(lambda: llm_server.answered >= 3 and llm_server.in_flight)
    process.send_signal(stop)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert out == "", "an interrupted run must not print a result"
    if flags:
        told = [json.loads(line) for line in err.splitlines()]
        (summary,) = [line["result"] for line in told if line["event"] == "summary"]
        assert summary["requests"] == llm_server.answered
        assert told[-1]["type"] == "interrupted"
    else:
        counts = dict(line.rsplit(None, 1) for line in err.splitlines() if line.startswith(("calls", "generated")))
        assert int(counts["calls"]) == llm_server.answered
        assert err.rstrip().endswith("run the same command again to continue.")


def test_a_closed_terminal_loses_no_answer(start, llm_server, tables):
    llm_server.script = Script(default=returns(answer))
    llm_server.script.choose = lambda number, _: Behaviour(latency=1.0, answer=answer) if number >= 3 else None
    process = start("hashing")
    wait_for(lambda: llm_server.answered >= 3 and llm_server.in_flight)
    process.stderr.close()  # what is written now fails
    process.send_signal(signal.SIGHUP)
    process.stdout.close()
    assert process.wait(30) == 130
    with Journal(tables / "features") as journal:
        assert sum(line.calls for line in journal.costs()) == llm_server.answered


def test_nohup_stays_in_force(start, llm_server):
    llm_server.script = Script(default=returns(answer))
    llm_server.script.choose = lambda number, _: Behaviour(latency=0.5, answer=answer) if number >= 3 else None
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("hashing", fresh=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(lambda: llm_server.answered >= 3 and llm_server.in_flight)
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err


def test_an_embedder_that_cannot_be_interrupted_is_not_waited_for(start, llm_server, tables):
    llm_server.script = Script(default=returns(answer))
    process = start("slow")
    wait_for((tables / "encoding").exists)
    wait_for(lambda: llm_server.answered == 6)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert time.monotonic() - started < 8
    assert "Traceback" not in err
    assert textwrap.dedent(err).count("interrupted") == 1
