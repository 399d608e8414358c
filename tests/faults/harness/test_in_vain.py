"""Test that a run in vain stops, before it has paid for the catalogue."""

from __future__ import annotations

import json
from typing import Any

import pytest
from generation import GenerationProject, answer, asked_ids, entities, profile_of
from loopback import Behaviour, LoopbackServer, returns
from run_outcomes import complete, quarantine

from enhancer.errors import FutileRunError

ECHO = '{"profile": "two sentences, short, lower-case", "tags": ["tag", "tag", "tag"]}'
UNFINISHED = {"role": "assistant", "content": None, "reasoning_content": "Let me think about this film"}


@pytest.mark.parametrize(
    ("behaviour", "reason", "hint"),
    [
        (returns("I cannot say."), "no JSON object", "too weak"),
        (returns(""), "the answer is empty", "too weak"),
        (returns(ECHO), "repeats the example of the prompt", "too weak"),
        (Behaviour(message=UNFINISHED), "ends within the thought", "too weak"),
        (Behaviour(refusal="I would rather not"), "the model refused", "another model"),
        (Behaviour(message=UNFINISHED, finish_reason="length"), "max_tokens", "max_tokens"),
    ],
    ids=["prose", "empty", "echo", "thought", "refusal", "cut off"],
)
@pytest.mark.parametrize("concurrency", [1, 8])
def test_most_of_the_first_answers_invalid_stops_the_run(
    bench: GenerationProject,
    llm_server: LoopbackServer,
    behaviour: Behaviour,
    reason: str,
    hint: str,
    concurrency: int,
) -> None:
    bench.rows = entities(300)
    bench.llm["concurrency"] = concurrency
    llm_server.script.default = behaviour
    with pytest.raises(FutileRunError, match=reason) as caught:
        bench.generate()
    assert caught.value.exit_code == 1
    assert hint in (caught.value.hint or "")
    assert "--keep-going" in (caught.value.hint or "")
    assert llm_server.count < 50
    assert caught.value.report.requests == llm_server.count
    assert f"stopped after {llm_server.count} answered calls" in caught.value.message


def test_keep_going_overrules(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(30)
    llm_server.script.default = returns("no")
    report = bench.generate(keep_going=True)
    complete(bench, report)
    assert (report.quarantined, llm_server.count) == (30, 90)


def test_a_minority_of_bad_answers_does_not_stop_it(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(60)
    bad = {f'film {n}"' for n in range(0, 60, 3)} | {f"film {n}\\n" for n in range(0, 60, 3)}
    llm_server.script.choose = lambda _, b: returns("no") if any(one in json.dumps(b) for one in bad) else None
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, report.quarantined) == (40, 20)


def test_a_model_that_obeys_when_told_does_not_stop_it(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(60)
    llm_server.script.choose = lambda _, b: returns("no") if len(b["messages"]) == 2 else None
    report = bench.generate()
    complete(bench, report)
    assert (report.generated, llm_server.count) == (60, 120)


@pytest.mark.parametrize("more", [{"concurrency": 256}, {"concurrency": 256, "items_per_request": 5}])
@pytest.mark.parametrize("text", ["no", ""])
def test_many_calls_in_flight_wait_for_the_first_answers(
    bench: GenerationProject, llm_server: LoopbackServer, text: str, more: dict[str, int]
) -> None:
    bench.rows = entities(1000)
    bench.llm |= more
    llm_server.script.default = returns(text, latency=0.02)
    with pytest.raises(FutileRunError) as caught:
        bench.generate()
    assert llm_server.count < 60
    assert llm_server.max_in_flight <= 24
    assert f"stopped after {llm_server.count} answered calls" in caught.value.message
    assert len(bench.stored()) == 0


def before_the_first_answer(server: LoopbackServer) -> list[int]:
    """Have the server count the requests that arrive before it has answered any; the count is the list's length."""
    arrived: list[int] = []

    def choose(number: int, _: Any) -> Behaviour:
        if not server.answered:
            arrived.append(number)
        return returns(answer, latency=0.5)

    server.script.choose = choose
    return arrived


def test_a_model_that_answers_gets_all_calls_at_once(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(150)
    bench.llm["concurrency"] = 120
    arrived = before_the_first_answer(llm_server)
    assert bench.generate().generated == 150
    assert 8 <= len(arrived) <= 24
    assert llm_server.max_in_flight > 48
    llm_server.reset_counts()
    arrived = before_the_first_answer(llm_server)
    bench.rows = entities(250)
    assert bench.generate().generated == 100
    assert len(arrived) > 48, "the store shows that the model answers this prompt"


def test_a_model_that_costs_nothing_gets_all_calls_at_once(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.rows = entities(100)
    bench.llm |= {"concurrency": 120, "price": "free"}
    arrived = before_the_first_answer(llm_server)
    assert bench.generate().generated == 100
    assert len(arrived) > 48


@pytest.mark.parametrize("count", [8, 15])
def test_a_small_catalogue_without_any_valid_answer_stops(
    bench: GenerationProject, llm_server: LoopbackServer, count: int
) -> None:
    bench.rows = entities(count)
    llm_server.script.default = returns("no")
    with pytest.raises(FutileRunError, match=r": (\d+) of the first \1 notes") as caught:
        bench.generate()
    assert llm_server.count < 3 * count
    assert f"stopped after {llm_server.count} answered calls" in caught.value.message


def test_few_entities_are_asked_to_the_end(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.default = returns("no")
    report = bench.generate()
    complete(bench, report)
    assert (report.quarantined, llm_server.count) == (6, 18)


def test_groups_that_fail_are_no_reason_but_their_entities_are(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.rows = entities(200)
    bench.llm["items_per_request"] = 5
    llm_server.script.default = returns(lambda body: "no" if asked_ids(body) else answer(body))
    assert bench.generate().generated == 200
    bench.rows = entities(400)

    def echoes(body: Any) -> str:
        ids = asked_ids(body)
        return json.dumps({"items": [{"id": id_, **json.loads(ECHO)} for id_ in ids]}) if ids else ECHO

    llm_server.script.default = returns(echoes)
    llm_server.reset_counts()
    with pytest.raises(FutileRunError):
        bench.generate()
    assert llm_server.count < 60


def test_a_group_with_one_hopeless_entity_in_ten_goes_on(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(60)
    bench.llm["items_per_request"] = 10

    def spoiled(body: Any) -> str:
        ids = asked_ids(body)
        if ids:
            return json.dumps({"items": [{"id": i, **({} if i[-1] == "7" else profile_of(f"no {i}"))} for i in ids]})
        return "no" if '7"' in json.dumps(body) or "7\\n" in json.dumps(body) else answer(body)

    llm_server.script.default = returns(spoiled)
    report = bench.generate()
    complete(bench, report)
    assert set(quarantine(bench)) == {f"{n}7" for n in ("", 1, 2, 3, 4, 5)}
