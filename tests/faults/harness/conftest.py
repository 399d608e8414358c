"""Fixtures for tests of faults of the provider, the network and the machine.

In all of them: every entity ends stored and valid, or in quarantine with a reason; no call is paid twice beyond those in
flight at a kill; no secret is anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from generation import GenerationProject, entities
from loopback import LoopbackServer, Script
from run_outcomes import GOOD, SECRET

from enhancer.harness.answers.answer_validator import AnswerValidator
from enhancer.prompts import PROFILE_SCHEMA


@pytest.fixture
def bench(tmp_path: Path, llm_server: LoopbackServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[GenerationProject]:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    # Back-off uses real time; a hundredth of it is enough.
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.005)
    llm_server.script = Script(default=GOOD)
    made = GenerationProject(tmp_path, llm_server.url, entities(6), timeout=2.0, concurrency=4)
    yield made
    judge = AnswerValidator(PROFILE_SCHEMA, "x")
    for record in made.store.scan():
        judge.validate({"profile": record.profile, "tags": list(record.tags)}, "")
    made.store.close()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
