"""Test notes of low confidence, which may be asked for again, and open knowledge."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generation import GenerationProject, answer, asked_ids
from loopback import LoopbackServer
from note_projects import N, choose, opened_bench, replies, stored
from notes import asked_notes, film_of, note, notes_of


@pytest.fixture
def bench(tmp_path: Path, llm_server: LoopbackServer) -> Iterator[GenerationProject]:
    yield from opened_bench(tmp_path, llm_server)


def unsure(body: dict[str, Any]) -> str:
    """Answer with low confidence about odd films where the model may use what it knows."""
    opened = "what you know" in body["messages"][0]["content"]
    if ids := asked_ids(body):
        return json.dumps({"items": [{"id": id_, **_unsure(id_, asked_notes(body), opened)} for id_ in ids]})
    return json.dumps(_unsure(film_of(body), asked_notes(body), opened))


def _unsure(id_: str, names: list[str], opened: bool) -> dict[str, str]:
    low = opened and int(id_) % 2
    subject = f"{id_} from memory" if opened else id_
    return notes_of(subject, names, "low" if low else "high")


@pytest.mark.parametrize("group_size", [1, 4])
def test_notes_of_low_confidence_are_asked_for_again_closed(
    bench: GenerationProject, llm_server: LoopbackServer, group_size: int
) -> None:
    bench.llm.update(items_per_request=group_size, price={"input": 3.0, "output": 5.0})
    replies(llm_server, unsure)
    choose(bench, "plot", "mood", knowledge="open", fallback="closed")
    report = bench.generate()
    assert (report.generated, report.notes, report.quarantined) == (N, 2 * N, 0)
    records = stored(bench)
    for (id_, aspect), record in records.items():
        assert record.profile == note(aspect, id_ if int(id_) % 2 else f"{id_} from memory")
        assert record.confidence == "high"
    assert records["1", "mood"].prompt_version != records["2", "mood"].prompt_version
    assert sum(record.cost_usd for record in records.values()) == pytest.approx(report.cost_usd, rel=1e-9)
    assert bench.plan().requests == 0
    assert bench.generate().requests == 0


def test_a_fallback_that_is_added_asks_about_the_unsure_alone(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    replies(llm_server, unsure)
    choose(bench, "plot", "mood", knowledge="open")
    bench.generate()
    assert {record.confidence for record in stored(bench).values()} == {"low", "high"}
    assert bench.plan().requests == bench.generate().requests == 0, "low confidence alone is no reason to ask again"
    choose(bench, "plot", "mood", knowledge="open", fallback="closed")
    plan = bench.plan()
    assert (plan.to_generate, plan.requests, plan.notes) == (3, 3, 6)
    report = bench.generate()
    assert (report.generated, report.requests, report.cached) == (3, 3, N - 3)
    assert {record.confidence for record in stored(bench).values()} == {"high"}
    choose(bench, "plot", "mood", knowledge="closed")
    assert bench.plan().requests == N - 3, "the notes of the fallback are closed ones"


def test_closed_notes_of_an_earlier_configuration_are_no_answers_of_a_fallback(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    replies(llm_server, unsure)
    choose(bench, "plot", "mood", knowledge="closed")
    bench.generate()
    choose(bench, "plot", "mood", knowledge="open", fallback="closed")
    assert bench.plan().requests == N, "the model has not been asked what it knows"
    report = bench.generate()
    assert (report.requests, report.notes) == (N, 2 * N), "the closed answers are paid for"
    for (id_, aspect), record in stored(bench).items():
        assert record.profile == note(aspect, id_ if int(id_) % 2 else f"{id_} from memory")
    assert bench.plan().requests == bench.generate().requests == 0


def test_a_crash_between_the_two_requests_pays_for_neither_again(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    def text(body: dict[str, Any]) -> str:
        return unsure(body) if "what you know" in body["messages"][0]["content"] else "no"

    replies(llm_server, text)
    choose(bench, "plot", "mood", knowledge="open", fallback="closed")
    report = bench.generate()
    assert (report.generated, report.quarantined) == (3, 3)
    assert report.requests == N + 3 * 3
    assert (bench.plan().quarantined, bench.generate().requests) == (3, 0)
    replies(llm_server, unsure)
    assert bench.plan(retry_quarantined=True).requests == 3
    assert bench.generate(retry_quarantined=True).requests == 3, "the open answers are not asked for again"


def test_open_profiles_have_keys_of_their_own(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    replies(llm_server, answer)
    bench.inputs = ["profile"]
    bench.prompts = {}
    bench.generate()
    bench.prompts = {"item": {"template": "item/v1", "knowledge": "closed"}}
    assert bench.plan().requests == 0
    bench.prompts = {"item": {"template": "item/v1", "knowledge": "open"}}
    assert bench.plan().requests == N
