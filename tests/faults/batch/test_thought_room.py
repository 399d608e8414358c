"""Test that batch jobs try a larger room for thought on few entities first."""

from __future__ import annotations

from typing import Any

import pytest
from batch_project import whole
from generation import answer, entities
from loopback import Behaviour
from loopback_batch import Plan

from enhancer.errors import FutileRunError


def thinker(tokens: int) -> Any:
    """Return the answers of a model that thinks first, and is cut off where its tokens end."""

    def choose(_: int, body: dict[str, Any]) -> Behaviour:
        limit = body["max_tokens"]
        thought = min(tokens, limit)
        used = min(thought + 60, limit)
        whole = used == thought + 60
        return Behaviour(
            answer=answer(body) if whole else "",
            finish_reason="stop" if whole else "length",
            usage_override={
                "prompt_tokens": 200,
                "completion_tokens": used,
                "completion_tokens_details": {"reasoning_tokens": thought},
            },
        )

    return choose


def sizes(batches: Any) -> list[int]:
    return [len(job.lines) for job in batches.jobs.values()]


@pytest.mark.parametrize("known", [False, True])
def test_a_model_that_never_stops_thinking_is_tried_by_few(bench, batches, known):
    if known:
        bench.rows = entities(1)
        whole(bench, bench.offline())
        batches.jobs.clear()
    bench.rows = entities(60)
    batches.default = Plan(answer=thinker(10**7))
    with pytest.raises(FutileRunError, match="thought"):
        bench.offline()
    assert sizes(batches) == [59 if known else 60, 20]
    # The next run knows it.
    batches.jobs.clear()
    with pytest.raises(FutileRunError):
        bench.offline()
    assert sizes(batches) == [20]


def test_a_larger_room_is_for_all_once_an_answer_with_it_is_valid(bench, batches):
    bench.rows = entities(60)
    batches.default = Plan(answer=thinker(1500))
    whole(bench, bench.offline())
    assert sizes(batches) == [60, 20, 40]
    limits = [job.lines[0]["body"]["max_tokens"] for job in batches.jobs.values()]
    assert limits[0] < 1500 < limits[1] <= limits[2]


def test_keep_going_and_runs_that_do_not_wait_try_nothing(bench, batches):
    bench.rows = entities(30)
    batches.default = Plan(answer=thinker(1500))
    whole(bench, bench.offline(keep_going=True))
    assert sizes(batches) == [30, 30]
