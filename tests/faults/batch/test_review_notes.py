"""Test that batch jobs condense reviews, a job for each level of notes, and then write the profiles."""

from __future__ import annotations

from typing import Any

import pytest
from batch_project import BatchProject, whole
from generation import entities
from loopback import Behaviour
from loopback_batch import LoopbackBatches, Plan
from reviewed import BUDGET, LONG, Said, index_of, is_note, write

from enhancer.errors import BudgetError


@pytest.fixture
def reviewed(bench: BatchProject) -> BatchProject:
    """Three films: one with more reviews than fit, one with two, one with none."""
    said: Said = {item: list(texts) for item, texts in LONG.items()}
    bench.rows = entities(3)
    bench.prompts = {"item": {"template": "item/reviews", **BUDGET}}
    bench.reviews = index_of(said, bench.folder)
    bench.server.script.default = Behaviour(answer=write)
    return bench


def test_each_level_of_notes_is_a_job_and_every_note_is_asked_for_once(
    reviewed: BatchProject, batches: LoopbackBatches
) -> None:
    plan = reviewed.plan()
    report = reviewed.offline()
    whole(reviewed, report)
    assert (report.generated, report.requests, report.review_notes) == (3, plan.requests, plan.review_notes)
    assert set(reviewed.asked().values()) == {1}
    assert 3 <= len(batches.jobs) <= 6
    assert sum("condensed[" in str(body) and not is_note(body) for body in batches.bodies) == 1
    records = reviewed.stored().values()
    assert sum(record.cost_usd for record in records) == pytest.approx(report.cost_usd)
    assert reviewed.offline().requests == 0


def test_a_run_that_does_not_wait_continues_where_the_last_one_ended(
    reviewed: BatchProject, batches: LoopbackBatches
) -> None:
    first = reviewed.offline(wait=False)
    assert first.pending == 3
    for _ in range(30):
        if (report := reviewed.offline(wait=False)).cached == 3:
            break
    assert len(reviewed.stored()) == 3
    assert report.pending == 0
    assert set(reviewed.asked().values()) == {1}


def test_notes_that_are_lost_are_asked_for_again_and_those_that_are_refused_left_out(
    reviewed: BatchProject, batches: LoopbackBatches, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(line: int, body: dict[str, Any]) -> Behaviour | None:
        return Behaviour(answer=write, finish_reason="content_filter") if is_note(body) and line == 1 else None

    batches.plans = [Plan(missing={0}, answer=refuse)]
    report = reviewed.offline()
    whole(reviewed, report)
    assert "1 notes on reviews could not be written" in caplog.text
    assert max(reviewed.asked().values()) == 2


def test_notes_that_no_job_answers_put_their_item_into_quarantine(
    reviewed: BatchProject, batches: LoopbackBatches
) -> None:
    reviewed.llm["batch_rounds"] = 2
    batches.default = Plan(answer=lambda _, body: Behaviour(fault="none", status=500) if is_note(body) else None)
    report = reviewed.offline()
    assert (report.generated, report.quarantined) == (2, 1)
    reason, transient = reviewed.quarantine()["0"]
    assert reason.startswith("its reviews could not be condensed: 2 batch jobs brought no answer")
    assert transient
    batches.default = Plan()
    assert reviewed.offline().generated == 1


def test_the_budget_holds_over_all_levels(reviewed: BatchProject, batches: LoopbackBatches) -> None:
    reviewed.llm["max_cost"] = reviewed.plan(batch=True).cost_usd / 3
    with pytest.raises(BudgetError):
        reviewed.offline()
    asked = len(batches.bodies)
    assert asked > 0
    assert reviewed.ledger()[1] <= reviewed.llm["max_cost"]
    reviewed.llm["max_cost"] = None
    reviewed.offline()
    assert len(reviewed.stored()) == 3
    assert set(reviewed.asked().values()) == {1}
