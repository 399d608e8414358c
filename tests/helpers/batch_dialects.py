"""Batch APIs of LiteLLM's providers, each with a loopback server: for tests that hold for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batch_project import BatchProject
from loopback_batch import LoopbackBatches
from loopback_generate import LoopbackGemini
from loopback_messages import LoopbackMessageBatches
from loopback_mistral import LoopbackMistral

from enhancer.contracts import Context
from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions


@dataclass(frozen=True)
class Dialect:
    """A batch API."""

    model: str
    key: str
    """Environment variable of the API key."""
    server: Callable[[], LoopbackBatches]
    base: Callable[[str], str]
    """Base URL for LiteLLM, given the server's URL."""
    keeps_partial: bool = True
    """Whether jobs that expired or were cancelled have the results of what was done."""


DIALECTS = {
    "anthropic": Dialect(
        "anthropic/claude-3-5-haiku-latest",
        "ANTHROPIC_API_KEY",
        LoopbackMessageBatches,
        lambda url: url.removesuffix("/v1"),
    ),
    "gemini": Dialect(
        "gemini/gemini-2.5-flash",
        "GEMINI_API_KEY",
        LoopbackGemini,
        lambda url: url + "beta",
        keeps_partial=False,
    ),
    "mistral": Dialect("mistral/mistral-small-latest", "MISTRAL_API_KEY", LoopbackMistral, lambda url: url),
}


class DialectProject(BatchProject):
    """A project that generates by batch jobs of one of LiteLLM's providers."""

    dialect: Dialect

    def provider(self) -> Any:
        return LiteLLM(LiteLLMOptions(api_base=self.dialect.base(self.url)), Context(self.folder))
