"""Test that answers are read in the forms of many servers, by both clients."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import json
import types
from typing import Any

import pytest
from hypothesis import given, strategies as st
from loopback import Behaviour, fails

from enhancer.contracts import Completion, Context, LLMProvider, Message, Request
from enhancer.errors import AuthenticationError, RateLimitError, ServerError
from enhancer_plugins.llm import _reply
from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions
from enhancer_plugins.network import wire

PROFILE = '{"profile": "A warm tale of toys that live.", "tags": ["warm"]}'
DECODED = json.loads(PROFILE)
DRAFT = '{"profile": "a mere draft"}'


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": name, "arguments": arguments}}


def ask(url: str, client: str = "openai", max_tokens: int | None = None) -> Completion:
    async def one() -> Completion:
        provider: LLMProvider
        if client == "openai":
            provider = OpenAI(OpenAIOptions(api_base=url), Context())
        else:
            provider = LiteLLM(LiteLLMOptions(api_base=url), Context())
        try:
            model = "loopback-model" if client == "openai" else "openai/loopback-model"
            messages = (Message("user", "?"),)
            return await provider.complete(Request(messages=messages, model=model, max_tokens=max_tokens, timeout=10.0))
        finally:
            await provider.aclose()

    return asyncio.run(one())


def test_examples() -> None:
    assert doctest.testmod(_reply).failed == 0


ELSEWHERE: dict[str, tuple[Any, str]] = {
    "a list of parts": ({"content": [{"type": "text", "text": PROFILE}]}, PROFILE),
    "output_text": ({"content": [{"type": "output_text", "text": PROFILE}]}, PROFILE),
    "an untyped part": ({"content": [{"text": PROFILE}]}, PROFILE),
    "bare strings": ({"content": [PROFILE[:20], PROFILE[20:]]}, PROFILE),
    "text with a value": ({"content": [{"type": "text", "text": {"value": PROFILE}}]}, PROFILE),
    "thought among the parts": (
        {"content": [{"type": "thinking", "thinking": [{"text": DRAFT}]}, {"type": "text", "text": PROFILE}]},
        PROFILE,
    ),
    "a part alone": ({"content": {"type": "text", "text": PROFILE}}, PROFILE),
    "the object itself": ({"content": DECODED}, json.dumps(DECODED)),
    "a part of JSON": ({"content": [{"type": "json", "json": DECODED}]}, json.dumps(DECODED)),
    "reasoning_content": ({"content": None, "reasoning_content": PROFILE}, PROFILE),
    "reasoning": ({"content": "", "reasoning": f"<think>so</think>\n{PROFILE}"}, PROFILE),
    "a tool call": ({"content": None, "tool_calls": [call("profile", PROFILE)]}, PROFILE),
    "a tool call beside prose": ({"content": "I call it.", "tool_calls": [call("profile", PROFILE)]}, PROFILE),
    "a tool call with an object": ({"content": None, "tool_calls": [call("profile", DECODED)]}, json.dumps(DECODED)),
    "a function call": ({"content": None, "function_call": {"name": "p", "arguments": PROFILE}}, PROFILE),
    "parsed": ({"content": None, "parsed": DECODED}, json.dumps(DECODED)),
    "content and a tool call": ({"content": PROFILE, "tool_calls": [call("other", DRAFT)]}, PROFILE),
    "content and thought": ({"content": PROFILE, "reasoning_content": DRAFT}, PROFILE),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_an_answer_is_found_where_it_is(llm_server: Any, name: str) -> None:
    message, text = ELSEWHERE[name]
    llm_server.script.default = Behaviour(message={"role": "assistant", **message})
    assert ask(llm_server.url).text == text


@pytest.mark.parametrize(
    "name",
    [
        *("a list of parts", "output_text", "an untyped part", "bare strings", "thought among the parts"),
        *("a part alone", "the object itself", "reasoning_content", "a tool call"),
    ],
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the filter of the client does not reach tests
def test_the_library_passes_it_on(llm_server: Any, name: str) -> None:
    message, text = ELSEWHERE[name]
    llm_server.script.default = Behaviour(message={"role": "assistant", **message})
    assert json.loads(ask(llm_server.url, "litellm").text) == json.loads(text)


@pytest.mark.parametrize("message", [PROFILE, {"text": PROFILE}])
def test_a_choice_that_is_not_quite_one(llm_server: Any, message: Any) -> None:
    choice = {"message": message} if isinstance(message, str) else message
    llm_server.script.default = Behaviour(body={"choices": [{"index": 0, "finish_reason": "stop", **choice}]})
    assert ask(llm_server.url).text == PROFILE


@pytest.mark.parametrize(
    ("message", "ending"),
    [
        ({"content": None, "reasoning_content": f"Maybe {DRAFT} but"}, "stop"),
        ({"content": None, "reasoning_content": DRAFT}, "length"),
        ({"content": "", "reasoning": f"First, {DRAFT}."}, "length"),
    ],
)
@pytest.mark.parametrize("client", ["openai", "litellm"])
def test_a_thought_in_place_of_the_content_is_no_answer(
    llm_server: Any, message: Any, ending: str, client: str
) -> None:
    llm_server.script.default = Behaviour(message={"role": "assistant", **message}, finish_reason=ending)
    done = ask(llm_server.url, client)
    assert done.text == "" or done.text.startswith("<think>")
    assert done.finish_reason == ending


def test_several_tool_calls_are_no_answer(llm_server: Any) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [call("a", PROFILE), call("b", DRAFT)]}
    llm_server.script.default = Behaviour(message=message)
    assert ask(llm_server.url).text == f"{PROFILE}\n{DRAFT}"


def test_a_refusal_among_the_parts(llm_server: Any) -> None:
    message = {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not"}]}
    llm_server.script.default = Behaviour(message=message)
    done = ask(llm_server.url)
    assert (done.text, done.finish_reason) == ("I will not", "refusal")


# -- endings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *((said, "length") for said in ("length", "MAX_TOKENS", "max_tokens", "model_length", "max_output_tokens")),
        *((said, "length") for said in ("model_context_window_exceeded", "Max_Output_Tokens", "ERROR_LIMIT")),
        *((said, "content_filter") for said in ("SAFETY", "sensitive", "PROHIBITED_CONTENT", "content_filter")),
        *((said, "content_filter") for said in ("RECITATION", "BLOCKLIST", "SPII", "guardrail_intervened")),
        *((said, "stop") for said in ("stop", "STOP", "end_turn", "tool_calls", "COMPLETE", "eos_token")),
        *((said, "other") for said in (None, "whatever", "")),
    ],
)
def test_endings_by_whatever_name(llm_server: Any, said: str | None, meant: str) -> None:
    llm_server.script.default = Behaviour(answer=PROFILE, finish_reason=said)
    assert ask(llm_server.url).finish_reason == meant


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("MAX_TOKENS", "length"),
        ("model_length", "length"),
        ("max_output_tokens", "length"),
        ("SAFETY", "content_filter"),
    ],
)
def test_endings_that_the_library_does_not_know(llm_server: Any, said: str, meant: str) -> None:
    llm_server.script.default = Behaviour(answer=PROFILE, finish_reason=said)
    assert ask(llm_server.url, "litellm").finish_reason == meant


def test_an_answer_of_the_library_that_used_up_its_tokens_is_cut_off(llm_server: Any) -> None:
    llm_server.script.default = Behaviour(answer=PROFILE, usage_override={"completion_tokens": 50})
    assert ask(llm_server.url, "litellm", max_tokens=50).finish_reason == "length"
    assert ask(llm_server.url, "litellm", max_tokens=51).finish_reason == "stop"


@pytest.mark.parametrize("client", ["openai", "litellm"])
@pytest.mark.parametrize("said", ["error", "network_error", "insufficient_system_resource"])
def test_an_answer_that_the_server_broke_off_is_asked_for_again(llm_server: Any, client: str, said: str) -> None:
    llm_server.script.default = Behaviour(answer=PROFILE[:20], finish_reason=said)
    with pytest.raises(ServerError, match="broke off"):
        ask(llm_server.url, client)


def test_a_prompt_that_gemini_blocks(llm_server: Any) -> None:
    llm_server.script.default = Behaviour(body={"choices": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
    done = ask(llm_server.url)
    assert (done.text, done.finish_reason) == ("", "content_filter")


# -- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "code"),
    [
        *(("openai", code) for code in ("", 400, 502, "upstream_error")),
        *(("litellm", code) for code in ("", 502, "upstream_error")),
    ],
)
def test_an_error_in_a_success_passes(llm_server: Any, client: str, code: Any) -> None:
    llm_server.script.default = Behaviour(fault="error_200", error={"message": "upstream is down", "code": code})
    with pytest.raises(ServerError):
        ask(llm_server.url, client)


@pytest.mark.parametrize(
    ("code", "kind"), [(403, AuthenticationError), (429, RateLimitError), (402, AuthenticationError)]
)
def test_an_error_of_the_account_in_a_success_does_not(llm_server: Any, code: int, kind: type[Exception]) -> None:
    llm_server.script.default = Behaviour(fault="error_200", error={"message": "no", "code": code})
    with pytest.raises(kind):
        ask(llm_server.url)


@pytest.mark.parametrize("client", ["openai", "litellm"])
def test_an_answer_that_failed_groqs_own_check_is_sampled_again(llm_server: Any, client: str) -> None:
    llm_server.script.default = fails(400, "Failed to validate JSON.", code="json_validate_failed")
    with pytest.raises(ServerError) as caught:
        ask(llm_server.url, client)
    assert caught.value.status == 400


# -- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        ({"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 3250}, (200, 3050, 3000, None)),
        ({"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 10}, (200, 50, None, None)),
        (
            {"prompt_tokens": 200, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 30}},
            (200, 50, 30, None),
        ),
        (
            {"prompt_tokens": 200, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 300}},
            (200, 350, 300, None),
        ),
        (
            {"prompt_tokens": 200, "completion_tokens": 350, "prompt_tokens_details": {"cached_tokens": 128}},
            (200, 350, None, 128),
        ),
        ({"prompt_tokens": 200, "completion_tokens": 5, "prompt_cache_hit_tokens": 64}, (200, 5, None, 64)),
        ({"prompt_tokens": 200, "completion_tokens": 5, "reasoning_tokens": 4, "cached_tokens": 3}, (200, 5, 4, 3)),
        ({"prompt_tokens": None, "completion_tokens": 50, "total_tokens": 250}, (200, 50, None, None)),
        (
            {"prompt_tokens": 2, "completion_tokens": 5, "completion_tokens_details": None, "cached_tokens": "x"},
            (2, 5, None, None),
        ),
    ],
)
def test_usage_in_the_words_of_many(llm_server: Any, told: dict[str, Any], counted: tuple[int | None, ...]) -> None:
    llm_server.script.default = Behaviour(answer=PROFILE, usage_override=told)
    done = ask(llm_server.url)
    assert (done.prompt_tokens, done.completion_tokens, done.reasoning_tokens, done.cached_tokens) == counted


def test_the_library_tells_thought_and_cached_tokens(llm_server: Any) -> None:
    told = {
        "prompt_tokens": 200,
        "completion_tokens": 50,
        "total_tokens": 3250,
        "completion_tokens_details": {"reasoning_tokens": 3000},
        "prompt_tokens_details": {"cached_tokens": 128},
    }
    llm_server.script.default = Behaviour(answer=PROFILE, usage_override=told, cost=0.5)
    done = ask(llm_server.url, "litellm")
    assert (done.prompt_tokens, done.completion_tokens, done.reasoning_tokens, done.cached_tokens) == (
        200,
        3050,
        3000,
        128,
    )
    assert done.cost_usd == 0.5


def test_the_cost_that_litellms_proxy_tells(llm_server: Any) -> None:
    llm_server.script.default = Behaviour(answer=PROFILE, headers={"x-litellm-response-cost": "0.0125"})
    assert ask(llm_server.url).cost_usd == 0.0125
    llm_server.script.default = Behaviour(answer=PROFILE, headers={"x-litellm-response-cost": "nan"})
    assert ask(llm_server.url).cost_usd is None


def test_a_cost_of_hundreds_of_digits_is_unknown(llm_server: Any) -> None:
    llm_server.script.default = Behaviour(answer=PROFILE, cost=10**400)
    assert ask(llm_server.url).cost_usd is None


def test_the_cost_that_the_library_computes() -> None:
    provider = LiteLLM(LiteLLMOptions(), Context())
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    choice = {"message": {"content": PROFILE}, "finish_reason": "stop"}
    response = types.SimpleNamespace(
        model_dump=lambda **_: {"choices": [choice], "usage": usage}, _hidden_params={"response_cost": 0.25}
    )
    assert provider._completion(response, "x").cost_usd == 0.25
    usage["total_tokens"] = 3000
    assert provider._completion(response, "x").cost_usd is None, "it was computed from the smaller counts"


def test_statuses_in_a_success() -> None:
    assert doctest.testmod(wire).failed == 0


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats()
    | st.sampled_from(["", "x", PROFILE, "<think>", "stop"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "text",
                    "value",
                    "content",
                    "reasoning_content",
                    "tool_calls",
                    "function",
                    "arguments",
                    "refusal",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["choices", "usage", "model", "error", "promptFeedback"]), JSON), JSON, JSON, JSON
)
def test_any_response_is_a_completion_or_a_fault_of_the_server(
    outer: Any, choice: Any, message: Any, ending: Any
) -> None:
    usage = {"prompt_tokens": ending, "total_tokens": message, "completion_tokens_details": choice, "cost": ending}
    forms = [
        outer,
        {**outer, "choices": [choice], "usage": usage},
        {**outer, "choices": [{"message": message, "finish_reason": ending}], "usage": usage},
        {"choices": [{"message": {"content": message, "refusal": choice, "tool_calls": ending}}]},
        {"choices": [{"text": message, "provider_specific_fields": choice, "error": ending, "finish_reason": "error"}]},
    ]
    for data in forms:
        with contextlib.suppress(ServerError):
            done = _reply.completion(data, where="x", scrub=lambda text: text, headers={})
            assert isinstance(done.text, str)
            assert done.finish_reason in ("stop", "length", "content_filter", "refusal", "other")
            assert done.cost_usd is None or done.cost_usd >= 0
