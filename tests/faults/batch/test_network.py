"""Test network faults, concurrent runs, and kills at each step: no job is submitted twice without need."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from batch_project import SECRET, whole
from dists import HELPERS
from generation import entities, entity, profile_of
from loopback_batch import Plan
from processes import start

from enhancer.errors import (
    AuthenticationError,
    CircuitOpenError,
    EnhancerError,
    ProviderError,
    RequestError,
)

# -- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [429, 500, 503, "reset", "lost", "half"])
@pytest.mark.parametrize("where", ["upload", "create", "poll", "content"])
def test_no_trouble_of_the_network_submits_twice(bench, batches, where, trouble):
    batches.default = Plan(polls=1)
    batches.failures[where] = [trouble] * 2
    report = bench.offline()
    whole(bench, report)
    assert len(batches.jobs) == 1
    assert bench.ledger()[0] == 8


def test_looks_that_fail_for_long_stop_the_run_and_the_job_goes_on(bench, batches):
    batches.failures["poll"] = [500] * 10
    with pytest.raises(CircuitOpenError, match="cannot be reached"):
        bench.offline()
    whole(bench, bench.offline())
    assert len(batches.jobs) == 1


@pytest.mark.parametrize("where", ["upload", "create", "poll"])
def test_a_refused_key_stops_the_run_and_is_not_told(bench, batches, where):
    batches.failures[where] = [401]
    with pytest.raises(AuthenticationError) as caught:
        bench.offline()
    assert SECRET not in repr(caught.value)
    whole(bench, bench.offline())
    assert len(batches.jobs) == 1


def test_a_server_without_a_batch_api_says_so(bench, batches):
    batches.failures["upload"] = [404]
    with pytest.raises(RequestError, match="without --batch"):
        bench.offline()
    assert bench.plan().pending == 0, "what was never sent is not out"
    whole(bench, bench.offline())


def test_a_creation_that_never_gets_through_is_looked_for_by_the_next_run(bench, batches):
    bench.llm["max_attempts"] = 1
    batches.failures["create"] = ["lost"]
    with pytest.raises(ProviderError):
        bench.offline()
    assert bench.plan().pending == 8
    report = bench.offline()
    whole(bench, report)
    assert len(batches.jobs) == 1


# -- two processes, kills ------------------------------------------------------------------------------------------


def test_no_wait_submits_and_a_later_run_collects(bench, batches):
    batches.default = Plan(polls=2)
    first = bench.offline(wait=False)
    assert (first.pending, first.requests, first.generated) == (8, 0, 0)
    plan = bench.plan(batch=True)
    assert (plan.pending, plan.to_generate, plan.requests) == (8, 0, 0)
    assert bench.offline(wait=False).pending == 8
    assert bench.offline(wait=False).pending == 8
    last = bench.offline(wait=False)
    whole(bench, last)
    assert last.generated == 8
    assert len(batches.jobs) == 1


def test_direct_calls_leave_alone_what_is_out(bench, batches):
    batches.default = Plan(polls=10**6)
    bench.offline(wait=False)
    bench.rows.append(entity("new"))
    report = bench.generate()
    assert (report.generated, report.pending) == (1, 8)
    bench.server.reset_counts()
    for job in batches.jobs.values():
        job.status = "cancelling"
    with pytest.raises(RequestError, match="cancelled"):
        bench.offline()


def test_two_runs_at_once_pay_once(bench, batches):
    batches.default = Plan(polls=3)
    bench.rows = entities(40)
    reports: list[Any] = []
    threads = [threading.Thread(target=lambda: reports.append(bench.offline())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(reports) == 2
    assert len(bench.stored()) == batches.submitted == bench.ledger()[0] == sum(r.requests for r in reports) == 40


CHILD = """
import sys, os
sys.path.insert(0, {tests!r})
from pathlib import Path
from generation import GenerationProject, entities
bench = GenerationProject(Path({folder!r}), {url!r}, entities(30), timeout=5.0, batch_poll=0.02, batch_requests=12,
              price={{"input": 1.0, "output": 1.0}})
report = bench.pipeline().generate_offline()
print(report.generated, report.cached, report.pending)
"""


@pytest.mark.parametrize(
    ("where", "told"), [("upload", True), ("create", False), ("create", True), ("poll", True), ("content", True)]
)
def test_a_kill_at_each_step_pays_nothing_twice(bench, batches, where, told):
    """The server kills the client at the moment it has completed a request."""
    batches.default = Plan(polls=1)
    bench.rows = entities(30)
    children: list[subprocess.Popen[str]] = []
    befalls = batches._next_failure

    def killing(here: Any) -> Any:
        trouble = befalls(here)
        if here != where or batches.calls[here] != 2:
            return trouble
        # After its response is sent, or instead of it.
        threading.Timer(0.0 if not told else 0.002, children[-1].kill).start()
        return trouble if told else "lost"

    batches._next_failure = killing  # type: ignore[method-assign]
    code = CHILD.format(tests=str(HELPERS), folder=str(bench.folder), url=bench.url)
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
    assert len(bench.stored()) == batches.submitted == bench.ledger()[0] == 30
    assert set(bench.asked().values()) == {1}


def test_where_jobs_are_not_listed_a_lost_creation_is_the_only_one_repeated(bench, batches):
    batches.has_list_route = False
    batches.failures["create"] = ["lost"]
    whole(bench, bench.offline())
    assert len(batches.jobs) == 2


def test_a_job_that_was_not_created_is_dropped_when_the_model_is_another_one_by_now(bench, batches):
    bench.llm["max_attempts"] = 1
    batches.failures["create"] = ["reset"]
    with pytest.raises(ProviderError):
        bench.offline()
    bench.llm["model"] = "another-one"
    whole(bench, bench.offline())
    assert len(batches.jobs) == 1
    assert {body["model"] for body in batches.bodies} == {"another-one"}


def test_a_job_that_was_created_is_collected_though_the_model_is_another_one_by_now(bench, batches):
    bench.llm["max_attempts"] = 1
    batches.failures["create"] = ["lost"]
    with pytest.raises(ProviderError):
        bench.offline()
    bench.llm["model"] = "another-one"
    whole(bench, bench.offline())
    assert [job.lines[0]["body"]["model"] for job in batches.jobs.values()] == ["loopback-model", "another-one"]
    assert bench.ledger()[0] == 16


def test_an_interrupted_run_leaves_the_job_going(bench, batches):
    batches.default = Plan(polls=10**6)
    seen: list[int] = []

    def interrupt(progress: Any) -> None:
        if "batch" in progress.detail:
            seen.append(1)
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        bench.offline(listener=interrupt)
    assert time.monotonic() - started < 10
    assert [job.provider_id for job in bench.pipeline().open_jobs()] == ["batch_0"]
    batches.jobs["batch_0"].plan = Plan()
    whole(bench, bench.offline())
    assert len(batches.jobs) == 1


def test_a_broken_embedder_loses_nothing_paid_for(bench, batches):
    bench.embedder.fail = EnhancerError("no embedder today")
    with pytest.raises(EnhancerError, match="no embedder"):
        bench.offline()
    bench.embedder.fail = None
    whole(bench, bench.offline())
    assert batches.submitted == 8


def test_profiles_name_their_items(bench):
    """The check in :func:`whole` detects answers that went to the wrong item."""
    assert "number 3," not in profile_of("number 4")["profile"]
