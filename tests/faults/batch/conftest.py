"""Fixtures for tests of batch jobs. They check that no secret and no file of a job remains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_project import SECRET, BatchProject
from generation import answer, entities
from loopback import Behaviour, LoopbackServer, Script
from loopback_batch import LoopbackBatches

from enhancer.harness.answers.answer_validator import AnswerValidator
from enhancer.prompts import PROFILE_SCHEMA


@pytest.fixture
def batches() -> LoopbackBatches:
    return LoopbackBatches()


@pytest.fixture
def bench(tmp_path: Path, batches: LoopbackBatches, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchProject]:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.005)
    with LoopbackServer(Script(default=Behaviour(answer=answer)), add_routes=batches.add_routes) as server:
        price = {"input": 100.0, "output": 200.0}
        made = BatchProject(tmp_path, server.url, entities(8), timeout=2.0, batch_poll=0.02, price=price)
        made.server, made.batches = server, batches
        yield made
        judge = AnswerValidator(PROFILE_SCHEMA, "x")
        for record in made.store.scan():
            judge.validate({"profile": record.profile, "tags": list(record.tags)}, "")
        made.store.close()
        assert server.count == 0, "a run of offline batches made a direct call"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert not list((tmp_path / "batches").glob("*")), "a file of a job was left behind"
