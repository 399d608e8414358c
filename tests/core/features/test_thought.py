"""Models that think before they answer: room for thought, what it costs, and what a plan says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from generation import GenerationProject, answer, entities
from loopback import Behaviour, LoopbackServer

from enhancer.errors import FutileRunError
from enhancer.harness import Journal

PRICE = {"input": 0.15, "output": 0.6}
THOUGHT = 1500


@pytest.fixture
def bench(tmp_path: Path, llm_server: LoopbackServer) -> GenerationProject:
    return GenerationProject(tmp_path, llm_server.url, entities(40), price=PRICE, concurrency=8)


def thinker(tokens: int = THOUGHT, *, told: bool = True, tagged: bool = False) -> Any:
    """Return the behaviour of a model that thinks first, and is cut off where its tokens end."""

    def choose(number: int, body: dict[str, Any]) -> Behaviour:
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        text = answer(body)
        needed = tokens + number % 7 * 40
        thought = min(needed, limit)
        used = min(thought + 60, limit)
        usage: dict[str, Any] = {"prompt_tokens": 200, "completion_tokens": used, "total_tokens": 200 + used}
        if told:
            usage["completion_tokens_details"] = {"reasoning_tokens": thought}
        whole = used == thought + 60
        before = f"<think>{'so ' * 300}" if tagged else ""
        closing = "</think>" if tagged else ""
        return Behaviour(
            answer=before + (closing + text if whole else ""),
            finish_reason="stop" if whole else "length",
            usage_override=usage,
        )

    return choose


@pytest.mark.parametrize("how", [{}, {"told": False}, {"told": False, "tagged": True}])
def test_all_profiles_are_made_and_little_is_lost(
    bench: GenerationProject, llm_server: LoopbackServer, how: dict[str, bool]
) -> None:
    llm_server.script.choose = thinker(**how)
    report = bench.generate()
    assert (report.generated, report.quarantined) == (40, 0)
    # What was in flight before the first answer showed thought is all that was cut off.
    assert report.requests <= 40 + 2 * 10
    rooms = {body["max_tokens"] for body in llm_server.bodies[-10:]}
    assert min(rooms) > THOUGHT + 400


@pytest.mark.parametrize("more", [{"concurrency": 40}, {"concurrency": 2, "items_per_request": 5}])
def test_a_wave_of_cut_off_answers_is_no_run_in_vain(
    bench: GenerationProject, llm_server: LoopbackServer, more: dict[str, int]
) -> None:
    bench.llm |= more
    llm_server.script.choose = thinker(6000)
    report = bench.generate()
    assert (report.generated, report.quarantined) == (40, 0)
    assert report.requests <= 80


def test_groups_whose_answer_was_cut_off_by_thought_are_asked_about_again(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.llm |= {"concurrency": 8, "items_per_request": 5, "max_tokens": 100}
    llm_server.script.choose = thinker(3000)
    assert bench.generate().generated == 40
    assert llm_server.count == 16


def test_room_is_there_from_the_first_call_where_thought_is_known(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    llm_server.script.choose = thinker()
    bench.llm["reasoning_effort"] = "low"
    planned = bench.plan()
    assert planned.thought_tokens > 0
    report = bench.generate()
    assert (report.generated, report.requests) == (40, 40)
    assert {body["reasoning_effort"] for body in llm_server.bodies} == {"low"}


def test_a_plan_measures_thought_after_twenty_answers(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.choose = thinker()
    bench.generate(limit=20)
    planned = bench.plan()
    report = bench.generate()
    assert planned.cost_usd == pytest.approx(report.cost_usd, rel=0.25)
    assert planned.completion_tokens == pytest.approx(report.completion_tokens, rel=0.25)
    assert planned.thought_tokens > 0.8 * planned.completion_tokens


def test_the_next_run_knows_what_the_model_needs(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    llm_server.script.choose = thinker()
    bench.generate(limit=5)
    before = llm_server.count
    assert bench.generate().requests == llm_server.count - before == 35


def test_a_thought_without_end_is_given_up_and_named(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(1)
    llm_server.script.choose = thinker(10**7)
    report = bench.generate()
    assert (report.quarantined, report.requests) == (1, 3)
    limits = [body["max_tokens"] for body in llm_server.bodies]
    assert limits == sorted(set(limits))
    assert limits[-1] < 40_000
    with Journal(bench.store.directory) as opened:
        reason = next(opened.all_quarantined()).reason
    assert "thought" in reason
    assert "max_tokens" in reason


@pytest.mark.parametrize(
    ("text", "thought", "ending", "said"),
    [
        ("", 395, "length", "nearly all of them thought: give more room"),
        ("", None, "MAX_TOKENS", "without any text, as of a model that thinks: give more room"),
        ("", 0, "MAX_TOKENS", "without any text: the model's context may be too small"),
        ("<think>so " * 40, None, "length", "nearly all of them thought"),
        ('{"profile": "A warm tale', 0, "MAX_TOKENS", "raise [llm] max_tokens, or the context"),
        ('{"profile": "A warm tale', None, "model_length", "raise [llm] max_tokens, or the context"),
        ("\n\n", None, "length", "without any text, as of a model that thinks"),
        (" \n" * 200, None, "length", "all of them blanks"),
    ],
)
def test_the_reason_of_an_answer_that_was_cut_off_fits_what_came(
    bench: GenerationProject, llm_server: LoopbackServer, text: str, thought: int | None, ending: str, said: str
) -> None:
    bench.rows = entities(1)
    details = {} if thought is None else {"completion_tokens_details": {"reasoning_tokens": thought}}
    llm_server.script.default = Behaviour(
        answer=text, finish_reason=ending, usage_override={"prompt_tokens": 200, "completion_tokens": 400, **details}
    )
    assert bench.generate().quarantined == 1
    with Journal(bench.store.directory) as opened:
        reason = next(opened.all_quarantined()).reason
    assert said in reason
    assert reason.startswith("the answer was cut off after 400 tokens")
    assert ("thought" in reason or "thinks" in reason) == ("nearly" in said or "thinks" in said)


def _tokens_sent(server: LoopbackServer) -> int:
    return sum(body["max_tokens"] for body in server.bodies)


@pytest.mark.parametrize("concurrency", [2, 32])
def test_a_model_that_never_stops_thinking_is_tried_by_few_calls(
    bench: GenerationProject, llm_server: LoopbackServer, concurrency: int
) -> None:
    bench.llm["concurrency"] = concurrency
    in_flight: list[int] = []
    think = thinker(10**7)

    def choose(number: int, body: dict[str, Any]) -> Behaviour:
        in_flight.append(body["max_tokens"])
        return replace(think(number, body), latency=0.02 if body["max_tokens"] > 400 else 0.0)

    llm_server.script.choose = choose
    with pytest.raises(FutileRunError, match=r"completion tokens, far more than answers take.*thought"):
        bench.generate()
    assert _tokens_sent(llm_server) < 160_000
    assert sum(room > 400 for room in in_flight) <= 7
    # The second run knows it: the plan says at least what was measured, and few calls are made.
    planned = bench.plan()
    assert planned.completion_tokens >= 40 * 8192
    first = len(llm_server.bodies)
    with pytest.raises(FutileRunError):
        bench.generate()
    assert len(llm_server.bodies) - first <= 5
    assert sum(body["max_tokens"] for body in llm_server.bodies[first:]) < 180_000


def test_a_larger_room_is_for_all_once_an_answer_with_it_is_valid(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.llm["concurrency"] = 40
    llm_server.script.choose = thinker(20_000)
    report = bench.generate()
    assert (report.generated, report.quarantined) == (40, 0)
    rooms = [body["max_tokens"] for body in llm_server.bodies]
    assert sum(400 < room < 20_000 for room in rooms) <= 3
    assert report.requests <= 40 + 3 + 40


def test_an_answer_that_needs_more_room_leaves_the_others_theirs(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    bench.rows = entities(60)
    usual, endless = thinker(), thinker(10**7)
    slow = "film 30\\n"
    llm_server.script.choose = lambda n, body: (endless if slow in json.dumps(body) else usual)(n, body)
    report = bench.generate()
    assert (report.generated, report.quarantined) == (59, 1)
    assert sum(body["max_tokens"] > 20_000 for body in llm_server.bodies) <= 2


def test_a_configured_room_is_kept(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.llm["thought_tokens"] = 2000
    llm_server.script.choose = thinker()
    assert bench.generate().requests == 40
    assert {body["max_tokens"] for body in llm_server.bodies} == {2400}


def test_room_and_the_words_for_defaults_change_no_key(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    bench.rows = entities(3)
    bench.generate()
    paid = llm_server.count
    for more in ({"thought_tokens": 5000}, {"thought_tokens": 0}, {"price": "free"}, {"thought_tokens": "auto"}):
        bench.llm |= more
        assert bench.generate().cached == 3
    assert llm_server.count == paid
    bench.llm["reasoning_effort"] = "low"
    assert bench.plan().to_generate == 3
    del bench.llm["reasoning_effort"]
    bench.llm["temperature"] = "default"
    assert bench.generate().generated == 3
    assert "temperature" not in llm_server.bodies[-1]


def test_a_limit_holds_where_usage_contradicts_itself(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    usage = {"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 3250}
    llm_server.script.choose = lambda _, body: Behaviour(answer=answer(body), usage_override=usage)
    bench.llm |= {"max_cost": 0.02, "concurrency": 32}
    with pytest.raises(Exception, match="max_cost") as caught:
        bench.generate()
    real = llm_server.count * (200 * 0.15 + 3050 * 0.6) / 1e6
    assert real <= 0.02
    assert llm_server.count >= 8
    assert caught.value.report.cost_usd == pytest.approx(real)


@pytest.mark.parametrize("price", [PRICE, {"input": 0.6, "output": 0.15}], ids=["dear answers", "dear prompts"])
@pytest.mark.parametrize("prompt", [-200, 0, "many", 10**12])
def test_an_impossible_prompt_leaves_the_total_to_the_dearer_price(
    bench: GenerationProject, llm_server: LoopbackServer, prompt: object, price: dict[str, float]
) -> None:
    usage = {"prompt_tokens": prompt, "completion_tokens": 50, "total_tokens": 3250}
    llm_server.script.choose = lambda _, body: Behaviour(answer=answer(body), usage_override=usage)
    bench.llm |= {"max_cost": 0.02, "concurrency": 32, "price": price}
    with pytest.raises(Exception, match="max_cost") as caught:
        bench.generate()
    at_most = llm_server.count * 3250 * 0.6 / 1e6
    assert at_most <= 0.02
    assert llm_server.count >= 8
    assert caught.value.report.cost_usd == pytest.approx(at_most)


def test_an_answer_beside_an_impossible_prompt_counts_against_the_limit(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    usage = {"prompt_tokens": -200, "completion_tokens": 3050}
    llm_server.script.choose = lambda _, body: Behaviour(answer=answer(body), usage_override=usage)
    bench.llm |= {"max_cost": 0.02, "concurrency": 32}
    with pytest.raises(Exception, match="max_cost"):
        bench.generate()
    assert llm_server.count * 3050 * 0.6 / 1e6 <= 0.02
