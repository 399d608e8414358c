"""Runs that embed by batch jobs are killed, interrupted, or run at once: nothing is paid twice, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from dists import HELPERS
from embedding_project import EmbeddingProject, embedding_project, whole
from generation import entities
from loopback_batch import Plan
from processes import start

from enhancer.errors import EnhancerError, ProviderError
from enhancer.harness import Journal

CHILD = """
import sys
sys.path.insert(0, {helpers!r})
from pathlib import Path
from embedding_project import EmbeddingProject
from generation import entities
bench = EmbeddingProject(Path({folder!r}), {url!r}, entities(30), batch_poll=0.02, batch_requests=12)
bench.prompts, bench.inputs = {{"item": {{"source": "text"}}}}, ["text"]
bench.embedding = {{"use": "openai", "price": 100.0, "batch": True}}
report = bench.offline()
print(report.generated, report.cached, report.pending)
"""


@pytest.fixture
def bench(tmp_path, monkeypatch) -> Iterator[EmbeddingProject]:
    with embedding_project(tmp_path, monkeypatch) as made:
        made.rows = entities(30)
        yield made


def paid(bench: EmbeddingProject) -> tuple[int, float]:
    with Journal(bench.store.directory) as journal:
        (line,) = journal.costs("template")
        return line.texts, line.cost_usd or 0.0


@pytest.mark.parametrize(
    ("where", "told"), [("upload", True), ("create", False), ("create", True), ("poll", True), ("content", True)]
)
def test_a_kill_at_each_step_pays_nothing_twice(bench, where, told):
    """The server kills the client at the moment it has completed a request."""
    batches = bench.batches
    batches.default = Plan(polls=1)
    children: list[subprocess.Popen[str]] = []
    next_failure = batches._next_failure

    def killing(here: Any) -> Any:
        failure = next_failure(here)
        if here != where or batches.calls[here] != 2:
            return failure
        # After its response is sent, or instead of it.
        threading.Timer(0.002 if told else 0.0, children[-1].kill).start()
        return failure if told else "lost"

    batches._next_failure = killing  # type: ignore[method-assign]
    code = CHILD.format(helpers=str(HELPERS), folder=str(bench.folder), url=bench.url)
    for _ in range(3):
        child = start([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        children.append(child)
        out, err = child.communicate(timeout=60)
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, err
    assert child.returncode == 0
    assert out.split()[2] == "0"
    assert len(children) > 1
    assert set(Counter(batches.texts).values()) == {1}
    assert len(bench.texts()) == len(batches.texts) == 30
    assert paid(bench) == (30, pytest.approx(sum(len(row.text.split()) for row in bench.rows) * 50e-6))


def test_two_runs_at_once_pay_once(bench):
    bench.batches.default = Plan(polls=3)
    reports: list[Any] = []
    threads = [threading.Thread(target=lambda: reports.append(bench.offline())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(reports) == 2
    assert len(bench.batches.texts) == sum(report.embedding_requests for report in reports) == paid(bench)[0] == 30
    assert len(bench.texts()) == 30


def test_an_interrupted_run_leaves_the_job_going(bench):
    bench.batches.default = Plan(polls=10**6)

    def interrupt() -> None:
        while not bench.batches.calls["poll"]:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        bench.offline()
    assert caught.value.report.pending == 30
    for job in bench.batches.jobs.values():
        job.plan = Plan()
    whole(bench, bench.offline())
    assert len(bench.batches.jobs) == 1


def test_a_job_that_was_not_created_is_dropped_when_the_model_is_another_one_by_now(bench):
    bench.llm["max_attempts"] = 1
    bench.batches.failures["create"] = ["reset"]
    with pytest.raises(ProviderError):
        bench.offline()
    bench.model = "another-one"
    whole(bench, bench.offline())
    assert {body["model"] for body in bench.batches.bodies} == {"another-one"}


def test_a_job_that_was_created_is_collected_though_the_model_is_another_one_by_now(bench):
    bench.llm["max_attempts"] = 1
    bench.batches.failures["create"] = ["lost"]
    with pytest.raises(ProviderError):
        bench.offline()
    bench.model = "another-one"
    report = bench.offline()
    whole(bench, report)
    assert [job.lines[0]["body"]["model"] for job in bench.batches.jobs.values()] == ["m", "another-one"]
    assert report.cost_usd is None, "the price of the other model is not that of the configuration"
    bench.model, bench.rows = "m", [*bench.rows]
    report = bench.offline()
    assert (report.embedded, report.embedding_requests) == (30, 0)


def test_a_full_disk_loses_no_vector(bench, monkeypatch):
    put = type(bench.store).put
    calls = []

    def full(store: Any, records: Any) -> None:
        calls.append(len(records))
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        put(store, records)

    monkeypatch.setattr(type(bench.store), "put", full)
    with pytest.raises((EnhancerError, OSError)):
        bench.offline()
    whole(bench, bench.offline())
    assert len(bench.batches.texts) == 30
