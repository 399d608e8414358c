"""Batch APIs of LiteLLM's providers, by its names of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from enhancer.contracts import BatchProvider
    from enhancer_plugins.llm.batching.channel import Channel

DIALECTS = frozenset({"anthropic"})
"""Providers whose batch API is known."""


def client_of(name: str, channel: Channel) -> BatchProvider:
    """Return a client of the batch API of a provider in :data:`DIALECTS`."""
    from enhancer_plugins.llm.batching.anthropic import AnthropicBatches

    return {"anthropic": AnthropicBatches}[name](channel)
