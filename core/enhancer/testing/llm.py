"""Tests for every LLM provider. Subclass :class:`LLMProviderConformance` in a test module that pytest collects.

Override the fixture ``endpoint`` to test a provider against a server that can fail. For a provider without a server (in
process, recorded) these tests are skipped.
"""

# ruff: noqa: D102 - the name of a test states the requirement

from __future__ import annotations

import asyncio
import json
import math
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, get_args

import jsonschema
import pytest

from enhancer.contracts import Completion, LLMProvider, Message, Options, Price, Request
from enhancer.contracts.llm import FinishReason
from enhancer.contracts.record import Key
from enhancer.errors import (
    AuthenticationError,
    ConnectionFailedError,
    DeadlineError,
    ProviderError,
    RateLimitError,
    RequestError,
    ServerError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

EndpointFault = Literal["hang", "drip", "reset", "half_body", "bad_utf8", "truncated_json", "not_json", "echo_key"]

PROFILE_SCHEMA = {
    "type": "object",
    "properties": {
        "profile": {"type": "string", "minLength": 1},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["profile", "tags"],
    "additionalProperties": False,
}


class Endpoint(Protocol):
    """Server for the provider under test, with faults that tests can switch on."""

    @property
    def count(self) -> int:
        """Number of requests received."""

    def answer_well(self) -> None:
        """Give valid answers from now on, and reset the count."""

    def fail(self, status: int, message: str, headers: Mapping[str, str]) -> None:
        """Answer every request with this HTTP error."""

    def misbehave(self, fault: EndpointFault) -> None:
        """Apply a fault to every request. ``echo_key`` is an error of status 401 whose message contains the API key."""


class LLMProviderConformance:
    """Base class of provider tests; set ``model`` and override ``make_provider``."""

    model: ClassVar[str] = ""
    """Name of a model of the provider."""
    secret: ClassVar[str] = ""
    """API key of the provider, if it has one."""
    subjects: ClassVar[tuple[str, ...]] = ("1", "2", "3")
    """Ids of items that requests are about."""
    free: ClassVar[bool] = False
    """Whether all models of the provider are free of charge."""
    notes: ClassVar[tuple[str, ...]] = ()
    """Names of notes that one request asks for, such as ``("mood", "audience")``; empty to skip this test."""
    at_once: ClassVar[int] = 16
    """Number of concurrent calls in the concurrency test; set fewer for a slow model."""

    @pytest.fixture
    def make_provider(self) -> Callable[[], LLMProvider]:
        """Return a function that creates a provider. To be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture make_provider", pytrace=False)

    @pytest.fixture
    def endpoint(self) -> Endpoint | None:
        """Return the server for fault tests; None skips them. To be overridden."""
        return None

    def request_for(self, *ids: str, timeout: float = 20.0, schema: bool = True) -> Request:
        """Return a request for the profiles of these items."""
        prompt = "Write a profile of each item as JSON: " + "; ".join(f"item {n}" for n in ids)
        one: Mapping[str, object] = PROFILE_SCHEMA
        if len(ids) > 1:
            properties = {"id": {"type": "string", "enum": list(ids)}, **PROFILE_SCHEMA["properties"]}  # type: ignore[dict-item]
            element = {**PROFILE_SCHEMA, "properties": properties, "required": ["id", "profile", "tags"]}
            one = {
                "type": "object",
                "properties": {"items": {"type": "array", "items": element}},
                "required": ["items"],
                "additionalProperties": False,
            }
        return Request(
            messages=(Message("system", "You write profiles."), Message("user", prompt)),
            model=self.model,
            schema=one if schema else None,
            max_tokens=400,
            subjects=tuple(Key("item", n) for n in ids),
            grouped=len(ids) > 1,
            timeout=timeout,
        )

    def use(
        self, make_provider: Callable[[], LLMProvider], act: Callable[[LLMProvider], Awaitable[Completion]]
    ) -> Completion:
        """Call ``act`` with a new provider in a new event loop, and close the provider."""

        async def whole() -> Completion:
            provider = make_provider()
            try:
                return await act(provider)
            finally:
                await provider.aclose()

        return asyncio.run(whole())

    def ask(self, make_provider: Callable[[], LLMProvider], request: Request | None = None) -> Completion:
        """Return the completion of one call of a new provider."""
        return self.use(
            make_provider, lambda provider: provider.complete(request or self.request_for(self.subjects[0]))
        )

    # -- without calls ----------------------------------------------------------------------------------------------

    def test_options_are_declared_and_described(self, make_provider: Callable[[], LLMProvider]) -> None:
        options = type(make_provider()).options_class
        assert issubclass(options, Options)
        undescribed = [name for name, field in options.model_fields.items() if not field.description]
        assert not undescribed, f"options without a one-line description: {undescribed}"

    def test_endpoint_is_a_stable_name_without_secrets(self, make_provider: Callable[[], LLMProvider]) -> None:
        first, second = make_provider().endpoint, make_provider().endpoint
        assert first
        assert first == second
        assert not self.secret or self.secret not in first

    def test_price_is_known_or_none_and_never_zero_by_default(
        self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None
    ) -> None:
        provider = make_provider()
        known = provider.price(self.model)
        assert known is None or (math.isfinite(known.cost(1, 1)) and known.input >= 0 and known.output >= 0)
        unknown = provider.price("no-such-model-4711")
        assert unknown == (Price(0.0, 0.0) if self.free else None)
        assert endpoint is None or endpoint.count == 0, "price() called the server"

    def test_check_accepts_what_works_and_calls_nothing(
        self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None
    ) -> None:
        make_provider().check(self.model)
        assert endpoint is None or endpoint.count == 0, "check() called the server"

    def test_repr_holds_no_secret(self, make_provider: Callable[[], LLMProvider]) -> None:
        if not self.secret:
            pytest.skip("this provider takes no key")
        assert self.secret not in repr(make_provider())

    def test_capacity_is_unknown_or_at_least_one(self, make_provider: Callable[[], LLMProvider]) -> None:
        capacity = make_provider().capacity
        assert capacity is None or capacity >= 1

    # -- valid answers ----------------------------------------------------------------------------------------------

    def test_a_completion_is_well_formed(self, make_provider: Callable[[], LLMProvider]) -> None:
        done = self.ask(make_provider)
        assert isinstance(done.text, str)
        assert done.text
        assert done.finish_reason in get_args(FinishReason)
        for count in (done.prompt_tokens, done.completion_tokens):
            assert count is None or (isinstance(count, int) and count >= 0)
        assert done.cost_usd is None or (math.isfinite(done.cost_usd) and done.cost_usd >= 0)
        assert all(name == name.lower() and isinstance(value, str) for name, value in done.headers.items())

    def test_the_schema_is_asked_for(self, make_provider: Callable[[], LLMProvider]) -> None:
        answer = json.loads(self.ask(make_provider).text)
        jsonschema.validate(answer, PROFILE_SCHEMA)

    def test_several_notes_in_one_answer(self, make_provider: Callable[[], LLMProvider]) -> None:
        if not self.notes:
            pytest.skip("no names of notes are set")
        words = {"type": "string", "enum": ["low", "medium", "high"]}
        schema = {
            "type": "object",
            "properties": {**{name: {"type": "string", "minLength": 1} for name in self.notes}, "confidence": words},
            "required": [*self.notes, "confidence"],
            "additionalProperties": False,
        }
        answer = json.loads(self.ask(make_provider, replace(self.request_for(self.subjects[0]), schema=schema)).text)
        jsonschema.validate(answer, schema)

    def test_several_subjects_in_one_request(self, make_provider: Callable[[], LLMProvider]) -> None:
        request = self.request_for(*self.subjects)
        answer = json.loads(self.ask(make_provider, request).text)
        assert {item["id"] for item in answer["items"]} == set(self.subjects)

    def test_a_request_without_schema(self, make_provider: Callable[[], LLMProvider]) -> None:
        assert self.ask(make_provider, self.request_for(self.subjects[0], schema=False)).text

    def test_one_call_is_one_request(self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None) -> None:
        self.ask(make_provider)
        assert endpoint is None or endpoint.count == 1

    def test_many_calls_at_once(self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None) -> None:
        async def act(provider: LLMProvider) -> Completion:
            request = self.request_for(self.subjects[0])
            done = await asyncio.gather(*(provider.complete(request) for _ in range(self.at_once)))
            assert all(c.text for c in done)
            return done[0]

        self.use(make_provider, act)
        assert endpoint is None or endpoint.count == self.at_once

    def test_each_event_loop_has_its_own_provider(self, make_provider: Callable[[], LLMProvider]) -> None:
        for _ in range(3):
            assert self.ask(make_provider).text

    def test_closing_twice_and_unused(self, make_provider: Callable[[], LLMProvider]) -> None:
        async def whole() -> None:
            unused, used = make_provider(), make_provider()
            await unused.aclose()
            await used.complete(self.request_for(self.subjects[0]))
            await used.aclose()
            await used.aclose()

        asyncio.run(whole())

    def test_nothing_is_printed(
        self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None, capfd: pytest.CaptureFixture[str]
    ) -> None:
        self.ask(make_provider)
        if endpoint is not None:
            endpoint.fail(500, "out of order", {})
            with pytest.raises(ProviderError):
                self.ask(make_provider)
        assert tuple(capfd.readouterr()) == ("", "")

    # -- faults ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, RequestError),
            (401, AuthenticationError),
            (403, AuthenticationError),
            (404, RequestError),
            (422, RequestError),
            (429, RateLimitError),
            (500, ServerError),
            (502, ServerError),
            (503, ServerError),
        ],
    )
    def test_http_errors_are_typed_tell_why_and_are_not_retried(
        self,
        make_provider: Callable[[], LLMProvider],
        endpoint: Endpoint | None,
        status: int,
        kind: type[ProviderError],
    ) -> None:
        server = _require(endpoint)
        server.fail(status, "the parrot is resting", {})
        with pytest.raises(ProviderError) as caught:
            self.ask(make_provider)
        assert type(caught.value) is kind
        assert "the parrot is resting" in str(caught.value)
        assert server.count == 1, "a provider never retries"

    @pytest.mark.parametrize("status", [429, 503])
    def test_retry_after_is_passed_on(
        self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None, status: int
    ) -> None:
        _require(endpoint).fail(status, "later", {"Retry-After": "7"})
        with pytest.raises(ProviderError) as caught:
            self.ask(make_provider)
        assert caught.value.retry_after == 7.0

    @pytest.mark.parametrize("fault", ["reset", "half_body", "bad_utf8", "truncated_json", "not_json"])
    def test_broken_answers_are_typed_and_not_retried(
        self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None, fault: EndpointFault
    ) -> None:
        server = _require(endpoint)
        server.misbehave(fault)
        with pytest.raises((ConnectionFailedError, ServerError)):
            self.ask(make_provider)
        assert server.count == 1, "a provider never retries"

    @pytest.mark.parametrize("fault", ["hang", "drip"])
    def test_the_deadline_is_of_the_whole_call(
        self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None, fault: EndpointFault
    ) -> None:
        server = _require(endpoint)
        self.ask(make_provider)  # imports at first use must not count
        server.misbehave(fault)
        started = time.monotonic()
        with pytest.raises(DeadlineError):
            self.ask(make_provider, self.request_for(self.subjects[0], timeout=0.4))
        assert time.monotonic() - started < 2.0

    def test_a_cancelled_call_ends_at_once_and_harms_no_other(
        self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None
    ) -> None:
        server = _require(endpoint)

        async def act(provider: LLMProvider) -> Completion:
            request = self.request_for(self.subjects[0])
            await provider.complete(request)
            server.misbehave("hang")
            call = asyncio.create_task(provider.complete(request))
            await asyncio.sleep(0.1)
            call.cancel()
            started = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert time.monotonic() - started < 1.0
            server.answer_well()
            return await provider.complete(request)

        assert self.use(make_provider, act).text

    def test_an_echoed_key_goes_no_further(
        self, make_provider: Callable[[], LLMProvider], endpoint: Endpoint | None
    ) -> None:
        server = _require(endpoint)
        assert self.secret, "set `secret` to the key that make_provider is given"
        server.misbehave("echo_key")
        with pytest.raises(ProviderError) as caught:
            self.ask(make_provider)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value.hint)
        assert self.secret not in shown


def _require(endpoint: Endpoint | None) -> Endpoint:
    if endpoint is None:
        pytest.skip("the fixture endpoint has no server")
    return endpoint
