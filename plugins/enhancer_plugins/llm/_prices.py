"""List prices of models, for budgets and plans. ``[llm.price]`` overrides them.

Prices come from the JSON price map that the installed litellm ships. The file is read without importing the library,
at the first look-up, which takes about 50 ms. Without litellm, a small snapshot is used.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from enhancer.contracts import Price
from enhancer_plugins.llm._wire import dollars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_log = logging.getLogger(__name__)
_MAP_FILES = "model_prices*.json"
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")

SNAPSHOT_DATE = "2026-11-30"
"""Date of the snapshot below: USD per million input and output tokens, by provider and model."""
_SNAPSHOT = {
    "openai/gpt-3.5-turbo": (0.5, 1.5),
    "openai/gpt-4-turbo": (10, 30),
    "openai/gpt-4o": (2.5, 10),
    "openai/gpt-4o-mini": (0.15, 0.6),
    "openai/gpt-4.1": (2, 8),
    "openai/gpt-4.1-mini": (0.4, 1.6),
    "openai/gpt-4.1-nano": (0.1, 0.4),
    "openai/gpt-5": (1.25, 10),
    "openai/gpt-5-mini": (0.25, 2),
    "openai/gpt-5-nano": (0.05, 0.4),
    "openai/gpt-5.1": (1.25, 10),
    "openai/gpt-5.2": (1.75, 14),
    "openai/gpt-5.4": (2.5, 15),
    "openai/gpt-5.4-mini": (0.75, 4.5),
    "openai/gpt-5.4-nano": (0.2, 1.25),
    "openai/gpt-5.5": (5, 30),
    "openai/o3": (2, 8),
    "openai/o3-mini": (1.1, 4.4),
    "openai/o4-mini": (1.1, 4.4),
    "openai/text-embedding-3-small": (0.02, 0),
    "openai/text-embedding-3-large": (0.13, 0),
    "anthropic/claude-haiku-4-5": (1, 5),
    "anthropic/claude-sonnet-4-5": (3, 15),
    "anthropic/claude-opus-4-5": (5, 25),
    "gemini/gemini-2.5-flash": (0.3, 2.5),
    "gemini/gemini-2.5-flash-lite": (0.1, 0.4),
    "gemini/gemini-2.5-pro": (1.25, 10),
    "mistral/mistral-small-latest": (0.15, 0.6),
    "mistral/mistral-large-latest": (0.5, 1.5),
    "deepseek/deepseek-chat": (0.28, 0.42),
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
    listed = _price_map()
    provider, _, name = model.partition("/")
    for known in dict.fromkeys((model, _DATE.sub("", model))):
        short = known.removeprefix(f"{provider}/")
        if known in listed:
            return listed[known][1]
        # The map lists most models of large providers by their bare name.
        if name and short in listed and listed[short][0].startswith(provider):  # such as bedrock_converse for bedrock
            return listed[short][1]
        if known in _SNAPSHOT:
            return Price(*map(float, _SNAPSHOT[known]))
    return None


@lru_cache(maxsize=1)
def _price_map() -> Mapping[str, tuple[str, Price]]:
    """Return provider and price by model, from litellm's file; empty if there is none that can be read."""
    for path in _map_files():
        try:
            entries = json.loads(path.read_bytes())
            return dict(_read(entries))
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            _log.debug("the price map %s cannot be read: %s", path, error)
    return {}


def _map_files() -> Iterator[Path]:
    try:
        spec = importlib.util.find_spec("litellm")  # finds a top-level package without importing it
    except (ImportError, ValueError):
        return
    for folder in (spec.submodule_search_locations if spec else None) or ():
        yield from sorted(Path(folder).glob(_MAP_FILES))


def _read(entries: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, tuple[str, Price]]]:
    for model, entry in entries.items():
        sides = (dollars(entry.get(f"{side}_cost_per_token")) for side in ("input", "output"))
        into, out = (None if side is None else round(side * 1e6, 9) for side in sides)
        if into is not None and out is not None and into + out > 0:
            yield model, (str(entry.get("litellm_provider", "")), Price(into, out))
