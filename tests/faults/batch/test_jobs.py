"""Test faults of whole jobs: refused, cancelled, abandoned, too large, over budget."""

from __future__ import annotations

import pytest
from batch_project import whole
from generation import entities, entity
from loopback_batch import Plan

from enhancer.errors import (
    BudgetError,
    RequestError,
)

# -- the job as a whole --------------------------------------------------------------------------------------------


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
    batches.max_running = 1
    batches.default = Plan(polls=1)
    whole(bench, bench.offline())
    assert {job.status for job in batches.jobs.values()} == {"completed", "failed"}
    assert batches.submitted == 8


def test_a_queue_without_room_for_one_job_says_so(bench, batches):
    batches.max_running = 0
    with pytest.raises(RequestError, match="Enqueued token limit reached") as caught:
        bench.offline()
    assert "batch_requests" in str(caught.value)


def test_results_that_are_gone_are_asked_for_again(bench, batches):
    batches.failures["content"] = [404]
    whole(bench, bench.offline())
    assert len(batches.jobs) == 2


def test_a_job_that_the_provider_does_not_know(bench, batches):
    batches.default = Plan(polls=99)
    bench.offline(wait=False)
    batches.jobs.clear()
    with pytest.raises(RequestError, match="has no batch job batch_0") as caught:
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


# -- limits --------------------------------------------------------------------------------------------------------


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


def test_what_went_out_without_a_cap_counts_against_that_of_the_next_run(bench, batches):
    batches.default = Plan(polls=10**6)
    first = bench.offline(wait=False, limit=5)
    bench.llm["max_cost"] = 0.3
    assert bench.offline(wait=False).pending == first.pending == 5
    assert len(batches.jobs) == 1
    bench.offline(abandon=True)


def test_unknown_price_is_unknown(bench):
    del bench.llm["price"]
    assert bench.offline().cost_usd is None
