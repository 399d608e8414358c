"""Tests for batch APIs, of LLM providers and of remote embedders.

Subclass :class:`BatchConformance` or :class:`EmbeddingBatchConformance` in a test module that pytest collects. The
tests need a server, or an imitation of one, that completes jobs within ``seconds``.
"""

# ruff: noqa: D102 - the name of a test states the requirement

from __future__ import annotations

import asyncio
import json
import re
import uuid
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
import pytest

from enhancer.contracts import (
    BatchClient,
    BatchProvider,
    Completion,
    Embeddings,
    JobStatus,
    LLMProvider,
    Message,
    OffersBatches,
    OffersEmbeddingBatches,
    RemoteEmbedder,
    Request,
)
from enhancer.errors import RequestError
from enhancer.testing.llm import PROFILE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

O = TypeVar("O", LLMProvider, RemoteEmbedder)  # noqa: E741 - the owner of a batch API


class _BatchSuite(Generic[O]):
    """Tests of the batch API of an owner, an LLM provider or an embedder."""

    secret: ClassVar[str] = ""
    """API key, if there is one."""
    seconds: ClassVar[float] = 20.0
    """Time limit for one job."""

    def client(self, owner: O) -> BatchClient[Any, Any]:
        """Return the batch API."""
        raise NotImplementedError

    def asked(self, subject: str) -> Any:
        """Return a request about a subject."""
        raise NotImplementedError

    async def direct(self, owner: O, subject: str) -> Any:
        """Return the answer to the same request outside batch jobs."""
        raise NotImplementedError

    def check(self, answer: Any) -> None:
        """Assert that an answer is valid."""
        raise NotImplementedError

    def same(self, one: Any, other: Any) -> bool:
        """Compare two answers."""
        raise NotImplementedError

    def use(self, make_owner: Callable[[], O], act: Callable[[O, Any], Awaitable[None]]) -> None:
        """Call ``act`` with a new owner and its batch API in a new event loop, and close the owner."""

        async def whole() -> None:
            owner = make_owner()
            try:
                await act(owner, self.client(owner))
            finally:
                await owner.aclose()

        asyncio.run(whole())

    async def submit(self, batches: BatchClient[Any, Any], folder: Path, ids: list[str], token: str) -> JobStatus:
        """Create a job with one request for each id, and return its status."""
        file = folder / "requests.jsonl"
        file.write_bytes(b"".join(batches.line(id_, self.asked(id_)) for id_ in ids))
        return await batches.create(await batches.upload(file), token)

    async def wait(self, batches: BatchClient[Any, Any], job_id: str) -> JobStatus:
        """Wait until a job has ended, and return its status."""
        async with asyncio.timeout(self.seconds):
            while (status := await batches.poll(job_id)).state == "running":  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)
        return status

    def test_a_line_is_one_line_and_holds_its_id_and_no_secret(self, make_owner: Callable[[], O]) -> None:
        async def act(_: O, batches: BatchClient[Any, Any]) -> None:
            line = batches.line("abc-7", self.asked("a\nb\u2028c"))
            assert line.endswith(b"\n")
            assert len(line.splitlines()) == 1
            assert "abc-7" in json.dumps(json.loads(line))
            assert not self.secret or self.secret.encode() not in line

        self.use(make_owner, act)

    def test_every_request_is_answered_under_its_id(self, make_owner: Callable[[], O], tmp_path: Path) -> None:
        async def act(_: O, batches: BatchClient[Any, Any]) -> None:
            ids = [f"{uuid.uuid4().hex}-{n}" for n in range(5)]
            created = await self.submit(batches, tmp_path, ids, uuid.uuid4().hex)
            assert re.fullmatch(r"\S+", created.id)
            status = await self.wait(batches, created.id)
            assert (status.id, status.state) == (created.id, "completed")
            folder = tmp_path / "results"
            folder.mkdir()
            found = {custom_id: result async for custom_id, result in batches.fetch(status, folder)}
            assert set(found) == set(ids)
            for result in found.values():
                self.check(result)
            assert not list(folder.iterdir()), "fetch() left a file behind"

        self.use(make_owner, act)

    def test_what_is_asked_is_what_a_direct_call_asks(self, make_owner: Callable[[], O], tmp_path: Path) -> None:
        """For a deterministic server, direct calls and batch jobs give the same answers."""

        async def act(owner: O, batches: BatchClient[Any, Any]) -> None:
            status = await self.wait(batches, (await self.submit(batches, tmp_path, ["one"], uuid.uuid4().hex)).id)
            (found,) = [result async for _, result in batches.fetch(status, tmp_path)]
            self.check(found)
            assert self.same(found, await self.direct(owner, "one"))

        self.use(make_owner, act)

    def test_a_job_is_found_by_its_token_and_no_other_is(self, make_owner: Callable[[], O], tmp_path: Path) -> None:
        async def act(_: O, batches: BatchClient[Any, Any]) -> None:
            token = uuid.uuid4().hex
            try:
                assert await batches.find(token) is None
            except RequestError:
                pytest.skip("this provider does not support find()")
            created = await self.submit(batches, tmp_path, ["a"], token)
            await self.submit(batches, tmp_path, ["b"], uuid.uuid4().hex)
            found = await batches.find(token)
            assert found is not None
            assert found.id == created.id
            assert await batches.find(uuid.uuid4().hex) is None

        self.use(make_owner, act)

    def test_an_unknown_job_is_a_refusal(self, make_owner: Callable[[], O]) -> None:
        async def act(_: O, batches: BatchClient[Any, Any]) -> None:
            with pytest.raises(RequestError) as caught:
                await batches.poll("batch_no_such_job")
            assert caught.value.status == 404
            assert not self.secret or self.secret not in str(caught.value)

        self.use(make_owner, act)

    def test_results_can_be_fetched_twice(self, make_owner: Callable[[], O], tmp_path: Path) -> None:
        async def act(_: O, batches: BatchClient[Any, Any]) -> None:
            status = await self.wait(batches, (await self.submit(batches, tmp_path, ["x"], uuid.uuid4().hex)).id)
            for _again in range(2):
                assert [custom_id async for custom_id, _ in batches.fetch(status, tmp_path)] == ["x"]

        self.use(make_owner, act)

    def test_limits_are_limits(self, make_owner: Callable[[], O]) -> None:
        async def act(_: O, batches: BatchClient[Any, Any]) -> None:
            assert batches.max_requests >= 1
            assert batches.max_bytes >= 1

        self.use(make_owner, act)


class BatchConformance(_BatchSuite[LLMProvider]):
    """Base class of tests of an LLM provider's batch API; set ``model`` and override ``make_provider``."""

    model: ClassVar[str] = ""
    """Name of a model of the provider."""

    @pytest.fixture
    def make_provider(self) -> Callable[[], LLMProvider]:
        """Return a function that creates a provider. To be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture make_provider", pytrace=False)

    @pytest.fixture
    def make_owner(self, make_provider: Callable[[], LLMProvider]) -> Callable[[], LLMProvider]:
        """Return a function that creates a provider."""
        return make_provider

    def entity_request(self, subject: str) -> Request:
        """Return a request for one profile."""
        return Request(
            messages=(Message("system", "You write profiles."), Message("user", f"Write a profile of item {subject}.")),
            model=self.model,
            schema=PROFILE_SCHEMA,
            max_tokens=400,
        )

    def client(self, owner: LLMProvider) -> BatchProvider:
        assert isinstance(owner, OffersBatches)
        return owner.batches(self.model)

    def asked(self, subject: str) -> Request:
        return self.entity_request(subject)

    async def direct(self, owner: LLMProvider, subject: str) -> Completion:
        return await owner.complete(self.entity_request(subject))

    def check(self, answer: Any) -> None:
        assert isinstance(answer, Completion)
        assert answer.text

    def same(self, one: Completion, other: Completion) -> bool:
        return (one.text, one.prompt_tokens) == (other.text, other.prompt_tokens)


class EmbeddingBatchConformance(_BatchSuite[RemoteEmbedder]):
    """Base class of tests of an embedder's batch API; override ``make_embedder``."""

    @pytest.fixture
    def make_embedder(self) -> Callable[[], RemoteEmbedder]:
        """Return a function that creates an embedder. To be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture make_embedder", pytrace=False)

    @pytest.fixture
    def make_owner(self, make_embedder: Callable[[], RemoteEmbedder]) -> Callable[[], RemoteEmbedder]:
        """Return a function that creates an embedder."""
        return make_embedder

    def client(self, owner: RemoteEmbedder) -> BatchClient[str, Embeddings]:
        assert isinstance(owner, OffersEmbeddingBatches)
        return owner.batches()

    def asked(self, subject: str) -> str:
        return f"A film about {subject}."

    async def direct(self, owner: RemoteEmbedder, subject: str) -> Embeddings:
        return await owner.embed([self.asked(subject)])

    def check(self, answer: Any) -> None:
        assert isinstance(answer, Embeddings)
        assert answer.vectors.dtype == np.float32
        assert answer.vectors.shape[0] == 1
        np.testing.assert_allclose(np.linalg.norm(answer.vectors), 1, atol=1e-5)

    def same(self, one: Embeddings, other: Embeddings) -> bool:
        return one.tokens == other.tokens and bool(np.allclose(one.vectors, other.vectors, atol=1e-4))

    def test_jobs_are_recorded_apart_from_those_of_an_llm(self, make_embedder: Callable[[], RemoteEmbedder]) -> None:
        embedder = make_embedder()
        assert self.client(embedder).endpoint != embedder.endpoint
