"""Test generation from rows to records: costs, groups, stops and progress."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from generation import GenerationProject, HashingEmbedder, answer, entities, entity, profile_of
from loopback import Behaviour, LoopbackServer, Script, returns

from enhancer.errors import AuthenticationError, BudgetError, ConfigError, StoreError
from enhancer.features import resolve_inputs
from enhancer.harness import Journal
from enhancer.progress import Progress

GOOD = Behaviour(answer=answer)
PLAN_KEYS = [
    *("entities", "cached", "to_generate", "quarantined", "requests", "prompt_tokens", "completion_tokens", "cost_usd"),
]
REPORT_KEYS = [
    *("entities", "cached", "generated", "quarantined", "requests", "prompt_tokens", "completion_tokens", "cost_usd"),
    "seconds",
    "embedded",
]


@pytest.fixture
def bench(tmp_path: Path, llm_server: LoopbackServer) -> Iterator[GenerationProject]:
    llm_server.script = Script(default=GOOD)
    made = GenerationProject(tmp_path, llm_server.url, entities(12))
    yield made
    made.store.close()


def test_from_rows_to_records(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    plan = bench.plan()
    assert list(plan.to_json()) == PLAN_KEYS
    assert (plan.entities, plan.cached, plan.to_generate, plan.requests, plan.cost_usd) == (12, 0, 12, 12, None)
    assert llm_server.count == 0
    assert not list(bench.store.directory.glob("journal*")), "a plan writes nothing"
    report = bench.generate()
    assert list(report.to_json()) == REPORT_KEYS
    assert (report.entities, report.cached, report.generated, report.requests) == (12, 0, 12, 12)
    record = bench.stored()["3"]
    assert record.profile == profile_of("number 3")["profile"]
    assert record.tags == tuple(profile_of("")["tags"])
    assert record.prompt_version.startswith("item/v1@")
    assert record.model == "loopback-model"
    assert record.embedder == "hashing/16"
    assert record.generated_at.endswith("Z")
    assert (record.cost_usd, record.prompt_tokens > 0, record.completion_tokens > 0) == (None, True, True)
    assert abs(float(record.vector @ record.vector) - 1) < 1e-5
    assert len(bench.seen) == 12
    assert report.prompt_tokens == sum(r.prompt_tokens for r in bench.stored().values())


def test_nothing_changed_means_no_call_and_no_embedding(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.generate()
    bench.embedder.texts.clear()
    llm_server.reset_counts()
    report = bench.generate()
    assert (report.cached, report.generated, report.embedded, report.cost_usd) == (12, 0, 0, 0.0)
    assert llm_server.count == 0
    assert bench.embedder.texts == []
    plan = bench.plan()
    assert (plan.cached, plan.to_generate, plan.requests, plan.cost_usd) == (12, 0, 0, 0.0)


def test_one_row_more_is_one_call_more(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.generate()
    bench.rows.insert(0, entity("new"))
    assert bench.plan().requests == 1
    bench.generate()
    assert llm_server.count == 13
    bench.rows[0] = entity("new", "title: film new, revised")
    assert bench.generate().generated == 1
    assert llm_server.count == 14


@pytest.mark.parametrize(
    "change",
    [{"model": "other"}, {"temperature": 0.5}, {"top_p": 0.9}, {"seed": 7}, {"max_tokens": 401}],
)
def test_a_change_that_determines_answers_makes_all_stale(
    bench: GenerationProject, llm_server: LoopbackServer, change: dict[str, Any]
) -> None:
    bench.generate()
    bench.llm.update(change)
    assert bench.plan().to_generate == 12
    assert bench.generate().generated == 12
    assert llm_server.count == 24


def test_other_changes_make_nothing_stale(bench: GenerationProject) -> None:
    bench.generate()
    bench.llm.update(concurrency=3, timeout=9.0, items_per_request=4, max_attempts=2, requests_per_minute=1e6)
    assert bench.plan().cached == 12


def test_an_edited_template_under_its_old_name_is_another(bench: GenerationProject, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('system = "Write."\nuser = "{{ text }}"\n')
    bench.prompts = {"item": {"template": "mine.toml"}}
    bench.generate()
    assert bench.plan().cached == 12
    path.write_text('system = "Write well."\nuser = "{{ text }}"\n')
    assert bench.plan().to_generate == 12


def test_another_embedder_embeds_again_without_a_call(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.generate()
    before = bench.stored()
    bench.embedder = HashingEmbedder(name="better")
    assert bench.plan().to_generate == 0
    report = bench.generate()
    assert (report.generated, report.cached, report.embedded) == (0, 12, 12)
    assert llm_server.count == 12
    after = bench.stored()
    assert {r.embedder for r in after.values()} == {"better/16"}
    assert {(r.id, r.profile, r.generated_at) for r in after.values()} == {
        (r.id, r.profile, r.generated_at) for r in before.values()
    }


def test_raw_text_needs_no_llm(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.prompts = {"item": {"source": "text"}}
    bench.rows.append(entity("empty", " "))

    def never() -> Any:
        raise AssertionError("no provider is needed")

    assert bench.pipeline(provider=never).plan().to_json()["to_generate"] == 12
    report = bench.pipeline(provider=never).generate()
    assert (report.generated, report.quarantined, report.requests, report.cost_usd) == (12, 0, 0, 0.0)
    assert report.without_text == 1
    records = list(bench.store.scan(aspect="text"))
    assert len(records) == 12
    assert {(r.profile, r.model, r.prompt_version) for r in records} == {("", "", "")}
    assert bench.generate().cached == 12
    assert llm_server.count == 0


def test_profile_and_text_are_two_records_of_one_entity(bench: GenerationProject) -> None:
    bench.inputs = ["profile", "text"]
    report = bench.generate()
    assert (report.entities, report.generated, report.embedded) == (12, 12, 24)
    bench.inputs = ["text"]
    assert bench.plan().requests == 0
    assert bench.generate().embedded == 0


def test_users_show_their_history_and_bear_their_own_records(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.prompts = {"user": {"source": "llm"}}
    bench.users = [
        entity("u1", "job: baker", kind="user"),
        entity("u2", " ", kind="user"),
        entity("0", "x", kind="user"),
    ]
    bench.history = lambda user: "- Heat (1995) — 5\n- Babe — 3" if user.id == "u1" else ""
    report = bench.generate()
    assert (report.entities, report.generated, report.without_text) == (15, 14, 1)
    asked = [b["messages"][1]["content"] for b in llm_server.bodies if "baker" in b["messages"][1]["content"]]
    assert asked == ["<data>\njob: baker\nHistory, most recent first:\n- Heat (1995) — 5\n- Babe — 3\n</data>"]
    assert bench.store.get(["u1", "0"], kind="user")[1] is not None
    assert bench.store.get(["u2"], kind="user") == [None]
    assert bench.generate().without_text == 1


def test_equal_prompts_are_paid_for_once(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = [entity(str(n), "title: the same film x") for n in range(9)]
    report = bench.generate()
    assert llm_server.count == 1
    assert len(bench.stored()) == 9
    assert (report.generated, report.cached) == (1, 8)


def test_a_limit_bounds_the_entities_asked_about(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    assert bench.generate(limit=5).generated == 5
    assert llm_server.count == 5
    assert bench.generate().generated == 7


def test_an_observer_that_fails_does_not_stop_the_run(
    bench: GenerationProject, caplog: pytest.LogCaptureFixture
) -> None:
    def observer(record: Any) -> None:
        raise ZeroDivisionError(record.id)

    assert bench.pipeline(on_record=observer).generate().generated == 12
    assert [r.message for r in caplog.records if r.name.startswith("enhancer")] == [
        "an observer of stored records failed and is called no more"
    ]


def test_vanished_entities_are_found(bench: GenerationProject) -> None:
    bench.inputs = ["profile", "text"]
    bench.generate()
    del bench.rows[3:]
    gone = list(bench.pipeline().vanished())
    assert len(gone) == 18
    assert ("item", "5", "text") in gone


def test_sources_decide_what_is_stored() -> None:
    assert resolve_inputs("none", ["profile"]) == ()


# -- money --------------------------------------------------------------------------------------------------------


def test_a_cap_without_a_price_is_refused_before_the_first_call(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.llm["max_cost"] = 1.0
    bench.inputs = ["profile", "text"]
    for attempt in (bench.generate, bench.plan):
        with pytest.raises(ConfigError, match=r"\[llm.price\]"):
            attempt()
    assert (llm_server.count, bench.embedder.texts) == (0, [])
    bench.llm["price"] = "free"
    assert bench.plan().cost_usd == 0.0
    assert bench.generate().cost_usd == 0.0


def test_the_cap_is_never_passed_and_what_was_paid_is_kept(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.rows = entities(60)
    bench.llm.update(max_cost=0.05, price={"input": 10.0, "output": 10.0}, max_tokens=100)
    with pytest.raises(BudgetError, match="max_cost") as caught:
        bench.generate()
    report = caught.value.report
    assert 0 < report.generated < 60
    assert 0 < report.cost_usd <= 0.05
    assert report.generated == report.requests == len(bench.stored()) == llm_server.count
    with Journal(bench.store.directory) as journal:
        assert journal.costs()[0].cost_usd == pytest.approx(report.cost_usd)
    bench.llm["max_cost"] = 100.0
    assert bench.generate().generated == 60 - report.generated
    assert llm_server.count == 60


def test_plan_and_ledger_agree_once_the_model_is_known(bench: GenerationProject) -> None:
    bench.llm["price"] = {"input": 1.0, "output": 2.0}
    bench.rows = entities(40)
    bench.generate()
    bench.rows = [entity(str(n), f"title: quite another film {n}") for n in range(40)]
    plan, report = bench.plan(), bench.generate()
    assert plan.prompt_tokens == pytest.approx(report.prompt_tokens, rel=0.1)
    assert plan.completion_tokens == pytest.approx(report.completion_tokens, rel=0.1)
    assert plan.cost_usd == pytest.approx(report.cost_usd, rel=0.1)


# -- grouped requests ---------------------------------------------------------------------------------------------


def test_grouped_answers_are_matched_by_id(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    def shuffled(body: Any) -> str:
        reply = json.loads(answer(body))
        return json.dumps({"items": [*reply["items"][::-1], {"id": "stranger", **profile_of("x")}]})

    llm_server.script.default = returns(shuffled)
    bench.llm["items_per_request"] = 5
    plan, report = bench.plan(), bench.generate()
    assert plan.requests == report.requests == llm_server.count == 3
    assert all(r.profile == profile_of(f"number {r.id}")["profile"] for r in bench.stored().values())
    assert sum(r.prompt_tokens for r in bench.stored().values()) == report.prompt_tokens


def test_only_what_is_missing_is_asked_again(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    def forgetful(body: Any) -> str:
        reply = json.loads(answer(body))
        if len(reply.get("items", ())) == 12:
            reply["items"] = [e for e in reply["items"] if e["id"] not in ("3", "7")]
            reply["items"][0]["tags"] = []
        return json.dumps(reply)

    llm_server.script.default = returns(forgetful)
    bench.llm["items_per_request"] = 12
    report = bench.generate()
    assert (report.generated, report.quarantined) == (12, 0)
    sizes = [
        "<entry" in b["messages"][1]["content"] and b["messages"][1]["content"].count("<entry")
        for b in llm_server.bodies
    ]
    assert sorted(sizes, key=int) == [False, 2, 12]
    alone = next(b for b in llm_server.bodies if "<entry" not in b["messages"][1]["content"])
    assert "film 0" in alone["messages"][1]["content"]
    assert "tags: has fewer than 1" in alone["messages"][3]["content"]


def test_a_poisoned_item_spoils_only_itself(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows[6] = entity("6", "title: film POISON")
    llm_server.script.choose = lambda _, body: returns("I refuse.") if "POISON" in json.dumps(body) else None
    bench.llm["items_per_request"] = 12
    report = bench.generate()
    assert (report.generated, report.quarantined) == (11, 1)
    with Journal(bench.store.directory) as journal:
        kept = journal.quarantined("item", ["6"])["6"]
    assert kept.raw == "I refuse."
    assert "no JSON object" in kept.reason


# -- stops --------------------------------------------------------------------------------------------------------


def test_a_missing_key_is_named_and_nothing_is_called(bench: GenerationProject) -> None:
    bench.url = "https://api.openai.com/v1"
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
        bench.generate()


def test_an_embedder_that_breaks_stops_the_run_and_no_answer_is_lost(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.embedder.fail = StoreError("the embedder broke")
    with pytest.raises(StoreError, match="embedder broke"):
        bench.generate()
    asked = llm_server.count
    assert asked > 0
    bench.embedder.fail = None
    report = bench.generate()
    assert report.cached >= 1
    assert llm_server.count == 12


def test_ctrl_c_keeps_what_was_paid_for(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.default = Behaviour(answer=answer, latency=0.3)
    bench.rows = entities(100)
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        while llm_server.count < 12:
            time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        bench.generate()
    assert time.monotonic() - began < 20
    asked = llm_server.count
    assert 0 < asked < 100
    llm_server.script.default = GOOD
    report = bench.generate()
    assert llm_server.count == 100, "answers in flight were kept"
    assert report.cached == asked


async def test_it_runs_under_a_running_loop(bench: GenerationProject) -> None:
    assert asyncio.get_running_loop().is_running()
    assert bench.generate().generated == 12


def test_a_listener_that_fails_ends_the_run(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    def listener(_: Progress) -> None:
        raise BrokenPipeError("the pipe is closed")

    with pytest.raises(BrokenPipeError, match="the pipe is closed"):
        bench.generate(listener)
    asked = llm_server.count
    assert bench.generate().requests == 12 - asked


def test_progress_is_reported_at_a_bounded_rate(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(300)
    heard: list[Progress] = []
    pipeline = bench.pipeline()
    pipeline.plan()
    report = pipeline.generate(heard.append)
    last = [event for event in heard if event.stage == "generate"][-1]
    assert (last.done, last.total, last.detail["generated"], last.detail["failed"]) == (300, 300, 300, 0)
    assert last.detail["tokens"] == report.prompt_tokens + report.completion_tokens
    assert set(last.detail) == {"cached", "generated", "failed", "tokens", "cost_usd"}
    assert [e.done for e in heard if e.stage == "embed"][-1] == 300
    assert len(heard) < 30 + report.seconds * 25
