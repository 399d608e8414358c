"""Embeddings of the OpenAI protocol, against a server on 127.0.0.1."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from loopback_batch import Plan
from loopback_embeddings import EmbeddingServer, embedding, embedding_server

from enhancer.contracts import Context, Embeddings
from enhancer.contracts.options import build_options
from enhancer.errors import AuthenticationError, ConfigError, ServerError
from enhancer.testing.batch import EmbeddingBatchConformance
from enhancer.testing.remote_embedder import RemoteEmbedderConformance
from enhancer_plugins.embedders import openai
from enhancer_plugins.embedders.openai import OpenAI, OpenAIOptions
from enhancer_plugins.network import wire

KEY = "sk-embeddings-0123456789abcdef"


@pytest.fixture
def server(monkeypatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with embedding_server() as running:
        yield running


def made(running: EmbeddingServer | None = None, **options: Any) -> OpenAI:
    base = {} if running is None else {"api_base": running.url}
    return OpenAI(build_options(OpenAIOptions, {**base, **options}, where="[embedder]"), Context())


def embedded(embedder: OpenAI, *texts: str) -> Embeddings:
    async def whole() -> Embeddings:
        try:
            return await embedder.embed(texts)
        finally:
            await embedder.aclose()

    return asyncio.run(whole())


class Endpoint:
    def __init__(self, server: EmbeddingServer) -> None:
        self._server = server

    @property
    def count(self) -> int:
        return len(self._server.bodies)

    def answer_well(self) -> None:
        self._server.choose = None
        self._server.bodies.clear()

    def fail(self, status: int, message: str, headers: dict[str, str]) -> None:
        self._server.choose = lambda *_: (status, headers, {"error": {"message": message}})

    def answer(self, body: str) -> None:
        self._server.raw = body

    def close(self) -> None:
        self._server.chat.close()


class TestConformance(RemoteEmbedderConformance):
    secret = KEY

    @pytest.fixture
    def make_embedder(self, server):
        return lambda: made(server)

    @pytest.fixture
    def endpoint(self, server):
        return Endpoint(server)


class TestBatches(EmbeddingBatchConformance):
    secret = KEY

    @pytest.fixture
    def make_embedder(self, server):
        server.batches.default = Plan(polls=1)
        return lambda: made(server)


def test_each_line_asks_what_a_direct_request_would_post(server):
    embedder = made(server, dimensions=8, prefix="passage: ", extra_body={"user": "u"})
    line = json.loads(embedder.batches().line("id-1", "a film"))
    embedded(embedder, "a film")
    assert line == {"custom_id": "id-1", "method": "POST", "url": "/v1/embeddings", "body": server.bodies[0]}


def test_the_endpoint_of_jobs_is_no_part_of_a_fingerprint():
    azure = made(batch_endpoint="/embeddings")
    assert azure.fingerprint == made().fingerprint
    assert json.loads(azure.batches().line("a", "text"))["url"] == "/embeddings"
    with pytest.raises(ConfigError):
        made(batch_endpoint="no path")


def unit(text: str, dim: int = 16) -> np.ndarray:
    row = embedding(text, dim)
    return row / np.linalg.norm(row)


@pytest.mark.parametrize("encoding", ["auto", "base64", "float"])
def test_vectors_are_those_of_the_server(server, encoding):
    texts = ["green tea", "motor oil and more"]
    answer = embedded(made(server, encoding=encoding), *texts)
    np.testing.assert_allclose(answer.vectors, [unit(text) for text in texts], rtol=1e-6)
    assert answer.tokens == 6
    assert server.bodies[0]["encoding_format"] == ("float" if encoding == "float" else "base64")
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


@pytest.fixture(params=["pybase64", "binascii"])
def decoder(request, monkeypatch):
    """The decoder of base64, with pybase64 or without it."""
    if request.param == "pybase64":
        pytest.importorskip("pybase64")
    else:
        monkeypatch.setitem(sys.modules, "pybase64", None)
    openai._base64_decoder.cache_clear()
    yield
    openai._base64_decoder.cache_clear()


def test_base64_is_decoded_strictly_by_any_decoder(server, decoder):
    np.testing.assert_allclose(embedded(made(server), "a b").vectors[0], unit("a b"), rtol=1e-6)
    for damaged in ("AAAA\n", "AAA", "AA=A", "AAA*", "ÄAAA", "AAAA===="):
        data = {"data": [{"index": 0, "embedding": damaged}]}
        server.choose = lambda *_, data=data: (200, {}, data)
        with pytest.raises(ServerError):
            embedded(made(server), "a")


def test_a_server_that_ignores_base64_sends_numbers(server):
    server.base64 = False
    np.testing.assert_allclose(embedded(made(server), "a b").vectors[0], unit("a b"), rtol=1e-6)


def test_a_server_that_refuses_base64_is_asked_for_numbers_from_then_on(server):
    server.choose = lambda _, body: (
        (400, {}, {"error": {"message": "unknown field encoding_format"}})
        if body.get("encoding_format") == "base64"
        else None
    )
    embedder = made(server)
    np.testing.assert_allclose(embedded(embedder, "a").vectors[0], unit("a"), rtol=1e-6)
    embedded(embedder, "b")
    assert [body.get("encoding_format") for body in server.bodies] == ["base64", None, None]


def test_vectors_are_assigned_by_index(server):
    def shuffled(_: int, body: dict[str, Any]) -> Any:
        status, headers, data = server.answer(body)
        return status, headers, {**data, "data": data["data"][::-1]}

    server.choose = shuffled
    np.testing.assert_allclose(embedded(made(server), "a", "b c").vectors, [unit("a"), unit("b c")], rtol=1e-6)


def test_options_reach_the_server_and_the_fingerprint(server, monkeypatch):
    monkeypatch.setenv("GATEWAY", "gateway-secret-1")
    options = {
        "model": "openai/m",
        "dimensions": 4,
        "prefix": "passage: ",
        "extra_body": {"input_type": "document"},
        "headers": {"X-Gateway": "token ${GATEWAY}"},
    }
    embedder = made(server, **options)
    assert embedded(embedder, "a").vectors.shape == (1, 4)
    assert server.bodies[0]["model"] == "m"
    assert server.bodies[0]["input"] == ["passage: a"]
    assert server.bodies[0]["input_type"] == "document"
    assert server.headers[0]["x-gateway"] == "token gateway-secret-1"
    assert "secret" not in embedder.fingerprint
    plain = {"model": "m"}
    prints = {made(server, **plain).fingerprint, embedder.fingerprint}
    for name in ("dimensions", "prefix", "extra_body"):
        prints.add(made(server, **plain, **{name: options[name]}).fingerprint)
    prints.add(made(server, **plain, max_text=10).fingerprint)
    assert len(prints) == 6
    same = [made(server, **plain, batch_size=3), made(server, **plain, encoding="float")]
    assert {one.fingerprint for one in same} == {made(server, **plain).fingerprint}


def test_a_named_server_may_move(server):
    assert made(server, server="tei").fingerprint == made(api_base="http://10.0.0.7/v1", server="tei").fingerprint


def test_long_texts_are_cut(server):
    embedded(made(server, max_text=7), "a b c d e f")
    assert server.texts == ["a b c d"]


@pytest.mark.parametrize(("fault", "zero"), [("nan", False), ("null", False), ("zero", True)])
def test_a_row_that_is_no_vector_leaves_the_others_alone(server, fault, zero):
    server.bad["cursed"] = fault
    table = embedded(made(server, encoding="float"), "a", "cursed b", "c").vectors
    np.testing.assert_allclose(table[[0, 2]], [unit("a"), unit("c")], rtol=1e-6)
    assert (table[1] == 0).all() if zero else np.isnan(table[1]).all()


def test_a_key_is_needed_away_from_home(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(AuthenticationError, match="OPENAI_API_KEY is not set"):
        made().check()
    made(api_base="http://127.0.0.1:9/v1").check()
    with pytest.raises(AuthenticationError, match="GATEWAY"):
        made(api_base="http://127.0.0.1:9/v1", headers={"X": "${GATEWAY}"}).check()


def test_prices_and_widths_of_the_models_of_openai():
    assert made().price() == pytest.approx(0.02)
    assert made(model="text-embedding-3-large").price() == pytest.approx(0.13)
    assert made(model="bge-m3", api_base="http://127.0.0.1:9/v1").price() is None
    assert made(model="text-embedding-3-large").dim == 3072
    assert made(dimensions=256).dim == 256


def test_a_wrong_address_names_the_embedder():
    with pytest.raises(ConfigError, match=r"\[embedder\] api_base"):
        made(api_base="nonsense")


def test_the_payload_is_json_with_lone_surrogates(server):
    embedded(made(server), "a \ud800 b")
    assert json.loads(json.dumps(server.texts)) == ["a \ud800 b"]


@pytest.mark.parametrize("library", ["orjson", "json"])
def test_any_text_can_be_sent(server, monkeypatch, library):
    if library == "json":
        monkeypatch.setitem(sys.modules, "orjson", None)
    wire._fast_dumps.cache_clear()
    try:
        texts = ["Amélie \U0001f3ac", 'a "quoted" \\ text\n\x00', "lone \ud800 surrogate"]
        embedded(made(server), *texts)
    finally:
        wire._fast_dumps.cache_clear()
    assert server.texts == texts
