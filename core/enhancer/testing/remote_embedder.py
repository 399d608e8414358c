"""Tests for every remote embedder, beside those of :class:`~enhancer.testing.embedder.EmbedderConformance`.

::

    from enhancer.testing.remote_embedder import RemoteEmbedderConformance

    class TestMine(RemoteEmbedderConformance):
        @pytest.fixture
        def make_embedder(self, my_server):
            return lambda: Mine(MineOptions(api_base=my_server.url), Context())

        @pytest.fixture
        def endpoint(self, my_server):
            return MyEndpoint(my_server)
"""

# ruff: noqa: D102 - the name of a test states the requirement

from __future__ import annotations

import asyncio
import math
import traceback
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import pytest

from enhancer.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ProviderError,
    RateLimitError,
    RequestError,
    ServerError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from enhancer.contracts import Embeddings, RemoteEmbedder

TEXTS = (
    "A toy cowboy is jealous of a spaceman.",
    "",
    "   ",
    "Слон и 映画 — ünïcödé 🎬",
    "Two detectives hunt a murderer through the rain.",
)


class EmbeddingEndpoint(Protocol):
    """Server for the embedder under test, with faults that tests can switch on."""

    @property
    def count(self) -> int:
        """Number of requests received."""

    def answer_well(self) -> None:
        """Answer with vectors from now on, and reset the count."""

    def fail(self, status: int, message: str, headers: Mapping[str, str]) -> None:
        """Answer every request with this HTTP error."""

    def answer(self, body: str) -> None:
        """Answer every request with status 200 and this body."""

    def close(self) -> None:
        """End the server."""


class RemoteEmbedderConformance:
    """Base class of tests of remote embedders; override the fixtures."""

    secret: ClassVar[str] = ""
    """API key of the embedder, if it has one."""

    @pytest.fixture
    def make_embedder(self) -> Callable[[], RemoteEmbedder]:
        """Return a function that creates an embedder. To be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture make_embedder", pytrace=False)

    @pytest.fixture
    def endpoint(self) -> EmbeddingEndpoint:
        """Return the server. To be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture endpoint", pytrace=False)

    def use(
        self,
        make_embedder: Callable[[], RemoteEmbedder],
        act: Callable[[RemoteEmbedder], Awaitable[Embeddings]],
    ) -> Embeddings:
        """Call ``act`` with a new embedder in a new event loop, and close the embedder."""

        async def whole() -> Embeddings:
            embedder = make_embedder()
            try:
                return await act(embedder)
            finally:
                await embedder.aclose()

        return asyncio.run(whole())

    def embed(self, make_embedder: Callable[[], RemoteEmbedder], texts: Sequence[str] = TEXTS) -> Embeddings:
        """Return the answer to one request of a new embedder."""
        return self.use(make_embedder, lambda embedder: embedder.embed(texts))

    def test_rows_are_float32_of_unit_length(
        self, make_embedder: Callable[[], RemoteEmbedder], endpoint: EmbeddingEndpoint
    ) -> None:
        endpoint.answer_well()
        table = self.embed(make_embedder).vectors
        assert table.dtype == np.float32
        assert len(table) == len(TEXTS)
        np.testing.assert_allclose(np.linalg.norm(table, axis=1), 1, atol=1e-5)
        assert endpoint.count == 1

    def test_rows_are_in_the_order_of_the_texts(
        self, make_embedder: Callable[[], RemoteEmbedder], endpoint: EmbeddingEndpoint
    ) -> None:
        endpoint.answer_well()
        there = self.embed(make_embedder).vectors
        back = self.embed(make_embedder, TEXTS[::-1]).vectors
        np.testing.assert_allclose(back[::-1], there, atol=1e-4)

    def test_encode_needs_no_harness_and_works_in_a_running_loop(
        self, make_embedder: Callable[[], RemoteEmbedder], endpoint: EmbeddingEndpoint
    ) -> None:
        endpoint.answer_well()
        embedder = make_embedder()

        async def inside() -> None:
            texts = [*TEXTS] * (2 + embedder.max_texts // len(TEXTS))
            table = embedder.encode(texts)
            assert table.shape == (len(texts), embedder.dim)

        asyncio.run(inside())
        assert embedder.encode([]).shape == (0, embedder.dim)

    def test_one_instance_serves_one_event_loop_after_another(
        self, make_embedder: Callable[[], RemoteEmbedder], endpoint: EmbeddingEndpoint
    ) -> None:
        endpoint.answer_well()
        embedder = make_embedder()
        first, second = (self.use(lambda: embedder, lambda one: one.embed(TEXTS)) for _ in range(2))
        np.testing.assert_allclose(first.vectors, second.vectors, atol=1e-4)

    def test_tokens_are_positive_or_unknown(
        self, make_embedder: Callable[[], RemoteEmbedder], endpoint: EmbeddingEndpoint
    ) -> None:
        endpoint.answer_well()
        answer = self.embed(make_embedder)
        assert answer.tokens is None or answer.tokens > 0
        assert answer.cost_usd is None or (math.isfinite(answer.cost_usd) and answer.cost_usd >= 0)

    def test_price_and_fingerprint_need_no_server(
        self, make_embedder: Callable[[], RemoteEmbedder], endpoint: EmbeddingEndpoint
    ) -> None:
        endpoint.answer_well()
        embedder = make_embedder()
        price = embedder.price()
        assert price is None or price > 0
        assert embedder.fingerprint == make_embedder().fingerprint
        assert "\n" not in embedder.fingerprint
        assert embedder.max_texts >= 1
        assert endpoint.count == 0

    @pytest.mark.parametrize(
        ("status", "expected"),
        [
            (400, RequestError),
            (401, AuthenticationError),
            (404, RequestError),
            (422, RequestError),
            (429, RateLimitError),
            (500, ServerError),
            (503, ServerError),
        ],
    )
    def test_each_status_has_its_error_and_is_not_retried(
        self,
        make_embedder: Callable[[], RemoteEmbedder],
        endpoint: EmbeddingEndpoint,
        status: int,
        expected: type[ProviderError],
    ) -> None:
        endpoint.answer_well()
        endpoint.fail(status, "no", {"Retry-After": "7"} if status in (429, 503) else {})
        with pytest.raises(expected) as caught:
            self.embed(make_embedder)
        assert caught.value.status == status
        if status in (429, 503):
            assert caught.value.retry_after == pytest.approx(7)
        assert endpoint.count == 1

    @pytest.mark.parametrize("body", ["", "<html>", "[1]", '{"data": []}', '{"data": [{"embedding": "!"}]}', "{}"])
    def test_a_response_without_vectors_is_an_error_of_the_server(
        self, make_embedder: Callable[[], RemoteEmbedder], endpoint: EmbeddingEndpoint, body: str
    ) -> None:
        endpoint.answer(body)
        with pytest.raises(ServerError):
            self.embed(make_embedder)

    def test_a_dead_server_is_a_failed_connection(
        self, make_embedder: Callable[[], RemoteEmbedder], endpoint: EmbeddingEndpoint
    ) -> None:
        embedder = make_embedder()
        endpoint.close()
        with pytest.raises(ConnectionFailedError):
            self.embed(lambda: embedder)

    def test_no_error_tells_the_key(
        self, make_embedder: Callable[[], RemoteEmbedder], endpoint: EmbeddingEndpoint
    ) -> None:
        if not self.secret:
            pytest.skip("this embedder has no key")
        endpoint.fail(401, f"wrong key {self.secret}", {})
        with pytest.raises(AuthenticationError) as caught:
            self.embed(make_embedder)
        assert self.secret not in "".join(traceback.format_exception(caught.value))
