"""Which models think before they answer, by their names and the facts about models that litellm's map holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from enhancer_plugins.network.prices import model_facts

if TYPE_CHECKING:
    from collections.abc import Mapping

_ALWAYS = re.compile(
    r"(?:^|[/:@])(?:ft:)?(?:o[1-9](?![a-z0-9])|gpt-[5-9](?![.\w])|gpt-oss|deepseek-reasoner|deepseek-r\d|qwq|magistral"
    r"|qwen3(?![\w.]*-coder)(?!.*(?:instruct|embedding|reranker|coder)))|-r1\b|\bthinking\b|\breasoning\b",
    re.IGNORECASE,
)
"""Families that think unless they are told not to, wherever they run."""
_ON_REQUEST = re.compile(r"claude|chat|flash-lite|non-reasoning|instruct", re.IGNORECASE)
"""Models that can think and do so only on request."""


def thinks(model: str, body: Mapping[str, Any]) -> bool | None:
    """Return whether a model thinks before it answers; None if unknown.

    Args:
        model: Its name, with or without the provider.
        body: Further parameters of its requests, some of which switch thought on or off.

    >>> thinks("gpt-5-mini", {}), thinks("Qwen/Qwen3-8B", {"enable_thinking": False}), thinks("gpt-4o-mini", {})
    (True, False, None)
    """
    asked = _asked_for(body)
    if asked is not None:
        return asked
    if "chat" in model.rpartition("/")[2] and "reason" not in model:
        return None
    facts = model_facts(model)
    if facts is not None and facts.default_effort == "none":
        return False
    if _ALWAYS.search(model):
        return True
    return True if facts is not None and facts.reasons and not _ON_REQUEST.search(model) else None


def _asked_for(body: Mapping[str, Any]) -> bool | None:
    """Return what the parameters of several providers ask for; None if they say nothing of thought."""
    for name in ("reasoning_effort", "reasoning", "thinking", "think", "enable_thinking", "chat_template_kwargs"):
        if name in body and (found := _switch(body[name])) is not None:
            return found
    extra = body.get("extra_body")
    return _asked_for(extra) if isinstance(extra, dict) else None


def _switch(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value.lower() not in ("none", "disabled", "off")
    if isinstance(value, dict):
        for name in ("type", "enabled", "effort", "enable_thinking", "thinking"):
            if name in value:
                return _switch(value[name])
        if any(name in value for name in ("max_tokens", "budget_tokens")):
            return True
    return None
