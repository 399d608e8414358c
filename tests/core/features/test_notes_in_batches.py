"""Test several notes of each entity by the provider's batch jobs."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_project import BatchProject
from generation import asked_ids, entities, entity
from loopback import Behaviour, LoopbackServer, Script
from loopback_batch import LoopbackBatches, Plan
from notes import TEMPLATE, answer_notes, asked_notes, erratic, film_of, note, notes_of

from enhancer.harness import Journal

N = 6


@pytest.fixture
def batches() -> LoopbackBatches:
    return LoopbackBatches()


@pytest.fixture
def bench(tmp_path: Path, batches: LoopbackBatches, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchProject]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    (tmp_path / "films.toml").write_text(TEMPLATE)
    with LoopbackServer(Script(default=Behaviour(answer=answer_notes)), add_routes=batches.add_routes) as server:
        price = {"input": 100.0, "output": 200.0}
        made = BatchProject(tmp_path, server.url, entities(N), timeout=2.0, batch_poll=0.02, price=price)
        made.server, made.batches = server, batches
        choose(made, "plot", "mood")
        yield made
        made.store.close()
        assert server.count == 0, "a run of batch jobs made a direct call"


def choose(bench: BatchProject, *aspects: str, **more: Any) -> None:
    bench.prompts = {"item": {"template": "films.toml", "aspects": list(aspects), **more}}
    bench.inputs = list(aspects)


def stored(bench: BatchProject) -> dict[tuple[str, str], Any]:
    return {(record.id, record.aspect): record for record in bench.store.scan()}


def asked(batches: LoopbackBatches) -> Counter[tuple[str, ...]]:
    return Counter(tuple(asked_notes(body)) for body in batches.bodies)


@pytest.mark.parametrize("group_size", [1, 4])
def test_a_line_of_a_job_asks_for_all_notes(bench: BatchProject, batches: LoopbackBatches, group_size: int) -> None:
    bench.llm["items_per_request"] = group_size
    plan = bench.pipeline().plan(batch=True)
    report = bench.offline()
    assert (report.generated, report.pending, report.requests) == (N, 0, plan.requests)
    assert report.notes == plan.notes == 2 * N
    assert all(record.profile == note(aspect, id_) for (id_, aspect), record in stored(bench).items())
    assert sum(record.cost_usd for record in stored(bench).values()) == pytest.approx(report.cost_usd, rel=1e-9)
    choose(bench, "plot", "mood", "making")
    added = bench.offline()
    assert (added.generated, added.notes) == (N, N)
    assert asked(batches) == {("plot", "mood"): -(-N // group_size), ("making",): -(-N // group_size)}
    assert bench.offline().cached == N


def test_notes_in_open_jobs_are_not_asked_for_again(bench: BatchProject, batches: LoopbackBatches) -> None:
    batches.default = Plan(polls=3)
    assert bench.offline(wait=False).pending == N
    choose(bench, "plot", "mood", "making")
    plan = bench.pipeline().plan(batch=True)
    assert (plan.to_generate, plan.notes, plan.requests) == (N, N, N)
    report = bench.offline()
    assert (report.pending, report.quarantined, report.generated) == (0, 0, N)
    assert asked(batches) == {("plot", "mood"): N, ("making",): N}
    assert len(stored(bench)) == 3 * N


@pytest.mark.parametrize("group_size", [1, 3])
def test_only_the_invalid_note_is_asked_for_again(
    bench: BatchProject, batches: LoopbackBatches, group_size: int
) -> None:
    bench.llm["items_per_request"] = group_size

    def text(body: dict[str, Any]) -> str:
        names = asked_notes(body)
        found = [
            {"id": id_, **notes_of(id_, names), **({"mood": "dull"} if id_ == "2" and "plot" in names else {})}
            for id_ in asked_ids(body) or [film_of(body)]
        ]
        return json.dumps({"items": found} if asked_ids(body) else {k: v for k, v in found[0].items() if k != "id"})

    bench.server.script = Script(default=Behaviour(answer=text))
    report = bench.offline()
    assert (report.generated, report.quarantined, report.notes) == (N, 0, 2 * N)
    assert asked(batches) == {("plot", "mood"): -(-N // group_size), ("mood",): 1}


def test_low_confidence_is_followed_by_a_closed_request(bench: BatchProject, batches: LoopbackBatches) -> None:
    def text(body: dict[str, Any]) -> str:
        opened = "what you know" in body["messages"][0]["content"]
        low = opened and int(film_of(body)) % 2
        return json.dumps(notes_of(film_of(body), asked_notes(body), "low" if low else "high"))

    bench.server.script = Script(default=Behaviour(answer=text))
    choose(bench, "plot", "mood", knowledge="open", fallback="closed")
    report = bench.offline()
    assert (report.generated, report.pending, report.requests, report.notes) == (N, 0, N + 3, 2 * N)
    assert {record.confidence for record in stored(bench).values()} == {"high"}
    assert sum(record.cost_usd for record in stored(bench).values()) == pytest.approx(report.cost_usd, rel=1e-9)
    assert bench.offline().requests == 0


def test_a_request_that_no_file_can_hold_is_quarantined_note_by_note(bench: BatchProject) -> None:
    bench.rows = [*entities(2), entity("long", "title: film long " + "x" * 3500)]
    bench.llm["batch_bytes"] = 4000
    report = bench.offline()
    assert (report.generated, report.quarantined, report.pending) == (2, 1, 0)
    assert len(bench.quarantine()) == 1
    assert ("long", "plot") not in stored(bench)


def test_the_limit_and_the_budget_count_whole_entities(bench: BatchProject, batches: LoopbackBatches) -> None:
    report = bench.offline(limit=2)
    assert (report.generated, report.notes) == (2, 4)
    bench.llm["max_cost"] = 0.3  # USD; a request can cost 0.125
    batches.default = Plan(polls=10**6)
    assert bench.offline(wait=False).pending == 2
    bench.offline(abandon=True)


@pytest.mark.parametrize("seed", range(6))
def test_every_note_is_stored_or_quarantined_and_paid_for_once(
    bench: BatchProject, batches: LoopbackBatches, seed: int
) -> None:
    chance = random.Random(seed)
    answers = erratic(seed)
    numbers = iter(range(10**6))
    batches.default = Plan(polls=1, answer=lambda _, body: answers(next(numbers), body))
    samples, calls = chance.randint(1, 2), chance.choice(["together", "each"])
    fallback = {"fallback": "closed"} if seed % 2 else {}
    bench.llm.update(items_per_request=chance.choice([1, 3]), temperature=0.5, batch_requests=5)
    bench.rows = [*entities(7), entity("twin", "title: film 3"), entity("empty", " ")]
    choose(bench, "plot", "mood", knowledge="open", samples=samples, calls=calls, **fallback)
    wanted = {f"{name}#{n}" if n > 1 else name for name in ("plot", "mood") for n in range(1, samples + 1)}
    spent = 0.0
    for _ in range(2):
        report = bench.offline()
        spent += report.cost_usd or 0.0
        counted = report.cached + report.generated + report.quarantined + report.without_text + report.pending
        assert report.entities == counted == len(bench.rows)
        assert report.pending == 0
        with Journal(bench.store.directory) as journal:
            failed = {(one.id, one.aspect): one.transient for one in journal.all_quarantined()}
        assert report.quarantined == len({id_ for id_, _ in failed})
        assert set(stored(bench)) | set(failed) == {(row.id, aspect) for row in bench.rows[:-1] for aspect in wanted}
    for (id_, aspect), record in stored(bench).items():
        assert record.profile == note(aspect.split("#")[0], "3" if id_ == "twin" else id_)
    assert bench.ledger()[1] == pytest.approx(spent, rel=1e-9)
    if not any(failed.values()):
        assert bench.offline().requests == 0


def test_both_versions_of_a_note_are_asked_for_once(bench: BatchProject, batches: LoopbackBatches) -> None:
    def unsure(body: dict[str, Any]) -> str:
        is_open = "what you know" in body["messages"][0]["content"]
        source = "memory" if is_open else "text"
        return json.dumps(notes_of(f"{film_of(body)} from {source}", asked_notes(body), "low" if is_open else "high"))

    bench.server.script = Script(default=Behaviour(answer=unsure))
    choose(bench, "plot", knowledge="both", fallback="closed")
    bench.inputs = ["plot", "plot:closed"]
    report = bench.offline()
    assert (report.generated, report.quarantined, report.requests) == (N, 0, 2 * N)
    assert len(batches.bodies) == 2 * N, "the closed version serves as the fallback of the open one"
    assert {record.profile for record in stored(bench).values()} == {note("plot", f"{n} from text") for n in range(N)}
