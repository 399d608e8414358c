"""Batch API of ``openai``: the conformance suite, and tests of its own."""

from __future__ import annotations

import asyncio
import json

import pytest
from loopback import LoopbackServer
from loopback_batch import LoopbackBatches, Plan
from pydantic import ValidationError

from enhancer.contracts import Context, OffersBatches
from enhancer.errors import ServerError
from enhancer.testing.batch import BatchConformance
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions
from enhancer_plugins.llm.replay import Replay
from enhancer_plugins.network.batch_connection import read_lines

KEY = "sk-proj-4bZ9q0aVerySecretKey77"


@pytest.fixture
def batches():
    return LoopbackBatches(default=Plan(polls=1))


@pytest.fixture
def server(batches, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with LoopbackServer(add_routes=batches.add_routes) as running:
        yield running


class TestOpenAI(BatchConformance):
    model = "loopback-model"
    secret = KEY

    @pytest.fixture
    def make_provider(self, server):
        return lambda: OpenAI(OpenAIOptions(api_base=server.url), Context())


def test_only_those_that_have_it_offer_it():
    assert issubclass(OpenAI, OffersBatches)
    assert not issubclass(Replay, OffersBatches)


def test_a_token_is_looked_for_on_every_page(server, batches, monkeypatch, tmp_path):
    monkeypatch.setattr("enhancer_plugins.network.openai_batches._PAGE", 2)

    async def act():
        provider = OpenAI(OpenAIOptions(api_base=server.url), Context())
        offline = provider.batches("loopback-model")
        (tmp_path / "r.jsonl").write_bytes(offline.line("a", TestOpenAI().entity_request("a")))
        upload = await offline.upload(tmp_path / "r.jsonl")
        for n in range(5):
            await offline.create(upload, f"token{n}")
        found = [(await offline.find(f"token{n}")).id for n in range(5)]
        await provider.aclose()
        return found

    assert asyncio.run(act()) == [f"batch_{n}" for n in range(5)]
    assert batches.keys == {f"Bearer {KEY}"}


@pytest.mark.parametrize("told", [{}, {"id": "../x", "status": "completed"}, {"id": "b"}, {"id": 3, "status": "x"}])
def test_a_job_that_is_none_is_a_fault_of_the_server(server, batches, monkeypatch, told):
    monkeypatch.setattr(batches, "_job_json", lambda _: told)

    async def act():
        provider = OpenAI(OpenAIOptions(api_base=server.url), Context())
        batches.files["f"] = b"{}"
        try:
            await provider.batches("loopback-model").create("f", "token")
        finally:
            await provider.aclose()

    with pytest.raises(ServerError):
        asyncio.run(act())


def test_lines_of_absurd_length_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("enhancer_plugins.network.batch_connection._MAX_LINE_BYTES", 16)
    file = tmp_path / "f"
    file.write_bytes(b"one\n\n" + b"x" * 40 + b"\ntwo\n" + b"y" * 16 + b"\nthree")
    with file.open("rb") as lines:
        assert [line.strip() for line in read_lines(lines)] == [b"one", b"two", b"three"]


def test_each_line_asks_what_a_direct_call_would_post(server):
    provider = OpenAI(OpenAIOptions(api_base=server.url), Context())
    request = TestOpenAI().entity_request("x")
    line = json.loads(provider.batches("loopback-model").line("id-1", request))
    asyncio.run(_complete(provider, request))
    assert line["body"] == server.bodies[0]
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")


class TestAzure(BatchConformance):
    model = "my-deployment"
    secret = KEY

    @pytest.fixture
    def make_provider(self, server, batches):
        batches.endpoint = "/chat/completions"
        return lambda: OpenAI(OpenAIOptions(api_base=server.url, batch_endpoint="/chat/completions"), Context())


def test_the_name_of_the_endpoint_is_a_path_and_no_part_of_cache_keys():
    with pytest.raises(ValidationError):
        OpenAIOptions(batch_endpoint="chat completions")
    azure = OpenAI(OpenAIOptions(batch_endpoint="/chat/completions"), Context())
    assert azure.sampling == OpenAI(OpenAIOptions(), Context()).sampling


async def _complete(provider, request):
    await provider.complete(request)
    await provider.aclose()
