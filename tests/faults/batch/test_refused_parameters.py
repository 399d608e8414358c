"""Test that batch jobs learn from refused parameters: the next job asks again without them, and nothing is quarantined."""

from __future__ import annotations

from typing import Any

import pytest
from batch_project import whole
from generation import entities
from loopback import Behaviour, fails
from loopback_batch import Plan

from enhancer.errors import RequestError

RENAMED = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
FIXED = (
    "Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is supported."
)


def strict(_: int, body: dict[str, Any]) -> Behaviour | None:
    """Answer as a model that takes neither max_tokens nor a temperature."""
    if "max_tokens" in body:
        return fails(400, RENAMED)
    return fails(400, FIXED) if "temperature" in body else None


def sizes(batches: Any) -> list[int]:
    return [len(job.lines) for job in batches.jobs.values()]


def test_a_renamed_parameter_is_learned_from_a_job(bench, batches):
    batches.default = Plan(answer=strict, shuffled=True)
    whole(bench, bench.offline())
    assert sizes(batches) == [8, 8, 8]
    last = list(batches.jobs.values())[-1].lines[0]["body"]
    assert "max_completion_tokens" in last
    assert "temperature" not in last
    assert bench.ledger()[0] == 8, "refusals cost nothing"


def test_also_where_the_model_has_answered_before(bench, batches):
    bench.rows = entities(1)
    whole(bench, bench.offline())
    bench.rows = entities(30)
    batches.default = Plan(answer=lambda _, body: fails(400, RENAMED) if "max_tokens" in body else None)
    whole(bench, bench.offline())
    assert sizes(batches) == [1, 29, 29]


def test_jobs_that_were_out_meanwhile_are_asked_again_too(bench, batches):
    bench.llm["batch_requests"] = 3
    batches.plans = [Plan(answer=strict, polls=polls) for polls in (1, 4, 7)]
    batches.default = Plan(answer=strict)
    whole(bench, bench.offline())
    assert 2 * 8 < sum(sizes(batches)) <= 3 * 8


def test_a_run_that_collects_the_job_of_another_learns_from_it(bench, batches):
    batches.default = Plan(answer=lambda _, body: fails(422, RENAMED) if "max_tokens" in body else None)
    assert bench.offline(wait=False).pending == 8
    bench.offline(wait=False)
    assert not bench.quarantine()
    whole(bench, bench.offline())
    assert sizes(batches) == [8, 8]


def test_a_job_that_is_refused_as_a_whole_for_a_parameter(bench, batches):
    error = {"code": "invalid_request", "line": 1, "message": RENAMED}
    batches.plans = [Plan(refused=(error,))]
    whole(bench, bench.offline())
    assert batches.submitted == 8
    batches.plans = [Plan(refused=({"code": "invalid_request", "line": 1, "message": "no such endpoint"},))]
    bench.rows = entities(9)
    with pytest.raises(RequestError, match="as a whole: line 1: no such endpoint"):
        bench.offline()


def test_a_flagged_text_among_them_is_quarantined(bench, batches):
    def choose(_: int, body: dict[str, Any]) -> Behaviour | None:
        if "film 3\n" in body["messages"][1]["content"]:
            return fails(400, "the parrot is too long")
        return fails(400, RENAMED) if "max_tokens" in body else None

    batches.default = Plan(answer=choose)
    whole(bench, bench.offline(), quarantined=1)
    ((id_, (reason, transient)),) = bench.quarantine().items()
    assert (id_, transient) == ("3", False)
    assert "the parrot is too long" in reason


def test_a_refusal_that_nothing_helps_against_is_told(bench, batches):
    batches.default = Plan(answer=lambda *_: fails(400, FIXED))
    with pytest.raises(RequestError, match=r"all 8 requests .*Only the default"):
        bench.offline()
    assert not bench.quarantine()
    assert sizes(batches) == [8, 8]
