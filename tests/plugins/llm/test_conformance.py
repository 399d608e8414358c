"""Conformance suite for the three bundled LLM providers."""

from __future__ import annotations

import pytest
from loopback import Behaviour, LoopbackServer, fails

from enhancer.contracts import Context
from enhancer.testing.llm import EndpointFault, LLMProviderConformance
from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions
from enhancer_plugins.llm.replay import Replay, ReplayOptions

KEY = "sk-proj-4bZ9q0aVerySecretKey77"


class LoopbackEndpoint:
    def __init__(self, server: LoopbackServer) -> None:
        self._server = server

    @property
    def count(self) -> int:
        return self._server.count

    def answer_well(self) -> None:
        self._become(Behaviour())

    def fail(self, status, message, headers) -> None:
        self._become(fails(status, message, headers=headers))

    def misbehave(self, fault: EndpointFault) -> None:
        status = 401 if fault == "echo_key" else 200
        self._become(Behaviour(fault="reset_before" if fault == "reset" else fault, status=status))

    def _become(self, behaviour: Behaviour) -> None:
        self._server.script.default = behaviour
        self._server.reset_counts()


class OverLoopback(LLMProviderConformance):
    secret = KEY

    @pytest.fixture(autouse=True)
    def _key(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)

    @pytest.fixture
    def endpoint(self, llm_server):
        return LoopbackEndpoint(llm_server)


class TestOpenAI(OverLoopback):
    model = "loopback-model"
    notes = ("mood", "audience")

    @pytest.fixture
    def make_provider(self, llm_server):
        return lambda: OpenAI(OpenAIOptions(api_base=llm_server.url), Context())


class TestLiteLLM(OverLoopback):
    model = "openai/loopback-model"
    notes = ("mood", "audience")

    @pytest.fixture
    def make_provider(self, llm_server):
        return lambda: LiteLLM(LiteLLMOptions(api_base=llm_server.url), Context())


class TestReplay(LLMProviderConformance):
    model = "recorded"
    notes = ("mood", "audience")
    free = True

    @pytest.fixture
    def make_provider(self):
        return lambda: Replay(ReplayOptions(path="movielens-100k"), Context())
