"""Embeddings through LiteLLM, against a server on 127.0.0.1."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from loopback_embeddings import EmbeddingServer, embedding, embedding_server

from enhancer.contracts import Context, Embeddings
from enhancer.contracts.options import build_options
from enhancer.errors import AuthenticationError, ConfigError
from enhancer.testing.remote_embedder import RemoteEmbedderConformance
from enhancer_plugins.embedders.litellm import LiteLLM, LiteLLMOptions

KEY = "sk-embeddings-0123456789abcdef"


@pytest.fixture
def server(monkeypatch) -> Iterator[EmbeddingServer]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with embedding_server() as running:
        yield running


def made(running: EmbeddingServer | None = None, **options: Any) -> LiteLLM:
    base = {} if running is None else {"api_base": running.url}
    return LiteLLM(build_options(LiteLLMOptions, {**base, **options}, where="[embedder]"), Context())


def embedded(embedder: LiteLLM, *texts: str) -> Embeddings:
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


def test_vectors_tokens_and_cost_are_told(server):
    answer = embedded(made(server), "green tea", "motor oil and more")
    rows = np.stack([embedding(text) for text in ("green tea", "motor oil and more")])
    np.testing.assert_allclose(answer.vectors, rows / np.linalg.norm(rows, axis=1, keepdims=True), rtol=1e-5)
    assert answer.tokens == 6
    assert answer.cost_usd == pytest.approx(6 * 0.02e-6)


def test_the_protocol_of_another_provider(server, monkeypatch):
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-voyage-0123456789")
    embedder = made(model="voyage/voyage-3", api_base=f"{server.url}/embeddings", prefix="p: ")
    assert embedded(embedder, "a").vectors.shape == (1, 16)
    assert server.bodies[0] == {"model": "voyage-3", "input": ["p: a"]}
    assert server.headers[0]["authorization"] == "Bearer pa-voyage-0123456789"
    assert embedder.price() == pytest.approx(0.06)


def test_a_missing_key_and_an_unknown_provider_are_told(monkeypatch):
    monkeypatch.delenv("VOYAGE_API_KEY", raising=False)
    with pytest.raises(AuthenticationError, match="VOYAGE_API_KEY"):
        made(model="voyage/voyage-3").check()
    with pytest.raises(ConfigError, match=r"\[embedder\] model: 'nobody/knows'"):
        made(model="nobody/knows").check()


def test_dimensions_that_the_model_ignores_are_told(server):
    server.choose = lambda _, body: server.answer({**body, "dimensions": 16})
    with pytest.raises(ConfigError, match="makes vectors of 16 numbers"):
        embedded(made(server, dimensions=8), "a")


def test_the_fingerprint_covers_what_shapes_a_vector():
    options = [
        {},
        {"dimensions": 8},
        {"prefix": "p"},
        {"extra_body": {"input_type": "x"}},
        {"model": "voyage/voyage-3"},
    ]
    assert len({made(**one).fingerprint for one in options}) == len(options)
    assert made(batch_size=3).fingerprint == made().fingerprint
