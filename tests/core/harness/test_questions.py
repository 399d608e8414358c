"""Tests of questions beside profiles: asked once, validated, retried, quarantined."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from loopback import Behaviour, Script, fails

from enhancer.config import Settings
from enhancer.contracts import Context
from enhancer.contracts.record import Key
from enhancer.errors import AuthenticationError, FutileRunError, RequestError
from enhancer.features.questions import Questions
from enhancer.harness import Journal
from enhancer.harness.answers.parse import InvalidAnswerError
from enhancer.harness.questions.form import Form, Question
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
FORM = Form("count/v1", "Count the letters.", SCHEMA, answer_tokens=5, max_tokens=30)


def question(text, id_=None):
    return Question(Key("item", id_ or text, "count"), FORM, text)


def counts(body):
    return json.dumps({"n": len(body["messages"][1]["content"])})


@pytest.fixture
def asking(tmp_path, llm_server, monkeypatch):
    """Make the questions of a model at the loopback server."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    llm_server.script.default = Behaviour(answer=counts)

    def make(**llm):
        settings = Settings.model_validate(
            {"llm": {"use": "openai", "model": "m", "api_base": llm_server.url, "max_attempts": 2, **llm}}
        )

        def provider():
            return OpenAI(OpenAIOptions(api_base=llm_server.url), Context(root=tmp_path))

        store = SimpleNamespace(directory=tmp_path, journal_database=lambda: None)
        return Questions(settings.llm, store, provider=provider, planner=provider)

    return make


def test_every_question_is_answered_once_and_equal_ones_together(asking, llm_server):
    questions = [question("abc"), question("abc", "again"), question("abcde")]
    events = []
    found = asking().ask(questions, "ask", events.append)
    assert {key.id: answer["n"] for key, answer in found.answers.items()} == {"abc": 3, "again": 3, "abcde": 5}
    assert llm_server.count == 2
    assert (events[-1].stage, events[-1].done, events[-1].total) == ("ask", 3, 3)
    again = asking().ask([*questions, question("new")], "ask")
    assert (llm_server.count, again.cached, len(again.answers)) == (3, 3, 4)


def test_a_plan_counts_what_is_left_and_pays_nothing(asking, llm_server, tmp_path):
    questions = [question("a" * n) for n in range(1, 11)]
    client = asking(price={"input": 1.0, "output": 2.0})
    plan = client.plan(questions)
    assert (plan.requests, plan.cached, plan.completion_tokens) == (10, 0, 50)
    assert plan.cost_usd == pytest.approx((plan.prompt_tokens + 2 * 50) / 1e6)
    assert not (tmp_path / "journal.sqlite").exists()
    client.ask(questions[:4], "ask")
    assert (client.plan(questions).requests, client.plan(questions).cached) == (6, 4)
    assert client.plan(questions[:4]).cost_usd == 0.0
    assert llm_server.count == 4


def test_an_answer_that_is_cut_off_is_asked_again_with_more_room(asking, llm_server):
    llm_server.script = Script(
        default=Behaviour(answer=counts), sequence=[Behaviour(answer='{"n"', finish_reason="length")]
    )
    found = asking().ask([question("abc")], "ask")
    assert found.answers[question("abc").key] == {"n": 3}
    limits = [body.get("max_completion_tokens") or body.get("max_tokens") for body in llm_server.bodies]
    assert limits == [400, 800]


def test_an_outage_defers_and_a_refusal_quarantines(asking, llm_server):
    def choose(_, body):
        text = body["messages"][1]["content"]
        return fails(503, retry_after="0") if text == "down" else fails(400) if text == "bad" else None

    llm_server.script.choose = choose
    found = asking(concurrency=1).ask([question("fine"), question("down"), question("bad")], "ask")
    assert set(found.answers) == {question("fine").key}
    assert set(found.deferred) == {question("down").key}
    assert set(found.failed) == {question("bad").key}
    llm_server.script.choose = None
    assert len(asking().ask([question("down")], "ask").answers) == 1


def test_a_later_answer_ends_the_quarantine(asking, llm_server, tmp_path):
    llm_server.script.default = Behaviour(answer='{"n": "many"}')
    assert asking().ask([question("abc")], "ask").failed
    with Journal(tmp_path) as journal:
        assert [one.aspect for one in journal.all_quarantined()] == ["count"]
    assert llm_server.count == 3
    llm_server.script.default = Behaviour(answer=counts)
    assert asking(temperature=0.5).ask([question("abc")], "ask").answers
    with Journal(tmp_path) as journal:
        assert list(journal.all_quarantined()) == []


def test_errors_that_concern_all_questions_end_the_run(asking, llm_server):
    llm_server.script.default = fails(401)
    with pytest.raises(AuthenticationError):
        asking().ask([question(text) for text in "abcdefgh"], "ask")
    llm_server.script.default = fails(404, message="model not found")
    with pytest.raises(RequestError):
        asking().ask([question("a")], "ask")


def test_another_process_that_asks_the_same_is_not_paid_twice(asking, llm_server, tmp_path):
    client = asking()
    (input_hash,) = client._by_hash([question("abc")])
    with Journal(tmp_path) as other:
        assert other.claim([input_hash]).result() == {input_hash}
        found = client.ask([question("abc"), question("de")], "ask")
    assert list(found.deferred.values()) == ["another process is asking"]
    assert llm_server.count == 1


def test_questions_in_vain_end_the_run(asking, llm_server):
    llm_server.script.default = Behaviour(answer="no", latency=0.02)
    with pytest.raises(FutileRunError, match=r": (\d+) of the first \1 questions") as caught:
        asking(concurrency=128).ask([question("a" * n) for n in range(1, 200)], "ask")
    assert llm_server.count < 60
    assert f"stopped after {llm_server.count} answered calls" in caught.value.message
    assert "keep-going" not in caught.value.hint


def test_some_answers_are_enough(asking, llm_server):
    llm_server.script.choose = lambda _, body: (
        None if len(body["messages"][1]["content"]) % 5 == 0 else Behaviour(answer="no")
    )
    found = asking(concurrency=4).ask([question("a" * n) for n in range(1, 26)], "ask")
    assert (len(found.answers), len(found.failed)) == (5, 20)


@pytest.mark.parametrize("concurrency", [2, 32])
def test_a_larger_room_for_thought_is_tried_by_few_calls(asking, llm_server, concurrency):
    def thinks(_, body):
        limit = body.get("max_tokens") or body["max_completion_tokens"]
        usage = {
            "prompt_tokens": 9,
            "completion_tokens": limit,
            "completion_tokens_details": {"reasoning_tokens": limit},
        }
        return Behaviour(answer="", finish_reason="length", usage_override=usage, latency=0.02 if limit > 400 else 0.0)

    llm_server.script.choose = thinks
    with pytest.raises(FutileRunError, match=r"far more than answers take.*questions.*thought"):
        asking(concurrency=concurrency).ask([question("a" * n) for n in range(1, 61)], "ask")
    rooms = [body.get("max_tokens") or body["max_completion_tokens"] for body in llm_server.bodies]
    assert sum(room > 400 for room in rooms) <= 7
    assert sum(rooms) < 160_000


@pytest.mark.parametrize("answer", ['{"n": 1.5}', '{"n": 1, "m": 2}', "{}", "one", "[1]"])
def test_an_answer_must_fit_the_schema(answer):
    with pytest.raises(InvalidAnswerError):
        FORM.parse(answer)
    assert FORM.parse('Sure: {"n": 1}') == {"n": 1}
