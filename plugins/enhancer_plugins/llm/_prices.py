"""OpenAI's list prices, for budgets and plans. ``[llm.price]`` overrides them."""

from __future__ import annotations

import re

from enhancer.contracts import Price

AS_OF = "2026-11"
"""When the table was last checked."""

_TABLE = {
    "gpt-3.5-turbo": Price(0.5, 1.5),
    "gpt-4-turbo": Price(10.0, 30.0),
    "gpt-4o": Price(2.5, 10.0),
    "gpt-4o-mini": Price(0.15, 0.6),
    "gpt-4.1": Price(2.0, 8.0),
    "gpt-4.1-mini": Price(0.4, 1.6),
    "gpt-4.1-nano": Price(0.1, 0.4),
    "gpt-5": Price(1.25, 10.0),
    "gpt-5-mini": Price(0.25, 2.0),
    "gpt-5-nano": Price(0.05, 0.4),
    "gpt-5.1": Price(1.25, 10.0),
    "gpt-5.2": Price(1.75, 14.0),
    "o3": Price(2.0, 8.0),
    "o3-mini": Price(1.1, 4.4),
    "o4-mini": Price(1.1, 4.4),
}
_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


def openai_price(model: str) -> Price | None:
    """USD per million tokens, by the model's name, dated snapshots included; None when unknown.

    >>> openai_price("gpt-4o-mini-2024-07-18")
    Price(input=0.15, output=0.6)
    >>> openai_price("my-finetune") is None
    True
    """
    return _TABLE.get(_SNAPSHOT.sub("", model))
