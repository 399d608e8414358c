"""Batch APIs of LiteLLM's providers, by its names of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.contracts import BatchProvider
    from enhancer_plugins.llm.batching.channel import Channel

DIALECTS = frozenset({"anthropic", "gemini", "mistral"})
"""Providers whose batch API is known."""


def client_of(name: str, channel: Channel) -> BatchProvider:
    """Return a client of the batch API of a provider in :data:`DIALECTS`."""
    from enhancer_plugins.llm.batching.anthropic import AnthropicBatches
    from enhancer_plugins.llm.batching.gemini import GeminiBatches
    from enhancer_plugins.llm.batching.mistral import MistralBatches

    clients: dict[str, Callable[[Channel], BatchProvider]] = {
        "anthropic": AnthropicBatches,
        "gemini": GeminiBatches,
        "mistral": MistralBatches,
    }
    return clients[name](channel)
