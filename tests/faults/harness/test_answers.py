"""Test answers that are not valid profiles."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from generation import GenerationProject, answer, asked_ids, entities, profile_of
from loopback import Behaviour, LoopbackServer, returns
from run_outcomes import complete, quarantine

GOOD_TEXT = json.dumps(profile_of("it"))
BAD: dict[str, str | Callable[[Any], str]] = {
    "prose": "I am afraid I have no opinion.",
    "truncated": GOOD_TEXT[:-8],
    "wrong types": '{"profile": 3, "tags": "x"}',
    "missing key": json.dumps({"profile": profile_of("x")["profile"]}),
    "extra key": json.dumps({**profile_of("x"), "mood": "wry"}),
    "nan": '{"profile": NaN, "tags": ["a"]}',
    "1e999": '{"profile": 1e999, "tags": ["a"]}',
    "deep": '{"profile": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "brackets": "[" * 200_000,
    "duplicate keys": '{"profile": "x", "profile": "y", "tags": ["a"]}',
    "empty profile": '{"profile": "", "tags": ["a"]}',
    "blank": "",
    "fenced nonsense": "```json\n{profile: x}\n```",
    "two objects": GOOD_TEXT + GOOD_TEXT,
    "a list": f"[{GOOD_TEXT}]",
    "null": '{"profile": null, "tags": null}',
    "deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "echo of a short text": '{"profile": "title: film 1", "tags": ["a"]}',
    "echo with a preface": lambda body: json.dumps(
        {"profile": "Here: " + body["messages"][1]["content"], "tags": ["a"]}
    ),
    "echo": lambda body: json.dumps({"profile": body["messages"][0]["content"][:200], "tags": ["a"]}),
    "surrogate": '{"profile": "a story with half a character in it \\ud800", "tags": ["a"]}',
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_profile_is_asked_again_with_the_error_and_then_set_aside(
    bench: GenerationProject, llm_server: LoopbackServer, name: str
) -> None:
    bench.rows = entities(2)
    llm_server.script.choose = lambda _, b: returns(BAD[name]) if "film 1" in json.dumps(b) else None
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined, report.requests) == (1, 1, 4)
    again = [b["messages"] for b in llm_server.bodies if len(b["messages"]) == 4]
    assert len(again) == 2
    assert again[0][2]["role"] == "assistant"
    assert "cannot be used: " in again[0][3]["content"]
    assert set(bench.stored()) == {"0"}
    bench.generate()
    assert llm_server.count == 4, "what failed is not paid for again"


def test_a_re_ask_that_helps_is_stored_with_what_it_cost(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(1)
    llm_server.script.sequence = [returns("no")]
    report = bench.generate()
    record = bench.stored()["0"]
    assert (report.generated, report.requests) == (1, 2)
    assert record.prompt_tokens == report.prompt_tokens


def test_a_cut_off_answer_gets_more_room_once(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(1)
    llm_server.script.sequence = [Behaviour(answer=GOOD_TEXT[:30], finish_reason="length")]
    report = bench.generate()
    assert (report.generated, report.requests) == (1, 2)
    first, second = (body.get("max_tokens") or body["max_completion_tokens"] for body in llm_server.bodies)
    assert second == 2 * first
    assert len(llm_server.bodies[1]["messages"]) == 2


def test_a_refused_batch_spoils_nobody_but_whom_it_is_about(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.llm["items_per_request"] = 6
    refused = Behaviour(refusal="I cannot help with that.")
    llm_server.script.choose = lambda _, b: refused if "film 2" in json.dumps(b) else None
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined) == (5, 1)
    assert quarantine(bench)["2"] == ("the model refused", "I cannot help with that.")


def test_more_room_is_given_twice_and_no_more(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(1)
    llm_server.script.choose = lambda number, _: (
        Behaviour(answer=GOOD_TEXT[:30], finish_reason="length") if number < 20 else None
    )
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined, report.requests) == (0, 1, 3)
    rooms = [body.get("max_tokens") or body["max_completion_tokens"] for body in llm_server.bodies]
    assert rooms == [rooms[0], 2 * rooms[0], 4 * rooms[0]]
    reason = quarantine(bench)["0"][0]
    assert "cut off" in reason
    assert "[llm] max_tokens" in reason


def test_a_model_that_cannot_answer_about_several_is_asked_about_each_alone(
    bench: GenerationProject, llm_server: LoopbackServer, caplog: pytest.LogCaptureFixture
) -> None:
    bench.rows = entities(80)
    bench.llm |= {"items_per_request": 4, "concurrency": 4}

    def invents_ids(body: Any) -> str:
        ids = asked_ids(body)
        return answer(body) if not ids else json.dumps({"items": [{"id": f"x{n}", **profile_of(n)} for n in ids]})

    llm_server.script.default = Behaviour(answer=invents_ids)
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 80
    assert llm_server.count <= 80 + 30, "not seven requests for every four entities to the end"
    assert [r.getMessage() for r in caplog.records if "items_per_request = 1" in r.getMessage()]


def test_tokens_that_nobody_tells_are_unknown_and_not_0(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.default = Behaviour(answer=answer, usage=False)
    report = bench.generate()
    told = report.to_json()
    assert report.generated == 6
    assert (told["prompt_tokens"], told["completion_tokens"], told["cost_usd"]) == (None, None, None)
    assert bench.generate().to_json()["prompt_tokens"] == 0, "no call, no tokens"


def test_a_batch_that_fails_whole_is_halved(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(8)
    bench.llm["items_per_request"] = 8
    llm_server.script.choose = lambda _, b: returns("oops") if b["messages"][1]["content"].count("<entry") > 2 else None
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 8
    assert llm_server.count == 1 + 2 + 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda items: items[1:],
        lambda items: [*items, items[0]],
        lambda items: [*items, {**items[0], "profile": "another story altogether, and not the same"}],
        lambda items: [*items, {"id": "nobody", **profile_of("x")}],
        lambda items: items[::-1],
        lambda items: [{**item, "id": int(item["id"])} for item in items],
        lambda items: [{**items[0], "tags": None}, *items[1:]],
        lambda items: [None, 3, *items],
        lambda items: [{k: v for k, v in items[0].items() if k != "id"}, *items[1:]],
    ],
    ids=["dropped", "doubled", "contradicted", "added", "reordered", "numbers", "invalid", "junk", "nameless"],
)
def test_a_batch_is_sorted_out_by_id(
    bench: GenerationProject, llm_server: LoopbackServer, spoil: Callable[[Any], Any]
) -> None:
    def spoiled(body: Any) -> str:
        reply = json.loads(answer(body))
        if "items" in reply:
            reply["items"] = spoil(reply["items"])
        return json.dumps(reply)

    llm_server.script.default = returns(spoiled)
    bench.llm["items_per_request"] = 3
    report = bench.generate()
    complete(bench, report)
    assert report.generated == 6
    for record in bench.stored().values():
        assert record.profile == profile_of(f"number {record.id}")["profile"]


UNFINISHED = '<think>Maybe {"profile": "a mere draft of a film", "tags": ["draft"]} but'


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        *(("<think>", reason) for reason in ("stop", "length", "MAX_TOKENS")),
        ("<|channel>thought\n", "length"),
        ("<|channel|>analysis<|message|>", "length"),
        ("", "length"),  # without tags, only the cut tells that it was a thought
    ],
)
def test_an_unfinished_thought_is_never_a_profile(
    bench: GenerationProject, llm_server: LoopbackServer, mark: str, reason: str
) -> None:
    bench.rows = entities(2)
    unfinished = Behaviour(answer=UNFINISHED.replace("<think>", mark), finish_reason=reason)
    llm_server.script.choose = lambda _, b: unfinished if "film 1" in json.dumps(b) else None
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined) == (1, 1)
    again = [b["messages"] for b in llm_server.bodies if len(b["messages"]) == 4]
    assert mark == "" or all(messages[2]["content"] == "{}" for messages in again), "no thought is shown"


def test_answers_that_an_earlier_release_has_judged_stay_as_they_were(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.rows = entities(1)
    echo = {"profile": "two sentences, short, lower-case", "tags": ["tag", "tag"]}
    llm_server.script.default = returns(f"<think>{json.dumps(echo)}")
    bench.generate()
    assert llm_server.count == 3
    assert set(bench.stored()) == set()
    with contextlib.closing(sqlite3.connect(bench.store.directory / "journal.sqlite")) as journal:
        journal.execute("DELETE FROM quarantine")
        journal.execute("UPDATE answers SET void = completion > 1")
        journal.execute("DROP TABLE rules")
        journal.execute("PRAGMA user_version = 3")
        journal.commit()
    report = bench.generate()
    assert (report.cached, report.requests, llm_server.count) == (1, 0, 3)
    assert bench.stored()["0"].profile == echo["profile"]
    bench.rows = entities(2)
    llm_server.script.default = returns(f"<think>{json.dumps(echo)}")
    assert bench.generate().quarantined == 1, "new answers are judged by the rules of today"


def test_a_thought_stays_in_the_journal_and_never_enters_the_store(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.rows = entities(2)
    llm_server.script.default = returns(lambda body: f"<think>an inner monologue</think>{answer(body)}")
    complete(bench, bench.generate())
    assert all("monologue" not in repr(record) for record in bench.stored().values())
    folder = bench.store.directory
    with contextlib.closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
        texts = [text for (text,) in journal.execute("SELECT text FROM completions")]
    assert all(text.startswith("<think>an inner monologue</think>") for text in texts)
    others = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("journal")]
    assert not any(b"monologue" in path.read_bytes() for path in others)
