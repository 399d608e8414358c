from __future__ import annotations

import asyncio
import subprocess
import sys
import tracemalloc

import pytest
from loopback import Behaviour, LoopbackServer, fails, returns

from enhancer.contracts import Context, Message, Price, Request
from enhancer.errors import (
    AuthenticationError,
    ConfigError,
    ConnectionFailedError,
    DeadlineError,
    RateLimitError,
    RequestError,
    ServerError,
)
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions

KEY = "sk-proj-4bZ9q0aVerySecretKey77"
SCHEMA = {"type": "object", "properties": {"profile": {"type": "string", "minLength": 3}}, "required": ["profile"]}


def request(**more):
    return Request(**{"messages": (Message("user", "hi"),), "model": "m", "timeout": 10.0, **more})


def ask(url, *requests, **options):
    async def whole():
        provider = OpenAI(OpenAIOptions(api_base=url, **options), Context())
        try:
            return [await provider.complete(one) for one in requests or [request()]]
        finally:
            await provider.aclose()

    return asyncio.run(whole())


def test_what_is_sent(llm_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(llm_server.url, request(schema=SCHEMA, temperature=0.2, top_p=0.9, max_tokens=77, seed=3))
    (sent,) = llm_server.requests
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert sent.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.2,
        "top_p": 0.9,
        "max_tokens": 77,
        "seed": 3,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "profile",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"profile": {"type": "string"}},
                    "required": ["profile"],
                    "additionalProperties": False,
                },
            },
        },
    }


@pytest.mark.parametrize(("structured", "form"), [("json_object", {"type": "json_object"}), ("none", None)])
def test_weaker_forms_of_structure(llm_server, structured, form):
    ask(llm_server.url, request(schema=SCHEMA), structured=structured)
    assert llm_server.bodies[0].get("response_format") == form


def test_what_is_not_set_is_not_sent(llm_server):
    ask(llm_server.url, request(temperature=None))
    assert set(llm_server.bodies[0]) == {"model", "messages"}
    assert "authorization" not in llm_server.requests[0].headers


@pytest.mark.parametrize(
    ("asked", "sent"),
    [("openai/gpt-4o-mini", "gpt-4o-mini"), ("openai/gpt-oss-20b", "openai/gpt-oss-20b"), ("a/b", "a/b")],
)
def test_models_in_litellms_notation(llm_server, asked, sent):
    ask(llm_server.url, request(model=asked))
    assert llm_server.bodies[0]["model"] == sent


def test_what_comes_back(llm_server):
    llm_server.script.default = returns(
        "text", headers={"X-RateLimit-Remaining-Requests": "9", "X-Other": "1"}, finish_reason="length", cost=0.002
    )
    (done,) = ask(llm_server.url)
    assert (done.text, done.finish_reason, done.model) == ("text", "length", "m")
    assert (done.prompt_tokens, done.completion_tokens, done.cost_usd) == (1, 1, 0.002)
    assert done.headers == {"x-ratelimit-remaining-requests": "9"}


def test_without_usage_nothing_is_made_up(llm_server):
    llm_server.script.default = Behaviour(usage=False)
    (done,) = ask(llm_server.url)
    assert (done.prompt_tokens, done.completion_tokens, done.cost_usd) == (None, None, None)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (Behaviour(finish_reason="content_filter"), "content_filter"),
        (Behaviour(refusal="I will not"), "refusal"),
        (Behaviour(finish_reason=None), "other"),
    ],
)
def test_finish_reasons(llm_server, behaviour, reason):
    llm_server.script.default = behaviour
    (done,) = ask(llm_server.url)
    assert done.finish_reason == reason
    assert reason != "refusal" or done.text == "I will not"


@pytest.mark.parametrize("fault", ["gzip_bomb", "flood"])
def test_a_bomb_takes_no_memory(llm_server, fault):
    llm_server.script.default = Behaviour(fault=fault)
    llm_server.script.sequence = [Behaviour()]
    ask(llm_server.url)  # imports at first use must not count
    tracemalloc.start()
    try:
        with pytest.raises(ServerError, match="more than 8,388,608 bytes"):
            ask(llm_server.url)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * 1024 * 1024


@pytest.mark.parametrize("fault", ["truncated_json", "not_json", "empty_body", "no_choices", "not_object", "bad_utf8"])
def test_bodies_that_are_no_completion(llm_server, fault):
    llm_server.script.default = Behaviour(fault=fault)
    with pytest.raises(ServerError):
        ask(llm_server.url)
    assert llm_server.count == 1


def test_a_completion_that_is_whole_before_the_reset_counts(llm_server):
    llm_server.script.sequence = [Behaviour(fault="reset_after"), Behaviour()]

    async def whole():
        provider = OpenAI(OpenAIOptions(api_base=llm_server.url), Context())
        first = await provider.complete(request())
        await asyncio.sleep(0.1)  # the reset arrives while the connection is idle
        second = await provider.complete(request())
        await provider.aclose()
        return first, second

    first, second = asyncio.run(whole())
    assert first.text == second.text
    assert llm_server.count == 2


def test_a_redirect_does_not_take_the_key_elsewhere(llm_server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    llm_server.script.default = Behaviour(fault="redirect")
    with pytest.raises(RequestError, match="redirects to"):
        ask(llm_server.url)


@pytest.mark.parametrize(("code", "kind"), [(502, ServerError), ("", ServerError), (429, RateLimitError)])
def test_an_error_with_status_200(llm_server, code, kind):
    llm_server.script.default = Behaviour(fault="error_200", error={"message": "upstream is down", "code": code})
    with pytest.raises(kind, match="upstream is down"):
        ask(llm_server.url)


def test_no_quota_is_no_rate_limit(llm_server):
    llm_server.script.default = fails(429, "You exceeded your current quota", code="insufficient_quota")
    with pytest.raises(AuthenticationError, match="no quota is left"):
        ask(llm_server.url)


def test_nobody_listens():
    with LoopbackServer() as gone:
        url = gone.url
    with pytest.raises(ConnectionFailedError, match=r"the connection to http://127\.0\.0\.1"):
        ask(url)


def test_many_calls_share_connections(llm_server):
    llm_server.script.default = Behaviour(latency=0.05)

    async def whole():
        provider = OpenAI(OpenAIOptions(api_base=llm_server.url), Context())
        done = await asyncio.gather(*(provider.complete(request()) for _ in range(300)))
        await provider.aclose()
        return done

    assert len(asyncio.run(whole())) == 300
    assert llm_server.max_in_flight > 150


def test_the_deadline_may_pass_while_connecting():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)  # accepts the connection but never reads
        with pytest.raises(DeadlineError, match=r"within 0\.3 s"):
            ask(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", request(timeout=0.3))


def test_one_provider_is_for_one_loop(llm_server):
    provider = OpenAI(OpenAIOptions(api_base=llm_server.url), Context())

    async def use():
        return await provider.complete(request())

    runner = asyncio.new_event_loop()
    try:
        runner.run_until_complete(use())
        with pytest.raises(ConnectionFailedError, match="another event loop"):
            asyncio.run(use())
        runner.run_until_complete(provider.aclose())
    finally:
        runner.close()


class TestKeys:
    def make(self, **options):
        return OpenAI(OpenAIOptions(**options), Context())

    def test_a_missing_key_is_named(self):
        with pytest.raises(AuthenticationError, match="OPENAI_API_KEY is not set") as caught:
            self.make().check("gpt-4o-mini")
        assert caught.value.exit_code == 2
        with pytest.raises(AuthenticationError, match="export GATEWAY_KEY"):
            self.make(api_base="https://gateway.example.com/v1", api_key_env="GATEWAY_KEY").check("m")

    @pytest.mark.parametrize("base", ["http://127.0.0.1:1/v1", "http://localhost:1/v1", "http://gpu-box:8000/v1"])
    def test_a_local_server_wants_none(self, base):
        self.make(api_base=base).check("m")

    @pytest.mark.parametrize("key", ["sk-with\nbreak", "sk-schlüssel"])
    def test_a_key_that_cannot_be_one(self, monkeypatch, key):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(AuthenticationError, match="contains a character") as caught:
            self.make().check("m")
        assert key not in str(caught.value)

    def test_space_around_a_key_is_forgiven(self, monkeypatch, llm_server):
        monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
        ask(llm_server.url)
        assert llm_server.requests[0].headers["authorization"] == f"Bearer {KEY}"

    def test_the_base_url_may_come_from_the_environment(self, monkeypatch):
        assert self.make().endpoint == "https://api.openai.com/v1"
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1/")
        assert self.make().endpoint == "http://127.0.0.1:9/v1"
        assert self.make(api_base="http://localhost:1/v1").endpoint == "http://localhost:1/v1"

    @pytest.mark.parametrize(
        "base",
        ["http://user:pass@host/v1", "https://host/v1?key=abc", "host/v1", "ftp://host/v1", "http://", "http://h:x/v1"],
    )
    def test_a_base_url_that_is_none_or_holds_a_secret(self, base):
        with pytest.raises(ConfigError, match="api_base") as caught:
            self.make(api_base=base)
        assert "pass@" not in str(caught.value)
        assert "abc" not in str(caught.value)

    def test_an_empty_model(self):
        with pytest.raises(ConfigError, match="model is empty"):
            self.make(api_base="http://localhost:1/v1").check(" ")

    def test_a_key_in_a_completion_goes_no_further(self, monkeypatch, llm_server):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        llm_server.script.default = returns(f"your key is {KEY}")
        assert ask(llm_server.url)[0].text == "your key is [secret]"


def test_prices():
    provider = OpenAI(OpenAIOptions(api_base="http://localhost:1/v1"), Context())
    assert provider.price("gpt-4o-mini") == provider.price("openai/gpt-4o-mini-2024-07-18") == Price(0.15, 0.6, 0.075)
    assert provider.price("llama-3.1-8b-instruct") is None


def test_reasoning_models_get_no_sampling_parameters(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    provider = OpenAI(OpenAIOptions(), Context())
    payload = provider._payload(request(model="openai/gpt-5-mini", temperature=0.0, max_tokens=9))
    assert payload == {
        "model": "gpt-5-mini",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 9,
    }
    assert provider._payload(request(model="gpt-4o-mini"))["temperature"] == 0.0


def test_how_the_schema_is_asked_for_is_in_the_cache_key_only_where_it_is_not_the_default():
    def sampling(**options):
        return OpenAI(OpenAIOptions(api_base="http://127.0.0.1:1/v1", **options), Context()).sampling

    assert sampling() == sampling(structured="json_schema") == {}, "older keys hold"
    assert sampling(structured="none") == {"structured": "none"}
    assert sampling(structured="json_object", max_body=10_000) == {"structured": "json_object"}


def test_a_process_may_end_right_after_its_last_answer(llm_server):
    code = f"""
import asyncio
from enhancer.contracts import Context, Message, Request
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions

async def ask():
    provider = OpenAI(OpenAIOptions(api_base={llm_server.url!r}), Context())
    request = Request(messages=(Message("user", "hi"),), model="m")
    await asyncio.gather(*(provider.complete(request) for _ in range(8)))
    await provider.aclose()

asyncio.run(ask())
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
