from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from loopback import Behaviour, LoopbackServer, fails, returns
from provider_dialects import DIALECTS, Interpreter

from enhancer.contracts import Context, Message, Price, Request
from enhancer.errors import AuthenticationError, ConfigError, ConnectionFailedError, ServerError
from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions

KEY = "sk-proj-4bZ9q0aVerySecretKey77"
SCHEMA = {"type": "object", "properties": {"profile": {"type": "string", "minLength": 3}}, "required": ["profile"]}


def make(url=None, **options):
    return LiteLLM(LiteLLMOptions(api_base=url, **options), Context())


def ask(url, model="openai/m", **more):
    async def whole():
        provider = make(url)
        try:
            return await provider.complete(
                Request(messages=(Message("user", "hi"),), model=model, timeout=10.0, **more)
            )
        finally:
            await provider.aclose()

    return asyncio.run(whole())


def test_what_is_sent_to_a_local_server(llm_server):
    ask(llm_server.url, schema=SCHEMA, temperature=0.0, max_tokens=50)
    (sent,) = llm_server.requests
    assert sent.headers["authorization"] == "Bearer none"
    assert sent.body["model"] == "m"
    assert sent.body["temperature"] == 0.0
    assert sent.body["max_tokens"] == 50
    assert sent.body["response_format"]["json_schema"]["strict"] is True
    assert sent.body["response_format"]["json_schema"]["schema"]["additionalProperties"] is False


def test_the_key_comes_from_the_environment(llm_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(llm_server.url)
    assert llm_server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_bare_name_at_ones_own_endpoint_speaks_openai(llm_server):
    ask(llm_server.url, model="my-local-model")
    assert llm_server.bodies[0]["model"] == "my-local-model"


def test_what_comes_back(llm_server):
    llm_server.script.default = returns(
        "text", headers={"X-RateLimit-Remaining-Requests": "9", "X-Other": "1"}, finish_reason="length"
    )
    done = ask(llm_server.url)
    assert (done.text, done.finish_reason, done.prompt_tokens, done.cost_usd) == ("text", "length", 1, None)
    assert done.headers == {"x-ratelimit-remaining-requests": "9"}


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(Behaviour(finish_reason="content_filter"), "content_filter"), (Behaviour(refusal="I will not"), "refusal")],
)
def test_refusals(llm_server, behaviour, reason):
    llm_server.script.default = behaviour
    assert ask(llm_server.url).finish_reason == reason


def test_answers_that_are_none(llm_server):
    llm_server.script.default = Behaviour(fault="no_choices")
    with pytest.raises(ServerError):
        ask(llm_server.url)


def test_no_quota_is_no_rate_limit(llm_server):
    llm_server.script.default = fails(429, "You exceeded your current quota", code="insufficient_quota")
    with pytest.raises(AuthenticationError, match="no quota is left"):
        ask(llm_server.url)


def test_nobody_listens():
    with LoopbackServer() as gone:
        url = gone.url
    with pytest.raises(ConnectionFailedError):
        ask(url)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai/gpt-4o-mini", "OPENAI_API_KEY"),
        ("anthropic/claude-3-5-haiku-latest", "ANTHROPIC_API_KEY"),
        ("gemini/gemini-2.0-flash", "GEMINI_API_KEY"),
    ],
)
def test_a_missing_key_is_named(model, name):
    with pytest.raises(AuthenticationError, match=rf"{name}.*is not set") as caught:
        make().check(model)
    assert caught.value.exit_code == 2


def test_a_key_that_is_there_is_enough(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-abcdefgh1234")
    make().check("anthropic/claude-3-5-haiku-latest")
    make("http://127.0.0.1:1/v1").check("openai/whatever")


def test_a_provider_that_nobody_knows():
    with pytest.raises(ConfigError, match=r"'antropic/x' has no provider.*did you mean 'anthropic'"):
        make().check("antropic/x")
    with pytest.raises(ConfigError, match="provider/model"):
        make().check("zzzz")


def test_prices_are_known_or_none():
    provider = make()
    assert provider.price("openai/gpt-4o-mini") == Price(0.15, 0.6, 0.075)
    haiku = provider.price("anthropic/claude-haiku-4-5")
    assert haiku is not None
    assert 0 < haiku.input < haiku.output
    assert provider.price("ollama/llama3") is None  # a price of 0 in the map means unknown
    assert provider.price("openai/no-such-model") is None


def test_two_providers_on_one_loop_close_apart(llm_server):
    async def whole():
        one, two = make(llm_server.url), make(llm_server.url)
        request = Request(messages=(Message("user", "hi"),), model="openai/m")
        await one.complete(request)
        await two.complete(request)
        await one.aclose()
        await two.complete(request)
        await two.aclose()

    asyncio.run(whole())
    assert llm_server.count == 3


def test_the_library_is_imported_late_and_fetches_nothing():
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from enhancer.contracts import Context\n"
        "from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions\n"
        "p = LiteLLM(LiteLLMOptions(), Context())\n"
        "assert p.price('openai/gpt-4o-mini'); assert 'litellm' not in sys.modules\n"
        "assert p.price('openai/none-such') is None; assert 'litellm' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_first_response_of_a_provider_prints_no_warning(monkeypatch):
    monkeypatch.setenv("COHERE_API_KEY", KEY)
    interpreter = Interpreter()
    (cohere,) = [dialect for dialect in DIALECTS if dialect.name == "cohere_chat"]
    code = (
        "import asyncio, sys\n"
        "from enhancer.contracts import Context, Message, Request\n"
        "from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions\n"
        "async def ask():\n"
        "    p = LiteLLM(LiteLLMOptions(api_base=sys.argv[1]), Context())\n"
        "    await p.complete(Request(messages=(Message('user', 'hi'),), model=sys.argv[2]))\n"
        "    await p.aclose()\n"
        "asyncio.run(ask())\n"
    )
    with LoopbackServer(add_routes=interpreter.add_routes) as server:
        interpreter.reply = cohere.reply("COMPLETE")
        base = server.url.removesuffix("/v1") + "/x"
        done = subprocess.run(
            [sys.executable, "-c", code, base, cohere.model], capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_how_the_schema_is_asked_for_is_in_the_cache_key_only_where_it_is_not_the_default():
    assert make().sampling == make(structured="json_schema", drop_params=True).sampling == {}, "older keys hold"
    assert make(structured="none").sampling == {"structured": "none"}
