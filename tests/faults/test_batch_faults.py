"""Everything that a batch API, a network or a kill can do to ``generate --batch``, each its own test.

In all of them: every entity ends stored and valid, or in quarantine with a reason; nothing is submitted twice without
need; no secret is anywhere.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generation import Bench, answer, entities, entity, profile_of
from loopback import Behaviour, LoopbackServer, Script, fails, returns
from loopback_batch import LoopbackBatches, Plan

from enhancer.errors import (
    AuthenticationError,
    BudgetError,
    CircuitOpenError,
    EnhancerError,
    ProviderError,
    RequestError,
)
from enhancer.harness import Journal
from enhancer.harness.validate import AnswerValidator
from enhancer.prompts import PROFILE_SCHEMA

SECRET = "sk-verysecret-0123456789abcdef"


class BatchBench(Bench):
    """A bench that goes the offline road."""

    server: LoopbackServer
    batches: LoopbackBatches

    def offline(self, **more: Any) -> Any:
        return self.pipeline().generate_offline(**more)

    def quarantine(self) -> dict[str, tuple[str, bool]]:
        with Journal(self.store.directory) as journal:
            return {q.id: (q.reason, q.transient) for q in journal.all_quarantined()}

    def ledger(self) -> tuple[int, float]:
        with Journal(self.store.directory) as journal:
            lines = journal.costs()
        return sum(line.calls for line in lines), sum(line.cost_usd or 0.0 for line in lines)

    def asked(self) -> Counter[str]:
        """How often each film was asked about alone."""
        return Counter(body["messages"][1]["content"] for body in self.batches.bodies)


@pytest.fixture
def batches() -> LoopbackBatches:
    return LoopbackBatches()


@pytest.fixture
def bench(tmp_path: Path, batches: LoopbackBatches, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchBench]:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setattr("enhancer.harness.caller.BACKOFF_SECONDS", 0.005)
    with LoopbackServer(Script(default=Behaviour(answer=answer)), plug=batches.plug) as server:
        price = {"input": 100.0, "output": 200.0}
        made = BatchBench(tmp_path, server.url, entities(8), timeout=2.0, batch_poll=0.02, price=price)
        made.server, made.batches = server, batches
        yield made
        judge = AnswerValidator(PROFILE_SCHEMA, "x")
        for record in made.store.scan():
            judge.judge({"profile": record.profile, "tags": list(record.tags)}, "")
        made.store.close()
        assert server.count == 0, "the offline road made a call of the direct one"
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert not list((tmp_path / "batches").glob("*")), "a file of a job was left behind"


def whole(bench: BatchBench, report: Any, *, quarantined: int = 0) -> None:
    """Everybody is stored, or in quarantine with a reason; the ledger holds what the report says."""
    there, failed = set(bench.stored()), bench.quarantine()
    assert there | set(failed) == {row.id for row in bench.rows}
    assert len(failed) == report.quarantined == quarantined
    assert all(reason for reason, _ in failed.values())
    assert report.entities == report.cached + report.generated + report.quarantined == len(bench.rows)
    assert report.pending == 0
    for record in bench.stored().values():
        assert f"number {record.id}," in record.profile


# -- results ------------------------------------------------------------------------------------------------------


def test_all_well(bench, batches):
    batches.default = Plan(polls=2)
    report = bench.offline()
    whole(bench, report)
    assert (report.generated, report.requests, batches.submitted, len(batches.jobs)) == (8, 8, 8, 1)
    job = next(iter(batches.jobs.values()))
    assert job.looks == 3
    calls, cost = bench.ledger()
    assert calls == 8
    full = (report.prompt_tokens * 100.0 + report.completion_tokens * 200.0) / 1e6
    assert report.cost_usd == pytest.approx(full / 2)
    assert cost == pytest.approx(full / 2)
    again = bench.offline()
    assert (again.cached, again.requests, again.cost_usd) == (8, 0, 0.0)
    assert len(batches.jobs) == 1


def test_what_is_asked_is_what_the_direct_road_asks(bench, batches):
    bench.llm["items_per_request"] = 3
    bench.offline()
    direct = Bench(bench.folder / "direct", bench.url, bench.rows, **bench.llm)
    direct.generate()

    def told(bodies: list[Any]) -> list[str]:
        return sorted(json.dumps(body, sort_keys=True) for body in bodies)

    assert told(batches.bodies) == told(bench.server.bodies)
    direct.store.close()
    bench.server.forget()


def test_shuffled_answers_are_matched_by_id(bench, batches):
    batches.default = Plan(shuffled=True)
    whole(bench, bench.offline())
    assert batches.submitted == 8


def test_missing_lines_alone_are_submitted_again(bench, batches):
    batches.plans = [Plan(missing={1, 5})]
    report = bench.offline()
    whole(bench, report)
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 2]
    assert report.requests == 8


def test_what_expired_alone_is_submitted_again(bench, batches):
    batches.plans = [Plan(expires_from=3)]
    report = bench.offline()
    whole(bench, report)
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 5]
    assert bench.ledger()[0] == report.requests == 8


def test_what_never_has_its_turn_is_set_aside_and_asked_by_the_next_run(bench, batches):
    bench.llm["batch_rounds"] = 2
    batches.plans = [Plan(expires_from=7), Plan(expires_from=0)]
    report = bench.offline()
    whole(bench, report, quarantined=1)
    ((reason, transient),) = bench.quarantine().values()
    assert "2 batches brought no answer" in reason
    assert "expired" in reason
    assert transient
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 1]
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 1, 1]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_error_lines_that_may_pass_are_submitted_again(bench, batches, status):
    batches.plans = [Plan(answer=lambda n, _: fails(status) if n in (0, 4) else None)]
    report = bench.offline()
    whole(bench, report)
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 2]
    assert report.requests == 8


def test_a_refused_request_is_quarantined_with_the_providers_words(bench, batches):
    batches.default = Plan(answer=lambda n, _: fails(400, "the parrot is too long") if n == 2 else None)
    report = bench.offline()
    whole(bench, report, quarantined=1)
    ((reason, transient),) = bench.quarantine().values()
    assert "the parrot is too long" in reason
    assert not transient
    bench.offline()
    assert len(batches.jobs) == 1, "what is refused for good is not asked again"
    batches.default = Plan()
    whole(bench, bench.offline(retry_quarantined=True))


def test_all_refused_is_a_fault_of_the_settings(bench, batches):
    batches.default = Plan(answer=lambda *_: fails(400, "Unsupported parameter: 'seed'"))
    with pytest.raises(RequestError, match=r"all 8 requests .*Unsupported parameter"):
        bench.offline()
    assert not bench.quarantine()
    batches.default = Plan()
    whole(bench, bench.offline())


def test_a_key_refused_in_the_lines_stops_the_run(bench, batches):
    batches.default = Plan(answer=lambda *_: fails(401, "no access"))
    with pytest.raises(AuthenticationError, match="no access"):
        bench.offline()
    assert not bench.quarantine()
    batches.default = Plan()
    whole(bench, bench.offline())


def test_doubled_lines_count_once(bench, batches):
    batches.default = Plan(doubled={0, 3, 7})
    report = bench.offline()
    whole(bench, report)
    assert bench.ledger()[0] == report.requests == 8


def test_an_answer_outweighs_an_error_about_the_same_request(bench, batches):
    told = iter([fails(500), None])
    batches.default = Plan(doubled={0}, answer=lambda n, _: next(told) if n == 0 else None)
    whole(bench, bench.offline())
    assert batches.submitted == 8


def test_a_truncated_file_costs_its_last_line_alone(bench, batches):
    batches.plans = [Plan(truncated=True)]
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 1]


def test_junk_and_strangers_among_the_lines_are_passed_over(bench, batches):
    batches.default = Plan(junk=True)
    report = bench.offline()
    whole(bench, report)
    assert batches.submitted == report.requests == 8


def test_invalid_answers_are_asked_again_and_shown_the_error(bench, batches):
    batches.plans = [Plan(answer=lambda n, _: returns('{"profile": 7}') if n == 1 else None)]
    report = bench.offline()
    whole(bench, report)
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 1]
    again = batches.bodies[-1]["messages"]
    assert len(again) == 4
    assert "cannot be used" in again[3]["content"]
    assert report.requests == 9


def test_what_stays_invalid_is_quarantined(bench, batches):
    bench.rows = entities(2)
    batches.default = Plan(answer=lambda _, body: returns("no") if "film 1" in json.dumps(body) else None)
    whole(bench, bench.offline(), quarantined=1)
    assert [len(job.lines) for job in batches.jobs.values()] == [2, 1, 1]


def test_a_refusal_is_final_and_a_cut_off_gets_more_room(bench, batches):
    def behave(number: int, body: Any) -> Behaviour | None:
        if number == 0:
            return Behaviour(refusal="I would rather not")
        return returns('{"profile": "A wa', finish_reason="length") if number == 1 else None

    batches.plans = [Plan(answer=behave)]
    whole(bench, bench.offline(), quarantined=1)
    assert [body["max_tokens"] for body in batches.bodies][-2:] == [400, 800]


def test_several_items_a_request(bench, batches):
    bench.llm["items_per_request"] = 3
    report = bench.offline()
    whole(bench, report)
    assert batches.submitted == report.requests == 3


def test_items_dropped_from_a_shared_answer_are_asked_about_alone(bench, batches):
    bench.llm["items_per_request"] = 4

    def drop(number: int, body: Any) -> Behaviour | None:
        items = json.loads(answer(body))["items"]
        return returns(json.dumps({"items": items[1:]})) if number == 0 else None

    batches.plans = [Plan(answer=drop)]
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [2, 1]


def test_a_refused_shared_request_is_taken_apart(bench, batches):
    bench.llm["items_per_request"] = 4
    batches.default = Plan(answer=lambda _, body: fails(400, "poison") if "film 2" in json.dumps(body) else None)
    whole(bench, bench.offline(), quarantined=1)
    assert [len(job.lines) for job in batches.jobs.values()] == [2, 4]


def test_equal_questions_are_asked_once(bench, batches):
    bench.rows = [entity(str(n), "title: film 0") for n in range(5)]
    report = bench.offline()
    assert (len(bench.stored()), batches.submitted, report.generated) == (5, 1, 5)


# -- the job as a whole -------------------------------------------------------------------------------------------


def test_a_job_refused_as_a_whole_shows_the_providers_words(bench, batches):
    batches.plans = [Plan(refused=({"code": "x", "line": 3, "message": "The model `m` does not exist."},))]
    with pytest.raises(RequestError, match=r"line 3: The model `m` does not exist"):
        bench.offline()
    assert not bench.quarantine()
    whole(bench, bench.offline())


def test_a_job_cancelled_at_the_provider_stops_the_run_and_keeps_what_it_had(bench, batches):
    batches.plans = [Plan(cancelled_from=5)]
    with pytest.raises(RequestError, match="was cancelled at the provider"):
        bench.offline()
    report = bench.offline()
    whole(bench, report)
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 3]


def test_a_full_queue_is_waited_for(bench, batches):
    bench.llm["batch_requests"] = 3
    batches.most_running = 1
    batches.default = Plan(polls=1)
    whole(bench, bench.offline())
    assert {job.status for job in batches.jobs.values()} == {"completed", "failed"}
    assert batches.submitted == 8


def test_a_queue_without_room_for_one_job_says_so(bench, batches):
    batches.most_running = 0
    with pytest.raises(RequestError, match="Enqueued token limit reached") as caught:
        bench.offline()
    assert "batch_requests" in str(caught.value)


def test_results_that_are_gone_are_asked_for_again(bench, batches):
    batches.troubles["content"] = [404]
    whole(bench, bench.offline())
    assert len(batches.jobs) == 2


def test_a_job_that_the_provider_does_not_know(bench, batches):
    batches.default = Plan(polls=99)
    bench.offline(wait=False)
    batches.jobs.clear()
    with pytest.raises(RequestError, match="knows no batch job batch_0") as caught:
        bench.offline()
    assert "--abandon" in str(caught.value)
    report = bench.offline(abandon=True)
    assert report.pending == 0
    batches.default = Plan()
    whole(bench, bench.offline())


def test_abandon_ends_what_is_out_and_keeps_what_it_had(bench, batches):
    batches.default = Plan(polls=10**6)
    assert bench.offline(wait=False).pending == 8
    report = bench.offline(abandon=True)
    assert (report.generated, report.pending) == (4, 0)
    batches.default = Plan()
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 4]


# -- limits -------------------------------------------------------------------------------------------------------


def test_requests_a_job_are_bounded(bench, batches):
    bench.llm["batch_requests"] = 3
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [3, 3, 2]


def test_bytes_a_job_are_bounded(bench, batches):
    bench.llm["batch_bytes"] = 6000
    whole(bench, bench.offline())
    assert len(batches.jobs) > 1
    assert all(size <= 6000 for size in batches.uploads)


def test_a_request_that_no_file_can_hold_is_quarantined(bench, batches):
    bench.rows = [*entities(2), entity("long", "title: film long " + "x" * 3000)]
    bench.llm["batch_bytes"] = 4000
    whole(bench, bench.offline(), quarantined=1)
    assert "larger than the file of a batch" in bench.quarantine()["long"][0]


def test_the_budget_is_never_passed(bench, batches):
    bench.llm["max_cost"] = 0.6
    batches.default = Plan(polls=1)
    try:
        whole(bench, bench.offline())
    except BudgetError:
        assert bench.stored()
    assert bench.ledger()[1] <= 0.6
    assert len(batches.jobs) > 1, "what does not fit waits for what is out to cost less than it could"


def test_without_money_for_one_request_the_run_stops(bench, batches):
    bench.llm["max_cost"] = 0.001
    with pytest.raises(BudgetError):
        bench.offline()
    assert not batches.jobs


def test_what_is_out_counts_against_the_cap_of_the_next_run(bench, batches):
    bench.llm["max_cost"] = 0.3
    batches.default = Plan(polls=10**6)
    first = bench.offline(wait=False)
    assert 0 < first.pending < 8
    assert bench.offline(wait=False).pending == first.pending
    assert len(batches.jobs) == 1
    bench.offline(abandon=True)


def test_unknown_price_is_unknown(bench):
    del bench.llm["price"]
    assert bench.offline().cost_usd is None


# -- the network --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [429, 500, 503, "reset", "lost", "half"])
@pytest.mark.parametrize("where", ["upload", "create", "poll", "content"])
def test_no_trouble_of_the_network_submits_twice(bench, batches, where, trouble):
    batches.default = Plan(polls=1)
    batches.troubles[where] = [trouble] * 2
    report = bench.offline()
    whole(bench, report)
    assert len(batches.jobs) == 1
    assert bench.ledger()[0] == 8


def test_looks_that_fail_for_long_stop_the_run_and_the_job_goes_on(bench, batches):
    batches.troubles["poll"] = [500] * 10
    with pytest.raises(CircuitOpenError, match="nothing gets through"):
        bench.offline()
    whole(bench, bench.offline())
    assert len(batches.jobs) == 1


@pytest.mark.parametrize("where", ["upload", "create", "poll"])
def test_a_refused_key_stops_the_run_and_is_not_told(bench, batches, where):
    batches.troubles[where] = [401]
    with pytest.raises(AuthenticationError) as caught:
        bench.offline()
    assert SECRET not in repr(caught.value)
    whole(bench, bench.offline())
    assert len(batches.jobs) == 1


def test_a_server_without_a_batch_api_says_so(bench, batches):
    batches.troubles["upload"] = [404]
    with pytest.raises(RequestError, match="Without --batch"):
        bench.offline()
    assert bench.plan().pending == 0, "what was never sent is not out"
    whole(bench, bench.offline())


def test_a_creation_that_never_gets_through_is_looked_for_by_the_next_run(bench, batches):
    bench.llm["max_attempts"] = 1
    batches.troubles["create"] = ["lost"]
    with pytest.raises(ProviderError):
        bench.offline()
    assert bench.plan().pending == 8
    report = bench.offline()
    whole(bench, report)
    assert len(batches.jobs) == 1


# -- two processes, kills -----------------------------------------------------------------------------------------


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


def test_the_direct_road_leaves_alone_what_is_out(bench, batches):
    batches.default = Plan(polls=10**6)
    bench.offline(wait=False)
    bench.rows.append(entity("new"))
    report = bench.generate()
    assert (report.generated, report.pending) == (1, 8)
    bench.server.forget()
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
from generation import Bench, entities
bench = Bench(Path({folder!r}), {url!r}, entities(30), timeout=5.0, batch_poll=0.02, batch_requests=12,
              price={{"input": 1.0, "output": 1.0}})
report = bench.pipeline().generate_offline()
print(report.generated, report.cached, report.pending)
"""


@pytest.mark.parametrize(
    ("where", "told"), [("upload", True), ("create", False), ("create", True), ("poll", True), ("content", True)]
)
def test_a_kill_at_each_step_pays_nothing_twice(bench, batches, where, told):
    """The server itself kills the client, at the very moment that it has done what it was asked to."""
    batches.default = Plan(polls=1)
    bench.rows = entities(30)
    children: list[subprocess.Popen[str]] = []
    befalls = batches._befalls

    def killing(here: Any) -> Any:
        trouble = befalls(here)
        if here != where or batches.calls[here] != 2:
            return trouble
        # Once its answer is on its way, or instead of it.
        threading.Timer(0.0 if not told else 0.002, children[-1].kill).start()
        return trouble if told else "lost"

    batches._befalls = killing  # type: ignore[method-assign]
    code = CHILD.format(tests=str(Path(__file__).parent.parent), folder=str(bench.folder), url=bench.url)
    for _ in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
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
    batches.listed = False
    batches.troubles["create"] = ["lost"]
    whole(bench, bench.offline())
    assert len(batches.jobs) == 2


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
    """The check of :func:`whole` would notice answers that went to the wrong item."""
    assert "number 3," not in profile_of("number 4")["profile"]
