"""Test that runs share threads that never end, and that each of several at a time has one of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from enhancer.features.generating.run_in_thread import run_in_thread

RUNS = """
import tempfile
from pathlib import Path
from generation import GenerationProject, answer, entities
from loopback import Behaviour, LoopbackServer, Script

with LoopbackServer(Script(default=Behaviour(answer=answer)), keep_requests=False) as server:
    for _ in range(6):
        with tempfile.TemporaryDirectory() as folder:
            project = GenerationProject(Path(folder), server.url, entities(40), concurrency=32)
            assert project.generate().generated == 40
            project.store.close()
print("done")
"""


async def thread_number() -> int:
    return threading.get_ident()


def test_one_run_after_another_has_the_same_thread() -> None:
    numbers = {run_in_thread(thread_number, lambda _: None) for _ in range(5)}
    assert len(numbers) == 1
    assert numbers != {threading.get_ident()}


def test_a_run_within_a_run_has_another() -> None:
    async def outer() -> tuple[int, int]:
        inner = await asyncio.to_thread(run_in_thread, thread_number, lambda _: None)
        return threading.get_ident(), inner

    one, other = run_in_thread(outer, lambda _: None)
    assert one != other


def test_an_error_is_raised_and_the_thread_used_again() -> None:
    async def fails() -> None:
        raise ValueError(threading.get_ident())

    with pytest.raises(ValueError, match=r"\d+") as caught:
        run_in_thread(fails, lambda _: None)
    assert caught.value.args[0] == run_in_thread(thread_number, lambda _: None)


def test_many_runs_in_one_process(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "helpers"), "OPENAI_API_KEY": "x"}
    command = [sys.executable, "-c", RUNS]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
