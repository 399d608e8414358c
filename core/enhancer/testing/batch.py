"""Tests for batch APIs of LLM providers. Subclass :class:`BatchConformance` in a test module that pytest collects.

The tests need a server, or an imitation of one, that completes jobs within ``seconds``.
"""

# ruff: noqa: D102 - the name of a test states the requirement

from __future__ import annotations

import asyncio
import json
import re
import uuid
from typing import TYPE_CHECKING, ClassVar

import pytest

from enhancer.contracts import BatchProvider, Completion, JobStatus, LLMProvider, Message, OffersBatches, Request
from enhancer.errors import RequestError
from enhancer.testing.llm import PROFILE_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


class BatchConformance:
    """Base class of batch tests; set ``model`` and override ``make_provider``."""

    model: ClassVar[str] = ""
    """Name of a model of the provider."""
    secret: ClassVar[str] = ""
    """API key of the provider, if it has one."""
    seconds: ClassVar[float] = 20.0
    """Time limit for one job."""

    @pytest.fixture
    def make_provider(self) -> Callable[[], LLMProvider]:
        """Return a function that creates a provider. To be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture make_provider", pytrace=False)

    def entity_request(self, subject: str) -> Request:
        """Return a request for one profile."""
        return Request(
            messages=(Message("system", "You write profiles."), Message("user", f"Write a profile of item {subject}.")),
            model=self.model,
            schema=PROFILE_SCHEMA,
            max_tokens=400,
        )

    def use(
        self, make_provider: Callable[[], LLMProvider], act: Callable[[LLMProvider, BatchProvider], Awaitable[None]]
    ) -> None:
        """Call ``act`` with a new provider and its batch API in a new event loop, and close the provider."""

        async def whole() -> None:
            provider = make_provider()
            assert isinstance(provider, OffersBatches)
            try:
                await act(provider, provider.batches(self.model))
            finally:
                await provider.aclose()

        asyncio.run(whole())

    async def submit(self, batches: BatchProvider, folder: Path, ids: list[str], token: str) -> JobStatus:
        """Create a job with one request for each id, and return its status."""
        file = folder / "requests.jsonl"
        file.write_bytes(b"".join(batches.line(id_, self.entity_request(id_)) for id_ in ids))
        return await batches.create(await batches.upload(file), token)

    async def wait(self, batches: BatchProvider, job_id: str) -> JobStatus:
        """Wait until a job has ended, and return its status."""
        async with asyncio.timeout(self.seconds):
            while (status := await batches.poll(job_id)).state == "running":  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.05)
        return status

    def test_a_line_is_one_line_and_holds_its_id_and_no_secret(self, make_provider: Callable[[], LLMProvider]) -> None:
        async def act(_: LLMProvider, batches: BatchProvider) -> None:
            line = batches.line("abc-7", self.entity_request("a\nb\u2028c"))
            assert line.endswith(b"\n")
            assert len(line.splitlines()) == 1
            assert "abc-7" in json.dumps(json.loads(line))
            assert not self.secret or self.secret.encode() not in line

        self.use(make_provider, act)

    def test_every_request_is_answered_under_its_id(
        self, make_provider: Callable[[], LLMProvider], tmp_path: Path
    ) -> None:
        async def act(_: LLMProvider, batches: BatchProvider) -> None:
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
                assert isinstance(result, Completion)
                assert result.text
            assert not list(folder.iterdir()), "fetch() left a file behind"

        self.use(make_provider, act)

    def test_what_is_asked_is_what_complete_asks(
        self, make_provider: Callable[[], LLMProvider], tmp_path: Path
    ) -> None:
        """For a deterministic server, direct calls and batch jobs give the same answers."""

        async def act(provider: LLMProvider, batches: BatchProvider) -> None:
            status = await self.wait(batches, (await self.submit(batches, tmp_path, ["one"], uuid.uuid4().hex)).id)
            (found,) = [result async for _, result in batches.fetch(status, tmp_path)]
            direct = await provider.complete(self.entity_request("one"))
            assert isinstance(found, Completion)
            assert (found.text, found.prompt_tokens) == (direct.text, direct.prompt_tokens)

        self.use(make_provider, act)

    def test_a_job_is_found_by_its_token_and_no_other_is(
        self, make_provider: Callable[[], LLMProvider], tmp_path: Path
    ) -> None:
        async def act(_: LLMProvider, batches: BatchProvider) -> None:
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

        self.use(make_provider, act)

    def test_an_unknown_job_is_a_refusal(self, make_provider: Callable[[], LLMProvider]) -> None:
        async def act(_: LLMProvider, batches: BatchProvider) -> None:
            with pytest.raises(RequestError) as caught:
                await batches.poll("batch_no_such_job")
            assert caught.value.status == 404
            assert not self.secret or self.secret not in str(caught.value)

        self.use(make_provider, act)

    def test_results_can_be_fetched_twice(self, make_provider: Callable[[], LLMProvider], tmp_path: Path) -> None:
        async def act(_: LLMProvider, batches: BatchProvider) -> None:
            status = await self.wait(batches, (await self.submit(batches, tmp_path, ["x"], uuid.uuid4().hex)).id)
            for _again in range(2):
                assert [custom_id async for custom_id, _ in batches.fetch(status, tmp_path)] == ["x"]

        self.use(make_provider, act)

    def test_limits_are_limits(self, make_provider: Callable[[], LLMProvider]) -> None:
        async def act(_: LLMProvider, batches: BatchProvider) -> None:
            assert batches.max_requests >= 1
            assert batches.max_bytes >= 1

        self.use(make_provider, act)
