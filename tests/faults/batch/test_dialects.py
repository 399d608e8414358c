"""Test the promises of batch jobs for each dialect: paid once, resumed, matched by id, cancelled, within limits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_dialects import DIALECTS, DialectProject
from batch_project import SECRET, whole
from dists import HELPERS
from generation import answer, entities
from loopback import Behaviour, LoopbackServer, Script, fails
from loopback_batch import LoopbackBatches, Plan
from processes import start

from enhancer.errors import AuthenticationError, BudgetError, ProviderError, RequestError


@pytest.fixture(params=list(DIALECTS))
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def batches(dialect: str) -> LoopbackBatches:
    return DIALECTS[dialect].server()


@pytest.fixture
def bench(
    dialect: str, batches: LoopbackBatches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DialectProject]:
    spoken = DIALECTS[dialect]
    monkeypatch.setenv(spoken.key, SECRET)
    monkeypatch.setattr("enhancer.harness.calls.retry.BACKOFF_SECONDS", 0.005)
    with LoopbackServer(Script(default=Behaviour(answer=answer)), add_routes=batches.add_routes) as server:
        price = {"input": 100.0, "output": 200.0}
        made = DialectProject(tmp_path, server.url, entities(8), model=spoken.model, batch_poll=0.02, price=price)
        made.dialect, made.server, made.batches = spoken, server, batches
        yield made
        made.store.close()
        assert server.count == 0
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert not list((tmp_path / "batches").glob("*")), "a file of a job was left behind"
    assert batches.keys <= {SECRET, f"Bearer {SECRET}"}


def sizes(batches: LoopbackBatches) -> list[int]:
    return [len(job.lines) for job in batches.jobs.values()]


def test_all_well_at_half_the_price(bench, batches):
    batches.default = Plan(polls=2, shuffled=True)
    report = bench.offline()
    whole(bench, report)
    assert (report.generated, report.requests, batches.submitted, len(batches.jobs)) == (8, 8, 8, 1)
    full = (report.prompt_tokens * 100.0 + report.completion_tokens * 200.0) / 1e6
    assert report.cost_usd == bench.ledger()[1] == pytest.approx(full / 2)
    again = bench.offline()
    assert (again.cached, again.requests, again.cost_usd) == (8, 0, 0.0)
    assert len(batches.jobs) == 1


def test_several_entities_a_request(bench, batches):
    bench.llm["items_per_request"] = 3
    whole(bench, bench.offline())
    assert sizes(batches) == [3]


def test_what_is_missing_expired_or_failed_alone_is_submitted_again(bench, batches):
    bench.llm["batch_rounds"] = 4
    batches.plans = [
        Plan(missing={1, 5}, junk=True, doubled={2}),
        Plan(answer=lambda n, _: fails(500) if n == 0 else None),
        Plan(expires_from=0),
    ]
    report = bench.offline()
    whole(bench, report)
    assert sizes(batches)[:3] == [8, 2, 1]
    assert bench.ledger()[0] == report.requests == 8


def test_a_truncated_file_of_results_costs_one_request_at_most(bench, batches):
    batches.plans = [Plan(truncated=True)]
    whole(bench, bench.offline())
    assert sizes(batches) == [8, 1]


def test_a_refused_request_is_quarantined_with_the_providers_words(bench, batches):
    batches.default = Plan(answer=lambda n, _: fails(400, "the parrot is too long") if n == 2 else None)
    whole(bench, bench.offline(), quarantined=1)
    ((reason, transient),) = bench.quarantine().values()
    assert "the parrot is too long" in reason
    assert not transient
    bench.offline()
    assert len(batches.jobs) == 1


def test_a_parameter_that_is_refused_is_left_out_of_the_next_job(bench, batches):
    refusal = fails(400, "temperature is deprecated for this model")
    batches.plans = [Plan(answer=lambda *_: refusal)]
    whole(bench, bench.offline())
    assert sizes(batches) == [8, 8]
    assert ['"temperature"' in json.dumps(job.lines) for job in batches.jobs.values()] == [True, False]


def test_all_refused_is_a_fault_of_the_settings(bench, batches):
    batches.default = Plan(answer=lambda *_: fails(400, "Unsupported parameter: 'seed'"))
    with pytest.raises(RequestError, match=r"all 8 requests .*Unsupported parameter"):
        bench.offline()
    assert not bench.quarantine()


def test_a_job_refused_as_a_whole_shows_the_providers_words(bench, batches):
    batches.plans = [Plan(refused=({"code": "x", "line": None, "message": "The model does not exist."},))]
    with pytest.raises(RequestError, match=r"The model does not exist"):
        bench.offline()
    assert not bench.quarantine()
    whole(bench, bench.offline())


@pytest.mark.parametrize(
    ("where", "trouble"),
    [
        *[("create", trouble) for trouble in (429, 500, "reset", "lost", "half")],
        *[("upload", "lost"), ("poll", "half"), ("content", "half")],
    ],
)
def test_no_trouble_of_the_network_submits_twice(bench, batches, where, trouble):
    batches.default = Plan(polls=1)
    batches.failures[where] = [trouble] * 2
    whole(bench, bench.offline())
    assert len(batches.jobs) == 1
    assert bench.ledger()[0] == 8


def test_a_creation_that_never_gets_through_is_looked_for_by_the_next_run(bench, batches):
    bench.llm["max_attempts"] = 1
    batches.default = Plan(polls=2)
    batches.failures["create"] = ["lost"]
    with pytest.raises(ProviderError):
        bench.offline()
    assert bench.plan().pending == 8
    whole(bench, bench.offline())
    assert len(batches.jobs) == 1


@pytest.mark.parametrize("where", ["create", "poll"])
def test_a_refused_key_stops_the_run_and_is_not_told(bench, batches, where):
    batches.failures[where] = [401]
    with pytest.raises(AuthenticationError) as caught:
        bench.offline()
    assert SECRET not in repr(caught.value)
    whole(bench, bench.offline())
    assert len(batches.jobs) == 1


def test_no_wait_submits_and_a_later_run_collects(bench, batches):
    batches.default = Plan(polls=1)
    assert bench.offline(wait=False).pending == 8
    assert bench.offline(wait=False).pending == 8
    whole(bench, bench.offline(wait=False))
    assert len(batches.jobs) == 1


def test_a_job_cancelled_at_the_provider_stops_the_run_and_keeps_what_it_had(bench, batches):
    batches.plans = [Plan(cancelled_from=5)]
    with pytest.raises(RequestError, match="was cancelled at the provider"):
        bench.offline()
    whole(bench, bench.offline())
    assert sizes(batches) == [8, 3 if bench.dialect.keeps_partial else 8]


def test_abandon_ends_what_is_out_and_keeps_what_it_had(bench, batches):
    batches.default = Plan(polls=10**6)
    assert bench.offline(wait=False).pending == 8
    report = bench.offline(abandon=True)
    assert (report.generated, report.pending) == (4 if bench.dialect.keeps_partial else 0, 0)
    batches.default = Plan()
    whole(bench, bench.offline())
    assert sizes(batches) == [8, 4 if bench.dialect.keeps_partial else 8]


def test_a_job_that_the_provider_does_not_know(bench, batches):
    batches.default = Plan(polls=99)
    bench.offline(wait=False)
    batches.jobs.clear()
    with pytest.raises(RequestError, match="has no batch job"):
        bench.offline()
    assert bench.offline(abandon=True).pending == 0


def test_a_full_queue_is_waited_for(bench, batches):
    bench.llm["batch_requests"] = 3
    batches.max_running = 1
    batches.default = Plan(polls=1)
    whole(bench, bench.offline())
    assert (sum(sizes(batches)), max(sizes(batches))) == (8, 3)
    assert bench.ledger()[0] == 8


def test_what_a_full_queue_refuses_is_created_by_a_later_run(bench, batches):
    bench.llm["batch_requests"] = 5
    batches.max_running = 1
    batches.default = Plan(polls=2)
    assert bench.offline(wait=False).pending >= 5
    for _ in range(8):
        report = bench.offline(wait=False)
    whole(bench, report)
    assert sizes(batches) == [5, 3]


def test_requests_and_bytes_a_job_are_bounded(bench, batches):
    bench.llm["batch_requests"] = 3
    whole(bench, bench.offline())
    assert sizes(batches) == [3, 3, 2]
    bench.rows = entities(16)
    bench.llm |= {"batch_requests": 1000, "batch_bytes": 6000}
    whole(bench, bench.offline())
    assert len(batches.jobs) > 4
    assert all(size <= 6100 for size in batches.uploads)


def test_the_budget_is_never_passed(bench, batches):
    bench.llm |= {"max_cost": 0.6, "thought_tokens": 0}  # room for thought would not fit into it
    batches.default = Plan(polls=1)
    try:
        whole(bench, bench.offline())
    except BudgetError:
        assert bench.stored()
    assert bench.ledger()[1] <= 0.6


CHILD = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from batch_dialects import DIALECTS, DialectProject
from generation import entities
DialectProject.dialect = DIALECTS[{dialect!r}]
bench = DialectProject(Path({folder!r}), {url!r}, entities(30), model=DialectProject.dialect.model, timeout=5.0,
                       batch_poll=0.02, batch_requests=12, price={{"input": 1.0, "output": 1.0}})
report = bench.offline()
print(report.generated, report.cached, report.pending)
"""


@pytest.mark.parametrize("dialect", ["anthropic"], indirect=True)
def test_a_kill_while_the_job_is_created_pays_nothing_twice(bench, batches, dialect):
    """The server kills the client instead of telling it of the second job. Jobs of Anthropic carry no token."""
    batches.default = Plan(polls=2)
    bench.rows = entities(30)
    children: list[subprocess.Popen[str]] = []
    befalls = batches._next_failure

    def killing(here: Any) -> Any:
        trouble = befalls(here)
        if here != "create" or batches.calls[here] != 2:
            return trouble
        threading.Timer(0.0, children[-1].kill).start()
        return "lost"

    batches._next_failure = killing  # type: ignore[method-assign]
    code = CHILD.format(tests=str(HELPERS), folder=str(bench.folder), url=bench.url, dialect=dialect)
    children.append(start([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    _, err = children[0].communicate(timeout=60)
    assert children[0].returncode == -signal.SIGKILL, err
    bench.llm["batch_requests"] = 12
    report = bench.offline()
    assert report.pending == 0
    assert len(bench.stored()) == batches.submitted == bench.ledger()[0] == 30
    assert set(bench.asked().values()) == {1}
