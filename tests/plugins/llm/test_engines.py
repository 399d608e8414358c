"""Tests of what ``openai`` reads of vLLM and SGLang servers, and how it speaks with them."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from hypothesis import given, strategies as st
from loopback import LoopbackServer
from loopback_engines import PROSE, Flags, LoopbackEngine

from enhancer.contracts import Context, Message, Request
from enhancer.errors import AuthenticationError, ConnectionFailedError, RequestError
from enhancer_plugins.llm._engines import Samples
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions

MODEL = Flags().model
SCHEMA = {
    "type": "object",
    "properties": {"profile": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["profile", "tags"],
}
ENGINES = ("vllm", "sglang")


def provider(url, **options):
    return OpenAI(OpenAIOptions(api_base=url, **options), Context())


def facts(url, *, public=False, **options):
    async def main():
        asked = provider(url, **options)
        try:
            return await asked.server_facts(MODEL, public=public)
        finally:
            await asked.aclose()

    return asyncio.run(main())


def ask(url, *, text="a film about the sea", schema=SCHEMA, max_tokens=400, **options):
    async def main():
        asked = provider(url, **options)
        messages = (Message("system", "Write a profile."), Message("user", text))
        try:
            return await asked.complete(Request(messages=messages, model=MODEL, schema=schema, max_tokens=max_tokens))
        finally:
            await asked.aclose()

    return asyncio.run(main())


@pytest.mark.parametrize("dialect", ENGINES)
def test_an_engine_tells_what_it_serves_and_can_hold(dialect):
    with LoopbackEngine(dialect, Flags(context=4096, cache_tokens=160_000, most_calls=48)) as engine:
        told = facts(engine.url)
    assert (told.engine, told.version) == {"vllm": ("vLLM", "0.33.0"), "sglang": ("SGLang", "0.5.23")}[dialect]
    assert (told.models, told.context, told.cache_tokens) == ((MODEL,), 4096, 160_000)
    assert (told.running, told.waiting, told.keeps_prefixes, told.prefix_hits) == (0, 0, True, None)
    assert told.most_calls == {"vllm": None, "sglang": 48}[dialect]
    assert told.refuses_unknown_models == (dialect == "vllm")
    assert not engine.calls


@pytest.mark.parametrize("dialect", ENGINES)
def test_the_share_of_the_prefix_cache_is_that_of_the_counters(dialect):
    with LoopbackEngine(dialect) as engine:
        engine.queried, engine.hits = 4000, 3000
        assert facts(engine.url).prefix_hits == pytest.approx(0.75)


@pytest.mark.parametrize("dialect", ENGINES)
def test_without_metrics_the_rest_is_told(dialect):
    with LoopbackEngine(dialect, Flags(metrics=False, caching=False)) as engine:
        told = facts(engine.url)
    assert (told.context, told.running, told.prefix_hits) == (32_768, None, None)
    assert told.keeps_prefixes == {"vllm": None, "sglang": False}[dialect]


@pytest.mark.parametrize("dialect", ENGINES)
def test_the_key_is_sent_and_told_nowhere(dialect, monkeypatch):
    key = "sk-engine-0123456789abcdef"
    with LoopbackEngine(dialect, Flags(api_key=key)) as engine:
        with pytest.raises(AuthenticationError):
            facts(engine.url)
        monkeypatch.setenv("OPENAI_API_KEY", key)
        told = facts(engine.url)
    assert told.version
    assert key not in repr(told)


def test_another_server_tells_nothing(llm_server):
    assert facts(llm_server.url) is None
    for models in ([], [{"object": "model"}], [{"id": 3, "owned_by": ["vllm"]}, {"owned_by": None}]):
        llm_server.script.models = models
        assert facts(llm_server.url) is None


def test_a_server_that_is_not_there_is_an_error():
    with LoopbackServer() as server:
        url = server.url
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1"):
        facts(url)


def test_a_server_elsewhere_is_asked_only_on_request(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    began = time.monotonic()
    assert facts("https://engine.example.com/v1") is None
    assert time.monotonic() - began < 5


@given(st.text())
def test_any_text_is_read_as_metrics(text):
    samples = Samples(text)
    assert samples.total("vllm:num_requests_running") is None or "vllm:num_requests_running" in text


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.text(st.characters(exclude_characters='"\\\n\r'))
    ),
    st.floats(0, 1e9),
)
def test_metrics_are_read_whatever_their_labels(labels, value):
    inner = ",".join(f'{name}="{label}"' for name, label in labels.items() if label.isprintable())
    samples = Samples(f"# HELP a:b what\na:b{{{inner}}} {value}\na:b{{}} 1\na:c NaN\na:c +Inf\n")
    assert samples.total("a:b") == pytest.approx(value + 1)
    assert samples.total("a:c") is None


# -- calls ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ENGINES)
def test_the_answer_is_guided_by_the_schema(dialect):
    with LoopbackEngine(dialect) as engine:
        assert set(json.loads(ask(engine.url).text)) == {"profile", "tags"}
        assert ask(engine.url, structured="none").text == PROSE


def test_a_parameter_that_vllm_no_longer_has_guides_nothing():
    with LoopbackEngine("vllm") as engine:
        schema = {"json": SCHEMA}
        told = ask(engine.url, structured="none", extra_body={"structured_outputs": schema})
        assert set(json.loads(told.text)) == {"profile", "tags"}
        assert ask(engine.url, structured="none", extra_body={"guided_json": SCHEMA}).text == PROSE


@pytest.mark.parametrize("dialect", ENGINES)
def test_thought_is_apart_from_the_answer_and_can_be_switched_off(dialect):
    with LoopbackEngine(dialect, Flags(thinks=True, report_cached=True)) as engine:
        thought = ask(engine.url)
        again = ask(engine.url, extra_body={"chat_template_kwargs": {"enable_thinking": False}})
    assert json.loads(thought.text) == json.loads(again.text)
    assert (thought.reasoning_tokens or 0) > 0
    assert not again.reasoning_tokens
    assert thought.cached_tokens == 0 and (again.cached_tokens or 0) >= 0  # noqa: PT018  short prompts have one block


@pytest.mark.parametrize("dialect", ENGINES)
def test_an_answer_that_would_be_longer_than_the_context_is_asked_for_shorter(dialect):
    with LoopbackEngine(dialect, Flags(context=1024)) as engine:
        told = ask(engine.url, max_tokens=4000)
        sent = [received.body["max_tokens"] for received in engine.calls]
    assert json.loads(told.text)["tags"]
    assert sent == {"vllm": [4000, 1024], "sglang": [4000, 1024, 512]}[dialect]


@pytest.mark.parametrize("dialect", ENGINES)
def test_a_prompt_that_is_longer_than_the_context_is_refused_once_and_shortens_no_other_answer(dialect):
    async def main(url):
        asked, system = provider(url), Message("system", "Write a profile.")
        requests = [
            Request(messages=(system, Message("user", text)), model=MODEL, schema=SCHEMA, max_tokens=700)
            for text in ("sea " * 2000, "sea")
        ]
        try:
            with pytest.raises(RequestError, match=r"context length"):
                await asked.complete(requests[0])
            await asked.complete(requests[1])
        finally:
            await asked.aclose()

    with LoopbackEngine(dialect, Flags(context=1024)) as engine:
        asyncio.run(main(engine.url))
        assert [received.body["max_tokens"] for received in engine.calls] == [700, 700]


def test_a_model_that_is_not_served_is_named():
    with LoopbackEngine("vllm", Flags(model="other")) as engine, pytest.raises(RequestError, match=r"does not exist"):
        ask(engine.url)
