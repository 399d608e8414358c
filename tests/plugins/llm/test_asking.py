"""Tests of requests to models: names of parameters, further parameters and headers, by guess, by refusal and by option."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from loopback import Behaviour, fails
from pydantic import ValidationError

from enhancer.contracts import Context, Message, Request
from enhancer.errors import AuthenticationError, RequestError
from enhancer_plugins.llm._dialect import Dialect
from enhancer_plugins.llm._thinkers import thinks
from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions

SCHEMA = {"type": "object", "properties": {"profile": {"type": "string"}}, "required": ["profile"]}
AZURE = "shop.openai.azure.com"


def request(**more):
    values = {"model": "m", "timeout": 10.0, "max_tokens": 400, "schema": SCHEMA, **more}
    return Request(messages=(Message("user", "hi"),), **values)


def ask(url, *requests, provider=OpenAI, options=OpenAIOptions, **more):
    async def whole():
        made = provider(options(api_base=url, **more), Context())
        try:
            return await asyncio.gather(*(made.complete(one) for one in requests or [request()]))
        finally:
            await made.aclose()

    return asyncio.run(whole())


def dialect(host="", **more):
    return Dialect(host, **{"structured": "auto", "max_tokens_parameter": "auto", **more})


@pytest.mark.parametrize(
    ("host", "model", "name", "samples"),
    [
        ("api.openai.com", "gpt-4o-mini", "max_completion_tokens", True),
        ("api.openai.com", "gpt-6-sol", "max_completion_tokens", False),
        ("openrouter.ai", "openai/gpt-5-mini", "max_completion_tokens", False),
        ("gateway.example", "o4-mini", "max_completion_tokens", False),
        ("gateway.example", "gpt-5-chat-latest", "max_completion_tokens", True),
        (AZURE, "our-deployment", "max_completion_tokens", True),
        (AZURE, "o3-for-us", "max_completion_tokens", False),
        ("api.deepseek.com", "deepseek-chat", "max_tokens", True),
        ("10.0.0.1", "openai/gpt-oss-20b", "max_tokens", True),
        ("10.0.0.1", "Qwen/Qwen3-8B", "max_tokens", True),
        ("10.0.0.1", "o1labs-tiny", "max_tokens", True),
    ],
)
def test_parameters_follow_endpoint_and_family(host, model, name, samples):
    found = dialect(host).parameters(request(temperature=0.0), model)
    assert found[name] == 400
    assert ({"max_tokens", "max_completion_tokens"} & set(found)) == {name}
    assert ("temperature" in found) is samples


def test_deepseek_gets_an_object_and_mistral_its_own_seed():
    assert dialect("api.deepseek.com").parameters(request(), "deepseek-chat")["response_format"] == {
        "type": "json_object"
    }
    assert dialect("api.deepseek.com", structured="json_schema").structured("deepseek-chat") == "json_schema"
    found = dialect("api.mistral.ai").parameters(request(seed=3), "mistral-small-latest")
    assert found["random_seed"] == 3
    assert "seed" not in found


def refusing(*rules):
    """Return a behaviour that refuses requests as long as any rule finds something to say."""

    def choose(_, body):
        for rule in rules:
            if message := rule(body):
                return fails(400, message)
        return None

    return choose


NO_MAX_TOKENS = (
    "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
)
NO_TEMPERATURE = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value."
NO_SCHEMA = "This response_format type is unavailable now"


def like_gpt_5(body):
    if "max_tokens" in body:
        return NO_MAX_TOKENS
    return NO_TEMPERATURE if body.get("temperature", 1) != 1 else None


def like_deepseek(body):
    return NO_SCHEMA if body.get("response_format", {}).get("type") == "json_schema" else None


PROVIDERS = [
    pytest.param({}, "m", id="openai"),
    pytest.param({"provider": LiteLLM, "options": LiteLLMOptions}, "openai/m", id="litellm"),
]


@pytest.mark.parametrize(("how", "model"), PROVIDERS)
def test_a_deployment_that_hides_its_model_is_asked_as_it_wants(llm_server, how, model):
    llm_server.script.choose = refusing(like_gpt_5, like_deepseek)
    done = ask(llm_server.url, *[request(model=model)] * 4, **how)
    assert len(done) == 4
    last = llm_server.bodies[-1]
    assert last["max_completion_tokens"] == 400
    assert last["response_format"] == {"type": "json_object"}
    assert not {"max_tokens", "temperature"} & set(last)
    before = llm_server.count
    llm_server.script.choose = refusing(like_gpt_5)
    ask(llm_server.url, request(model=model), **how)  # another provider, which learns anew
    assert llm_server.count == before + 3


def test_what_is_learned_is_kept_for_all_calls(llm_server):
    llm_server.script.choose = refusing(like_gpt_5)

    async def whole():
        made = OpenAI(OpenAIOptions(api_base=llm_server.url), Context())
        try:
            for _ in range(5):
                await made.complete(request())
        finally:
            await made.aclose()

    asyncio.run(whole())
    assert llm_server.count == 5 + 2


@pytest.mark.parametrize(
    ("message", "most"),
    [
        ("max_tokens is too large: 9000. This model supports at most 4096 completion tokens.", 4096),
        ("This model's maximum context length is 8192 tokens and your request has 300 input tokens.", 4096),
    ],
)
@pytest.mark.parametrize(("how", "model"), PROVIDERS)
def test_room_that_does_not_fit_into_the_model_is_cut(llm_server, how, model, message, most):
    llm_server.script.choose = refusing(lambda body: message if body["max_tokens"] > 5000 else None)
    ask(llm_server.url, request(model=model, max_tokens=8592), **how)
    assert [body["max_tokens"] for body in llm_server.bodies] == [8592, most]
    llm_server.script.default = fails(400, message)
    with pytest.raises(RequestError):  # the prompt alone is too long
        ask(llm_server.url, request(model=model, max_tokens=400), **how)
    assert llm_server.count == 3


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 9000. This model supports at most 4096 completion tokens.",
        "Invalid schema for response_format 'profile': 'minLength' is not permitted.",
        "the prompt is too long",
    ],
)
def test_other_refusals_are_told_at_once(llm_server, message):
    llm_server.script.default = fails(400, message)
    with pytest.raises(RequestError):
        ask(llm_server.url)
    assert llm_server.count == 1


def test_an_option_is_not_overruled(llm_server):
    llm_server.script.choose = refusing(like_deepseek)
    with pytest.raises(RequestError, match="unavailable"):
        ask(llm_server.url, structured="json_schema")
    llm_server.script.choose = refusing(like_gpt_5)
    with pytest.raises(RequestError, match="max_completion_tokens"):
        ask(llm_server.url, max_tokens_parameter="max_tokens")
    llm_server.script.choose = None
    ask(llm_server.url, max_tokens_parameter="max_completion_tokens")
    assert llm_server.bodies[-1]["max_completion_tokens"] == 400


@pytest.mark.parametrize(("how", "model"), PROVIDERS)
def test_further_parameters_effort_and_headers_are_sent(llm_server, monkeypatch, how, model):
    monkeypatch.setenv("SHOP_TOKEN", "a-secret-of-ours")
    more = {"enable_thinking": False, "chat_template_kwargs": {"enable_thinking": False}}
    headers = {"X-Title": "shop", "X-Shop-Token": "Token ${SHOP_TOKEN}"}
    ask(llm_server.url, request(model=model, reasoning_effort="low"), extra_body=more, headers=headers, **how)
    sent = llm_server.requests[-1]
    assert {name: sent.body[name] for name in more} == more
    assert sent.body["reasoning_effort"] == "low"
    assert (sent.headers["x-title"], sent.headers["x-shop-token"]) == ("shop", "Token a-secret-of-ours")


def test_a_secret_of_a_header_is_in_no_error(llm_server, monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", "a-secret-of-ours")
    llm_server.script.default = Behaviour(status=401, fault="echo_key")
    with pytest.raises(AuthenticationError) as caught:
        ask(llm_server.url, headers={"Authorization": "Basic ${SHOP_TOKEN}"})
    assert "a-secret-of-ours" not in str(caught.value)


@pytest.mark.parametrize("options", [OpenAIOptions, LiteLLMOptions])
def test_what_changes_answers_is_in_the_key_and_nothing_else(options, monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", "a-secret-of-ours")
    assert options().sampling == options(structured="json_schema").sampling == {}
    assert options(structured="none").sampling == {"structured": "none"}
    full = options(extra_body={"top_k": 1}, headers={"X-Token": "${SHOP_TOKEN}"}, max_tokens_parameter="max_tokens")
    assert full.sampling == {"extra_body": {"top_k": 1}}
    assert "a-secret-of-ours" not in json.dumps(full.model_dump())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"headers": {"Authorization": "Bearer sk-1234"}}, "secret"),
        ({"headers": {"X-Api-Key": "abc"}}, "NAME"),
        ({"headers": {"a b": "c"}}, "character"),
        ({"headers": {"X-A": "b\r\nX-B: c"}}, "character"),
        ({"headers": {"Host": "evil.example"}}, "HTTP client"),
        ({"extra_body": {"api_key": "abc"}}, "cache keys"),
        ({"extra_body": {"provider": {"access_token": "abc"}}}, "cache keys"),
        ({"extra_body": {"max_tokens": 5}}, "max_tokens"),
        ({"extra_body": {"messages": []}}, "template"),
        ({"extra_body": {"x": float("nan")}}, "JSON"),
    ],
)
def test_options_that_would_leak_or_contradict_are_refused(wrong, message):
    with pytest.raises(ValidationError, match=message):
        OpenAIOptions(**wrong)
    OpenAIOptions(extra_body={"thinking": {"type": "enabled", "budget_tokens": 100}, "thinking_budget": 1})


def test_a_variable_that_is_not_set_is_named_before_the_first_call(llm_server, monkeypatch):
    monkeypatch.delenv("SHOP_TOKEN", raising=False)
    with pytest.raises(AuthenticationError, match="SHOP_TOKEN"):
        ask(llm_server.url, headers={"X-Token": "${SHOP_TOKEN}"})
    assert llm_server.count == 0


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        ("gpt-5-mini", {}, True),
        ("openai/gpt-6-sol", {}, True),
        ("azure/o4-mini", {}, True),
        ("gpt-5-chat-latest", {}, None),
        ("gpt-4o-mini", {}, None),
        ("loopback-model", {}, None),
        ("openai/gpt-oss-20b", {}, True),
        ("deepseek/deepseek-reasoner", {}, True),
        ("deepseek/deepseek-chat", {}, None),
        ("deepseek/deepseek-chat", {"thinking": {"type": "enabled"}}, True),
        ("Qwen/Qwen3-8B", {}, True),
        ("Qwen/Qwen3-8B", {"chat_template_kwargs": {"enable_thinking": False}}, False),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", {}, None),
        ("anthropic/claude-haiku-4-5", {}, None),
        ("anthropic/claude-haiku-4-5", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, True),
        ("gpt-5", {"reasoning_effort": "none"}, False),
    ],
)
def test_models_that_think_are_known(model, body, expected):
    assert thinks(model, body) is expected


def test_the_map_says_which_models_do_not_think_by_default():
    assert thinks("gpt-5.1", {}) is False
    assert thinks("gemini/gemini-2.5-pro", {}) is True


class _Ollama(BaseHTTPRequestHandler):
    """Answers as Ollama's chat does."""

    def log_message(self, *_):
        pass

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/api/chat":  # not the questions of LiteLLM about the model
            self.server.received = sent
        message = {"role": "assistant", "content": "{}"}
        told = {"model": "q", "message": message, "done": True, "prompt_eval_count": 5, "eval_count": 5}
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_ollama_gets_its_context_through_litellm():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Ollama)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        one = request(model="ollama_chat/q")
        ask(url, one, provider=LiteLLM, options=LiteLLMOptions, extra_body={"num_ctx": 8192})
        assert server.received["options"]["num_ctx"] == 8192
    finally:
        server.shutdown()
        server.server_close()
