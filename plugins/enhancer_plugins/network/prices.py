"""List prices of models, for budgets and plans. ``[llm.price]`` overrides them.

Prices come from the JSON price map that the installed litellm ships. The file is read without importing the library,
at the first look-up, which takes 10 to 30 ms. Without litellm, a small snapshot is used.
"""

from __future__ import annotations

import importlib.util
import logging
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from enhancer.contracts import Price
from enhancer_plugins.network.wire import dollars, loads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_log = logging.getLogger(__name__)
_MAP_FILES = "model_prices*.json"
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")

SNAPSHOT_DATE = "2026-11-30"
"""Date of the snapshot below: USD per million input, output and cached input tokens, by provider and model."""
_SNAPSHOT: Mapping[str, tuple[float, ...]] = {
    "openai/gpt-3.5-turbo": (0.5, 1.5),
    "openai/gpt-4": (30, 60),
    "openai/gpt-4-turbo": (10, 30),
    "openai/gpt-4.1": (2, 8, 0.5),
    "openai/gpt-4.1-mini": (0.4, 1.6, 0.1),
    "openai/gpt-4.1-nano": (0.1, 0.4, 0.025),
    "openai/gpt-4o": (2.5, 10, 1.25),
    "openai/gpt-4o-mini": (0.15, 0.6, 0.075),
    "openai/gpt-5": (1.25, 10, 0.125),
    "openai/gpt-5.1": (1.25, 10, 0.125),
    "openai/gpt-5.1-chat-latest": (1.25, 10, 0.125),
    "openai/gpt-5.2": (1.75, 14, 0.175),
    "openai/gpt-5.2-chat-latest": (1.75, 14, 0.175),
    "openai/gpt-6-astra": (10, 50, 1),
    "openai/gpt-6-sol": (2, 10, 0.2),
    "openai/gpt-6-luna": (0.1, 0.5, 0.01),
    "openai/gpt-5.6": (4, 20, 0.4),
    "openai/gpt-5.6-sol": (4, 20, 0.4),
    "openai/gpt-5.6-terra": (2, 12, 0.2),
    "openai/gpt-5.6-luna": (0.2, 1.2, 0.02),
    "openai/chat-latest": (5, 30, 0.5),
    "openai/gpt-5.5": (5, 30, 0.5),
    "openai/gpt-5.4": (2.5, 15, 0.25),
    "openai/gpt-5.4-mini": (0.75, 4.5, 0.075),
    "openai/gpt-5.4-nano": (0.2, 1.25, 0.02),
    "openai/gpt-5-chat": (1.25, 10, 0.125),
    "openai/gpt-5-chat-latest": (1.25, 10, 0.125),
    "openai/gpt-5.3-chat-latest": (1.75, 14, 0.175),
    "openai/gpt-5-mini": (0.25, 2, 0.025),
    "openai/gpt-5-nano": (0.05, 0.4, 0.005),
    "openai/o1": (15, 60, 7.5),
    "openai/o3": (2, 8, 0.5),
    "openai/o3-mini": (1.1, 4.4, 0.55),
    "openai/o4-mini": (1.1, 4.4, 0.275),
    "openai/gpt-6.1-sol": (2, 10, 0.1),
    "anthropic/claude-haiku-4-5": (1, 5, 0.1),
    "anthropic/claude-sonnet-4-5": (3, 15, 0.3),
    "anthropic/claude-opus-4-5": (5, 25, 0.5),
    "gemini/gemini-2.5-flash": (0.3, 2.5, 0.03),
    "gemini/gemini-2.5-flash-lite": (0.1, 0.4, 0.01),
    "gemini/gemini-2.5-pro": (1.25, 10, 0.125),
    "mistral/mistral-small-latest": (0.15, 0.6, 0.015),
    "mistral/mistral-large-latest": (0.5, 1.5, 0.05),
    "deepseek/deepseek-chat": (0.28, 0.42, 0.028),
    "deepseek/deepseek-reasoner": (0.28, 0.42, 0.028),
    "anthropic/claude-sonnet-5": (2, 10, 0.2),
    "anthropic/claude-opus-5": (5, 25, 0.5),
    "openai/text-embedding-3-small": (0.02, 0),
    "openai/text-embedding-3-large": (0.13, 0),
}


def list_price(model: str) -> Price | None:
    """Return the list price of a model in USD per million tokens; None if unknown.

    A price of zero in the map means that it was not recorded, and counts as unknown.

    Args:
        model: Name as litellm writes it, such as ``openai/gpt-4o-mini``. A dated name that is not listed has the price
            of the name without its date.

    >>> list_price("openai/gpt-4o-mini-2024-07-18").output
    0.6
    >>> list_price("openai/my-finetune") is None
    True
    """
    provider, _, name = model.partition("/")
    for known in dict.fromkeys((model, _DATE.sub("", model))):
        short = known.removeprefix(f"{provider}/")
        found = _listed(known)
        if found is not None and found.price is not None:
            return found.price
        # The map lists most models of large providers by their bare name.
        found = _listed(short) if name else None
        # Such as bedrock_converse for bedrock.
        if found is not None and found.price is not None and found.provider.startswith(provider):
            return found.price
        if known in _SNAPSHOT:
            return Price(*map(float, _SNAPSHOT[known]))
    return None


def model_facts(model: str) -> ModelFacts | None:
    """Return what the map says about a model, whichever provider serves it; None if it does not list the name."""
    undated = _DATE.sub("", model)
    parts = undated.split("/")
    # Without the prefixes of gateways, one after the other.
    names = [model, *("/".join(parts[start:]) for start in range(len(parts)))]
    return next((found for name in names if (found := _listed(name)) is not None), None)


class ModelFacts(NamedTuple):
    """Entry of litellm's map for a model."""

    provider: str
    price: Price | None
    reasons: bool
    """Whether the model can think before it answers."""
    default_effort: str | None
    """Effort of thought without a request for another, as far as the map knows."""


@lru_cache(maxsize=1)
def _price_map() -> Mapping[str, object]:
    """Return the entries of litellm's file by model; empty if there is none that can be read."""
    for path in _map_files():
        try:
            entries = loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            _log.debug("the price map %s cannot be read: %s", path, error)
            continue
        if isinstance(entries, dict):
            return entries
    return {}


def _map_files() -> Iterator[Path]:
    try:
        spec = importlib.util.find_spec("litellm")  # finds a top-level package without importing it
    except (ImportError, ValueError):
        return
    for folder in (spec.submodule_search_locations if spec else None) or ():
        yield from sorted(Path(folder).glob(_MAP_FILES))


def _listed(model: str) -> ModelFacts | None:
    """Return the map's entry for a name; None if there is none, or none that tells anything."""
    entry = _price_map().get(model)
    if not isinstance(entry, dict):
        return None
    names = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
    sides = (dollars(entry.get(name)) for name in names)
    into, out, cached = (None if side is None else round(side * 1e6, 9) for side in sides)
    price = None
    if into is not None and out is not None and into + out > 0:
        price = Price(into, out, cached)
    reasons, effort = entry.get("supports_reasoning") is True, entry.get("default_reasoning_effort")
    if price is None and not reasons:
        return None
    provider = str(entry.get("litellm_provider", ""))
    return ModelFacts(provider, price, reasons, effort if isinstance(effort, str) else None)
