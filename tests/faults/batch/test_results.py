"""Test results of batch jobs: shuffled, missing, expired, refused, duplicate, truncated, invalid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from batch_project import whole
from generation import GenerationProject, answer, entities, entity
from loopback import Behaviour, fails, returns
from loopback_batch import Plan

from enhancer.errors import (
    AuthenticationError,
    FutileRunError,
    RequestError,
)

# -- results -------------------------------------------------------------------------------------------------------


def test_all_well(bench, batches):
    batches.default = Plan(polls=2)
    report = bench.offline()
    whole(bench, report)
    assert (report.generated, report.requests, batches.submitted, len(batches.jobs)) == (8, 8, 8, 1)
    job = next(iter(batches.jobs.values()))
    assert job.polls == 3
    calls, cost = bench.ledger()
    assert calls == 8
    full = (report.prompt_tokens * 100.0 + report.completion_tokens * 200.0) / 1e6
    assert report.cost_usd == pytest.approx(full / 2)
    assert cost == pytest.approx(full / 2)
    again = bench.offline()
    assert (again.cached, again.requests, again.cost_usd) == (8, 0, 0.0)
    assert len(batches.jobs) == 1


def test_what_is_asked_is_what_direct_calls_ask(bench, batches):
    bench.llm["items_per_request"] = 3
    bench.offline()
    direct = GenerationProject(bench.folder / "direct", bench.url, bench.rows, **bench.llm)
    direct.generate()

    def told(bodies: list[Any]) -> list[str]:
        return sorted(json.dumps(body, sort_keys=True) for body in bodies)

    assert told(batches.bodies) == told(bench.server.bodies)
    direct.store.close()
    bench.server.reset_counts()


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
    assert "2 batch jobs brought no answer" in reason
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


# -- refusals, and runs in vain ------------------------------------------------------------------------------------


def test_a_denied_text_is_quarantined_and_the_rest_is_not(bench, batches):
    batches.default = Plan(answer=lambda n, _: fails(403, "flagged by moderation") if n == 2 else None)
    report = bench.offline()
    whole(bench, report, quarantined=1)
    ((reason, transient),) = bench.quarantine().values()
    assert reason == f"the provider refused this text: {bench.url} answered 403: flagged by moderation"
    assert not transient
    assert report.failed_requests == 1


def test_a_key_denied_for_all_lines_stops_the_run(bench, batches):
    batches.default = Plan(answer=lambda *_: fails(403, "no access"))
    with pytest.raises(AuthenticationError, match="no access"):
        bench.offline()
    assert not bench.quarantine()


def test_ten_denied_lines_in_a_row_are_a_revoked_key(bench, batches):
    bench.rows = entities(30)
    batches.plans = [Plan(shuffled=True, answer=lambda n, _: fails(403, "key revoked") if n >= 20 else None)]
    with pytest.raises(AuthenticationError, match=r"10 requests of a batch job in a row .*key revoked"):
        bench.offline()
    assert not bench.quarantine()
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [30, 10]


def test_ten_denied_lines_that_are_not_in_a_row_are_texts(bench, batches):
    bench.rows = entities(30)
    batches.default = Plan(answer=lambda n, _: fails(403, "flagged") if n % 2 else None)
    whole(bench, bench.offline(), quarantined=15)


def test_an_answer_that_could_not_be_validated_is_submitted_again(bench, batches):
    refused = fails(400, "Failed to validate JSON.", code="json_validate_failed")
    batches.plans = [Plan(answer=lambda n, _: refused if n == 0 else None)]
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [8, 1]


def test_a_model_that_never_answered_is_tried_by_a_small_job(bench, batches):
    bench.rows = entities(130)
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [100, 30]
    bench.rows = entities(260)
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [100, 30, 130]


@pytest.mark.parametrize("more", [{"keep_going": True}, {"wait": False}])
def test_all_is_submitted_at_once_if_told_so_or_if_nobody_waits(bench, batches, more):
    bench.rows = entities(130)
    bench.offline(**more)
    assert [len(job.lines) for job in batches.jobs.values()] == [130]


def test_a_job_in_vain_ends_before_the_rest_is_submitted(bench, batches):
    bench.rows = entities(130)
    batches.default = Plan(answer=lambda *_: returns("no"))
    with pytest.raises(FutileRunError, match="100 of the first 100 notes") as caught:
        bench.offline()
    assert [len(job.lines) for job in batches.jobs.values()] == [100]
    assert caught.value.report.requests == 100
    assert not bench.quarantine()
    batches.default = Plan()
    whole(bench, bench.offline())


def test_cut_off_answers_of_the_first_job_are_asked_again(bench, batches):
    bench.rows = entities(30)
    batches.plans = [Plan(answer=lambda *_: returns('{"profile": "A wa', finish_reason="length"))]
    whole(bench, bench.offline())
    assert [len(job.lines) for job in batches.jobs.values()] == [30, 30]


def test_a_small_catalogue_without_any_valid_answer_ends(bench, batches):
    batches.default = Plan(answer=lambda *_: returns("no"))
    with pytest.raises(FutileRunError, match="stopped after 8 answered calls: 8 of the first 8 notes"):
        bench.offline()
    assert batches.submitted == 8
