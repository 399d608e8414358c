"""Batch APIs of LiteLLM's providers: the conformance suite for each, and tests of their own."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from batch_dialects import DIALECTS
from loopback import Behaviour, LoopbackServer
from loopback_batch import Plan
from loopback_messages import LoopbackMessageBatches

from enhancer.contracts import Completion, Context, LostJob
from enhancer.errors import AuthenticationError, ConfigError, ProviderError, RateLimitError, RequestError, ServerError
from enhancer.testing.batch import BatchConformance
from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions

KEY = "sk-ant-4bZ9q0aVerySecretKey77"


@pytest.fixture
def messages():
    return LoopbackMessageBatches(default=Plan(polls=1))


@pytest.fixture
def anthropic(messages, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with LoopbackServer(add_routes=messages.add_routes) as running:
        yield running


def provider_at(server: LoopbackServer) -> LiteLLM:
    return LiteLLM(LiteLLMOptions(api_base=server.url.removesuffix("/v1")), Context())


class AnthropicSuite(BatchConformance):
    secret = KEY

    @pytest.fixture
    def make_provider(self, anthropic):
        return lambda: provider_at(anthropic)


class TestToolAsForm(AnthropicSuite):
    model = "anthropic/claude-3-5-haiku-latest"


class TestStructuredOutput(AnthropicSuite):
    model = "anthropic/claude-sonnet-4-5"


class OtherSuite(BatchConformance):
    secret = KEY
    dialect = ""

    @pytest.fixture
    def make_provider(self, monkeypatch):
        spoken = DIALECTS[self.dialect]
        monkeypatch.setenv(spoken.key, KEY)
        batches = spoken.server()
        batches.default = Plan(polls=1)
        with LoopbackServer(add_routes=batches.add_routes) as running:
            yield lambda: LiteLLM(LiteLLMOptions(api_base=spoken.base(running.url)), Context())
        assert batches.keys <= {KEY, f"Bearer {KEY}"}


class TestGemini(OtherSuite):
    dialect = "gemini"
    model = DIALECTS["gemini"].model


class TestMistral(OtherSuite):
    dialect = "mistral"
    model = DIALECTS["mistral"].model


def using(server, model, act):
    async def whole():
        provider = provider_at(server)
        try:
            return await act(provider, provider.batches(model))
        finally:
            await provider.aclose()

    return asyncio.run(whole())


@pytest.mark.parametrize("model", [TestToolAsForm.model, TestStructuredOutput.model])
def test_a_line_of_anthropic_asks_what_a_direct_call_posts(anthropic, model):
    suite = TestToolAsForm()
    suite.model = model

    async def act(provider, batches):
        lines = [json.loads(batches.line(f"id-{n}", suite.entity_request(f"x{n}\u2028\n"))) for n in range(3)]
        for n in range(3):
            await provider.complete(suite.entity_request(f"x{n}\u2028\n"))
        return lines

    lines = using(anthropic, model, act)
    assert [line["params"] for line in lines] == anthropic.bodies
    assert [line["custom_id"] for line in lines] == ["id-0", "id-1", "id-2"]
    direct = anthropic.requests[0].headers.get("anthropic-beta")
    assert {line.get("betas") for line in lines} == {direct}
    assert anthropic.requests[0].headers["x-api-key"] == KEY


def test_the_key_goes_to_the_api_alone_and_results_come_from_their_documented_place(anthropic, messages, tmp_path):
    suite = TestToolAsForm()

    async def act(_, batches):
        status = await suite.wait(batches, (await suite.submit(batches, tmp_path, ["a"], "t" * 32)).id)
        return [custom_id async for custom_id, _ in batches.fetch(status, tmp_path)]

    assert using(anthropic, suite.model, act) == ["a"]
    assert messages.keys == {KEY}


# -- looking for a job whose creation may have failed -----------------------------------------------------------------

TOKEN = "a" * 32


def lost(requests: int = 1, *, others: tuple[str, ...] = (), ago: float = 0.0) -> LostJob:
    begun = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return LostJob(requests=requests, begun=begun, others=frozenset(others))


def search(server, tmp_path, *jobs: list[str], ended: bool = True, given: LostJob | None = None):
    """Create jobs with these custom ids, and look for the job of ``TOKEN``."""
    suite = TestToolAsForm()

    async def act(_, batches):
        for number, ids in enumerate(jobs):
            created = await suite.submit(batches, tmp_path, ids, "")
            assert created.id == f"batch_{number}"
            if ended:
                await suite.wait(batches, created.id)
        found = await batches.find(TOKEN, given)
        return None if found is None else found.id

    return using(server, suite.model, act)


def test_a_batch_that_has_ended_tells_whose_it_is(anthropic, tmp_path):
    jobs = [["b" * 32 + "-0"], [TOKEN + "-0"], ["c" * 32 + "-0"]]
    assert search(anthropic, tmp_path, *jobs, given=lost()) == "batch_1"


def test_batches_of_others_are_not_taken_for_it(anthropic, tmp_path):
    assert search(anthropic, tmp_path, ["b" * 32 + "-0"], given=lost()) is None


def test_a_running_batch_of_the_same_size_is_it(anthropic, messages, tmp_path):
    messages.default = Plan(polls=99)
    jobs = [[TOKEN + "-0"], [f"x-{n}" for n in range(2)]]
    assert search(anthropic, tmp_path, *jobs, ended=False, given=lost()) == "batch_0"


def test_batches_of_other_jobs_of_the_journal_are_not_it(anthropic, messages, tmp_path):
    messages.default = Plan(polls=99)
    given = lost(others=("batch_0",))
    assert search(anthropic, tmp_path, ["b" * 32 + "-0"], ended=False, given=given) is None


def test_older_batches_are_not_it(anthropic, messages, tmp_path):
    messages.default = Plan(polls=99)
    assert search(anthropic, tmp_path, [TOKEN + "-0"], ended=False, given=lost(ago=-3600)) is None


def test_running_batches_that_cannot_be_told_apart_are_waited_for(anthropic, messages, tmp_path):
    messages.default = Plan(polls=99)
    with pytest.raises(ProviderError, match="batch_1, batch_0") as caught:
        search(anthropic, tmp_path, ["x"], ["y"], ended=False, given=lost())
    assert not isinstance(caught.value, RequestError | ServerError)
    assert "when they have ended" in caught.value.hint


def test_every_page_is_searched(anthropic, monkeypatch, tmp_path):
    monkeypatch.setattr("enhancer_plugins.llm.batching.anthropic._PAGE", 2)
    jobs = [[f"{n:032x}-0"] for n in range(4)]
    assert search(anthropic, tmp_path, [TOKEN + "-0"], *jobs, given=lost()) == "batch_0"


# -- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind"), [(400, RequestError), (401, AuthenticationError), (413, RequestError), (529, ServerError)]
)
def test_errors_of_requests(anthropic, messages, tmp_path, status, kind):
    messages.default = Plan(answer=lambda *_: Behaviour(status=status, error={"message": "no: " + KEY}))
    suite = TestToolAsForm()

    async def act(_, batches):
        done = await suite.wait(batches, (await suite.submit(batches, tmp_path, ["a"], "t")).id)
        return [result async for _, result in batches.fetch(done, tmp_path)]

    (error,) = using(anthropic, suite.model, act)
    assert type(error) is kind
    assert "no: [secret]" in str(error)


MESSAGES = {
    "text": [{"type": "text", "text": '{"profile": '}, {"type": "text", "text": '"x"}'}],
    "thought": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "{}"},
    ],
    "tool": [
        {"type": "text", "text": "Here:"},
        {"type": "tool_use", "id": "t", "name": "json_tool_call", "input": {"profile": "x"}},
    ],
    "wrapped": [{"type": "tool_use", "id": "t", "name": "json_tool_call", "input": {"values": {"profile": "x"}}}],
    "empty": [],
}


@pytest.mark.parametrize("stop", ["end_turn", "max_tokens", "stop_sequence", "refusal"])
@pytest.mark.parametrize("content", list(MESSAGES))
def test_a_message_is_read_as_by_a_direct_call(anthropic, messages, monkeypatch, tmp_path, content, stop):
    used = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20}
    if content in ("tool", "wrapped") and stop == "end_turn":
        stop = "tool_use"
    whole = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "stop_sequence": None,
        "content": MESSAGES[content],
        "stop_reason": stop,
        "usage": used,
    }
    monkeypatch.setattr("loopback_messages.message_of", lambda *_: whole)
    suite = TestToolAsForm()

    async def act(provider, batches):
        done = await suite.wait(batches, (await suite.submit(batches, tmp_path, ["a"], "t")).id)
        (result,) = [result async for _, result in batches.fetch(done, tmp_path)]
        return result, await provider.complete(suite.entity_request("a"))

    found, direct = using(anthropic, suite.model, act)
    assert isinstance(found, Completion)
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == (125, 7, 100)
    assert (found.text, found.prompt_tokens, found.completion_tokens) == (
        direct.text,
        direct.prompt_tokens,
        direct.completion_tokens,
    )
    if content not in ("tool", "wrapped"):  # then the library says "stop", whatever the provider said
        assert direct.finish_reason == {"refusal": "content_filter"}.get(found.finish_reason, found.finish_reason)


# -- Gemini and Mistral ------------------------------------------------------------------------------------------------


def job_of(name, monkeypatch, tmp_path, reply, act):
    """Answer one request of a job, and a direct call, with the same reply; return what was read of both."""
    spoken = DIALECTS[name]
    monkeypatch.setenv(spoken.key, KEY)
    batches = spoken.server()
    suite = TestToolAsForm()
    suite.model = spoken.model
    reply(batches)

    async def whole(url):
        provider = LiteLLM(LiteLLMOptions(api_base=spoken.base(url)), Context())
        try:
            return await act(suite, provider, provider.batches(spoken.model))
        finally:
            await provider.aclose()

    with LoopbackServer(add_routes=batches.add_routes) as server:
        return asyncio.run(whole(server.url))


GENERATED = {
    "thought": ([{"text": "hm", "thought": True}, {"text": "{}"}], "STOP"),
    "long": ([{"text": "{"}], "MAX_TOKENS"),
    "unsafe": (None, "SAFETY"),
    "blocked": (None, None),
}


@pytest.mark.parametrize("case", list(GENERATED))
def test_a_response_of_gemini_is_read_as_by_a_direct_call(monkeypatch, tmp_path, case):
    parts, ending = GENERATED[case]
    response = {
        "candidates": [
            {"finishReason": ending, "index": 0, **({"content": {"role": "model", "parts": parts}} if parts else {})}
        ],
        "usageMetadata": {
            "promptTokenCount": 100,
            "candidatesTokenCount": 20,
            "thoughtsTokenCount": 300,
            "totalTokenCount": 420,
            "cachedContentTokenCount": 60,
        },
        "modelVersion": "m",
    }
    if case == "blocked":
        del response["candidates"]
        response["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
    monkeypatch.setattr("loopback_generate.response_of", lambda *_: response)

    async def act(suite, provider, batches):
        done = await suite.wait(batches, (await suite.submit(batches, tmp_path, ["a"], "t")).id)
        (result,) = [result async for _, result in batches.fetch(done, tmp_path)]
        return result, await provider.complete(suite.entity_request("a"))

    found, direct = job_of("gemini", monkeypatch, tmp_path, lambda _: None, act)
    assert (found.prompt_tokens, found.completion_tokens, found.reasoning_tokens) == (100, 320, 300)
    assert found.cached_tokens == 60
    assert (found.text, found.finish_reason) == (direct.text, direct.finish_reason)
    if case != "blocked":  # the library tells no tokens then
        assert (found.prompt_tokens, found.completion_tokens) == (direct.prompt_tokens, direct.completion_tokens)


@pytest.mark.parametrize("name", ["gemini", "mistral"])
def test_a_line_asks_what_a_direct_call_posts(monkeypatch, tmp_path, name):
    spoken, suite = DIALECTS[name], TestToolAsForm()
    monkeypatch.setenv(spoken.key, KEY)
    suite.model = spoken.model
    batches = spoken.server()

    async def act(url):
        provider = LiteLLM(LiteLLMOptions(api_base=spoken.base(url)), Context())
        written = provider.batches(spoken.model)
        lines = [json.loads(written.line(f"id-{n}", suite.entity_request(f'x{n}"\n'))) for n in range(3)]
        for n in range(3):
            await provider.complete(suite.entity_request(f'x{n}"\n'))
        await provider.aclose()
        return lines

    with LoopbackServer(add_routes=batches.add_routes) as server:
        lines = asyncio.run(act(server.url))
        posted = server.bodies
    if name == "gemini":
        assert [line["request"] for line in lines] == posted
    else:
        assert [{"model": "mistral-small-latest", **line["body"]} for line in lines] == posted


@pytest.mark.parametrize("name", ["gemini", "mistral"])
def test_a_token_is_looked_for_on_every_page(monkeypatch, tmp_path, name):
    monkeypatch.setattr(f"enhancer_plugins.llm.batching.{name}._PAGE", 2)

    async def act(suite, _, batches):
        made = [(await suite.submit(batches, tmp_path, ["a"], f"token{n}")).id for n in range(5)]
        found = [(await batches.find(f"token{n}")).id for n in range(5)]
        return made, found, await batches.find("none")

    made, found, none = job_of(name, monkeypatch, tmp_path, lambda _: None, act)
    assert made == found
    assert none is None


@pytest.mark.parametrize(
    ("code", "kind"), [(3, RequestError), (400, RequestError), (8, RateLimitError), (13, ServerError)]
)
def test_codes_of_gemini_are_of_either_kind(monkeypatch, tmp_path, code, kind):
    def reply(batches):
        batches.answered_line = lambda line, *_: {"key": line["key"], "error": {"code": code, "message": "no " + KEY}}

    async def act(suite, _, batches):
        done = await suite.wait(batches, (await suite.submit(batches, tmp_path, ["a"], "t")).id)
        return [result async for _, result in batches.fetch(done, tmp_path)]

    (error,) = job_of("gemini", monkeypatch, tmp_path, reply, act)
    assert type(error) is kind
    assert "no [secret]" in str(error)


def test_a_failed_job_of_mistral_with_results_keeps_them(monkeypatch, tmp_path):
    def reply(batches):
        told = batches._job_json
        batches._job_json = lambda job: {**told(job), **({"status": "FAILED"} if job.output else {})}

    async def act(suite, _, batches):
        done = await suite.wait(batches, (await suite.submit(batches, tmp_path, ["a"], "t")).id)
        return done.said, [result async for _, result in batches.fetch(done, tmp_path)]

    said, (result,) = job_of("mistral", monkeypatch, tmp_path, reply, act)
    assert said == "FAILED"
    assert isinstance(result, Completion)


# -- models without a batch API ---------------------------------------------------------------------------------------


def test_a_provider_without_a_known_batch_api_is_refused_by_name():
    with pytest.raises(ConfigError, match="no batch API for 'groq/llama'") as caught:
        LiteLLM(LiteLLMOptions(), Context()).batches("groq/llama")
    assert "anthropic" in caught.value.hint


def test_jobs_are_recorded_under_the_name_of_their_provider():
    provider = LiteLLM(LiteLLMOptions(), Context())
    assert provider.batches("anthropic/claude-3-5-haiku-latest").endpoint == "litellm/anthropic"
