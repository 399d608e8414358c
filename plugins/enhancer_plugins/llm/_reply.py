"""Read chat completions in the forms of many servers: where the answer is, how it ended, and what it used."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from enhancer.contracts import Completion
from enhancer.errors import ServerError
from enhancer_plugins.network import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from enhancer.contracts import FinishReason

_ENDINGS: Mapping[str, FinishReason] = {
    **dict.fromkeys(
        ("stop", "eos", "eos_token", "end_turn", "end", "stop_sequence", "complete", "completed", "finished"), "stop"
    ),
    # The answer is the argument of a call.
    **dict.fromkeys(("tool_calls", "tool_call", "tool_use", "function_call"), "stop"),
    **dict.fromkeys(
        ("length", "max_tokens", "max_length", "model_length", "max_output_tokens", "max_completion_tokens"), "length"
    ),
    **dict.fromkeys(
        ("model_context_window_exceeded", "context_length_exceeded", "context_window_exceeded", "error_limit"), "length"
    ),
    **dict.fromkeys(
        ("content_filter", "content_filtered", "safety", "sensitive", "prohibited_content", "blocklist", "recitation"),
        "content_filter",
    ),
    **dict.fromkeys(
        ("spii", "image_safety", "image_prohibited_content", "language", "guardrail_intervened", "error_toxic"),
        "content_filter",
    ),
    **dict.fromkeys(("moderation", "content_policy_violation", "flagged", "blocked", "model_armor"), "content_filter"),
    "refusal": "refusal",
}
_FAILED = frozenset(
    {"error", "network_error", "insufficient_system_resource", "internal_error", "server_error", "failed"}
    | {"abort", "aborted", "cancelled", "malformed_response", "unexpected_tool_call"}
)
"""Endings of answers that the server could not finish; a later attempt may succeed."""
_THOUGHT_PARTS = frozenset({"thinking", "reasoning", "redacted_thinking", "reasoning_text", "summary_text"})
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")


class _Content(NamedTuple):
    """Text and refusal of a message."""

    text: str
    refusal: str = ""


def ending(value: object) -> FinishReason:
    """Translate a provider's finish reason, whatever its case.

    >>> ending("end_turn"), ending("MAX_TOKENS"), ending("FinishReason.SAFETY"), ending(None)
    ('stop', 'length', 'content_filter', 'other')
    """
    return _ENDINGS.get(_ending_name(value), "other")


def completion(
    data: Mapping[str, Any],
    *,
    where: str,
    scrub: Callable[[str], str],
    headers: Mapping[str, str],
    told_cost: float | None = None,
    zero_is_unknown: bool = False,
) -> Completion:
    """Return the completion in a response.

    Args:
        data: The response, a chat completion as JSON values.
        where: Name of the endpoint.
        scrub: Removes secrets from texts.
        headers: Rate-limit headers.
        told_cost: Cost in USD that was told in another place than ``usage.cost``.
        zero_is_unknown: Whether counts of 0 stand for counts that the server did not send.

    Raises:
        ServerError: It is no chat completion, or the server could not finish it.
    """
    if not isinstance(data, dict):
        raise ServerError(f"{where} sent JSON that is not a chat completion")
    used = _Used.of(data.get("usage"), told_cost, zero_is_unknown=zero_is_unknown)
    if _blocked_prompt(data):
        return _made(data, "", "content_filter", used, scrub, headers)
    try:
        choice = data["choices"][0]
        message = (choice["message"] or {}) if "message" in choice or "text" not in choice else choice
        content = _text_of_message(message)
        said = _first(choice, ("finish_reason", "native_finish_reason", "stop_reason"))
        native = (choice.get("provider_specific_fields") or {}).get("native_finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ServerError(f"{where} sent JSON that is not a chat completion") from None
    # A library may have translated a reason that it does not know as "stop".
    name = _ending_name(native) if _ending_name(native) in {*_ENDINGS, *_FAILED} else _ending_name(said)
    if name in _FAILED:
        raise ServerError(f"{where} broke off the answer: {scrub(wire.shorten(_error_text(choice) or name))}")
    reason = _ENDINGS.get(name, "other")
    text = content.text
    if content.refusal:
        text, reason = content.refusal, "refusal"
    elif not text.strip() and reason not in ("content_filter", "refusal"):
        text = _elsewhere(message, complete=reason != "length") or text
    return _made(data, text, reason, used, scrub, headers)


def _made(
    data: Mapping[str, Any],
    text: str,
    reason: FinishReason,
    used: _Used,
    scrub: Callable[[str], str],
    headers: Mapping[str, str],
) -> Completion:
    model = data.get("model")
    return Completion(
        text=scrub(text),
        finish_reason=reason,
        prompt_tokens=used.prompt,
        completion_tokens=used.answer,
        total_tokens=used.total,
        reasoning_tokens=used.thought,
        cached_tokens=used.cached,
        cost_usd=used.cost,
        model=scrub(model) if isinstance(model, str) else "",
        headers=headers,
    )


# -- the text -----------------------------------------------------------------------------------------------------


def _text_of_message(message: Any) -> _Content:
    """Return the text of a message, or of a choice without one.

    Raises:
        TypeError: It has none that can be read.
    """
    if isinstance(message, str):
        return _Content(message)
    if "content" not in message and isinstance(message.get("text"), str):
        return _Content(message["text"])
    content = _parts(message.get("content"))
    refusal = message.get("refusal") or (message.get("provider_specific_fields") or {}).get("refusal")
    if isinstance(refusal, str) and refusal:
        return _Content(content.text, refusal)
    calls = _arguments(message)
    if len(calls) == 1 and "{" not in content.text:
        return _Content(calls[0], content.refusal)
    if not content.text.strip() and not content.refusal:
        parsed = message.get("parsed")
        # Several calls hold several objects, of which none is the answer.
        if calls or isinstance(parsed, dict):
            return _Content("\n".join(calls) if calls else json.dumps(parsed))
    return content


def _parts(content: Any) -> _Content:
    """Return the text of a message's content: a string, a part, or a list of parts."""
    if content is None:
        return _Content("")
    if isinstance(content, str):
        return _Content(content)
    if isinstance(content, dict):
        return _part(content)
    if not isinstance(content, list):
        raise TypeError
    found = [
        _part(part) if isinstance(part, dict) else _Content(part) for part in content if isinstance(part, dict | str)
    ]
    return _Content("".join(part.text for part in found), "".join(part.refusal for part in found))


def _part(part: dict[str, Any]) -> _Content:
    kind = part.get("type")
    if kind in _THOUGHT_PARTS or part.get("thought") is True:
        return _Content("")
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return _Content("", part["refusal"])
    text = part.get("text")
    if isinstance(text, dict):
        text = text.get("value")
    if isinstance(text, str):
        return _Content(text)
    if isinstance(part.get("json"), dict):
        return _Content(json.dumps(part["json"]))
    # The object itself, which a gateway has decoded.
    return _Content(json.dumps(part) if kind is None and "text" not in part and part else "")


def _arguments(message: Mapping[str, Any]) -> list[str]:
    """Return the arguments of the functions that an answer calls."""
    calls = message.get("tool_calls")
    functions = [call.get("function") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    functions.append(message.get("function_call"))
    found = [function.get("arguments") for function in functions if isinstance(function, dict)]
    return [one if isinstance(one, str) else json.dumps(one) for one in found if isinstance(one, str | dict) and one]


def _elsewhere(message: Any, *, complete: bool) -> str:
    """Return what stands in place of a message's content: the thought, in which some servers put the answer.

    The thought counts as an answer only if it is one JSON object and nothing else. Otherwise it is marked as a thought
    without end, so that no object in it can be taken for the answer.
    """
    if not isinstance(message, dict):
        return ""
    thought = next((text for name in _THOUGHTS if isinstance(text := message.get(name), str) and text.strip()), "")
    answer = thought.rpartition("</think>")[2].strip()
    if complete and answer.startswith("{") and answer.endswith("}") and _is_object(answer):
        return answer
    return f"<think>{thought}" if thought else ""


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except (ValueError, RecursionError):
        return False


# -- the ending ---------------------------------------------------------------------------------------------------


def _ending_name(value: object) -> str:
    if not isinstance(value, str):
        return ""
    name = value.strip().lower().rpartition(".")[2].replace("-", "_").replace(" ", "_")
    return name.removeprefix("finish_reason_")


def _first(values: Mapping[str, Any], names: Iterable[str]) -> Any:
    for name in names:
        if (value := values.get(name)) is not None:
            return value
    return None


def _blocked_prompt(data: Mapping[str, Any]) -> bool:
    """Check whether Gemini refused the prompt, which it answers without any choice."""
    if data.get("choices"):
        return False
    feedback = data.get("prompt_feedback") or data.get("promptFeedback")
    reason = feedback.get("block_reason") or feedback.get("blockReason") if isinstance(feedback, dict) else None
    return ending(reason) == "content_filter" or (isinstance(reason, str) and bool(reason))


def _error_text(choice: Mapping[str, Any]) -> str:
    error = choice.get("error")
    return wire.provider_message(json.dumps({"error": error}))[0] if error else ""


# -- the usage ----------------------------------------------------------------------------------------------------

_REASONING_COUNTS = (
    ("completion_tokens_details", "reasoning_tokens"),
    ("output_tokens_details", "reasoning_tokens"),
    ("reasoning_tokens",),
)
_CACHED_COUNTS = (
    ("prompt_tokens_details", "cached_tokens"),
    ("input_tokens_details", "cached_tokens"),
    ("prompt_cache_hit_tokens",),
    ("cached_tokens",),
    ("cache_read_input_tokens",),
)


class _Used(NamedTuple):
    """Tokens and cost of a call; None where they are unknown."""

    prompt: int | None
    answer: int | None
    total: int | None
    thought: int | None
    cached: int | None
    cost: float | None

    @classmethod
    def of(cls, usage: Any, told_cost: float | None, *, zero_is_unknown: bool) -> _Used:
        usage = usage if isinstance(usage, dict) else {}
        prompt, answer = counts(usage)
        if zero_is_unknown:
            prompt, answer = prompt or None, answer or None
        cost = wire.dollars(usage.get("cost"))
        consistent = not _has_impossible_prompt(usage) and counts({**usage, "total_tokens": None}) == (prompt, answer)
        if cost is None and consistent:
            cost = told_cost  # computed from counts that do not contradict each other
        thought = _detail(usage, _REASONING_COUNTS)
        told = wire.tokens(_first(usage, ("completion_tokens", "output_tokens")))
        if not thought and answer is not None and told is not None and answer > told:
            thought = answer - told  # left out of the completion tokens
        total = wire.tokens(usage.get("total_tokens"))
        return cls(prompt, answer, total or None, thought, _detail(usage, _CACHED_COUNTS), cost)


def counts(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return prompt and completion tokens. Counts that contradict each other count as the larger.

    Some servers leave thought out of the completion tokens, but not out of the total. An impossible number of prompt
    tokens is unknown, and so is which part of the total they are.

    >>> counts({"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 3250})
    (200, 3050)
    """
    prompt = wire.tokens(_first(usage, ("prompt_tokens", "input_tokens")))
    answer = wire.tokens(_first(usage, ("completion_tokens", "output_tokens")))
    total, thought = wire.tokens(usage.get("total_tokens")), _detail(usage, _REASONING_COUNTS)
    if _has_impossible_prompt(usage):
        return None, answer
    if total is not None and (prompt is None) != (answer is None):
        prompt, answer = prompt or total - (answer or 0), answer or total - (prompt or 0)
    if prompt is not None and answer is not None:
        if total is not None:
            answer = max(answer, total - prompt)
        if thought is not None and thought > answer:
            answer += thought
    return prompt, answer


def _has_impossible_prompt(usage: Mapping[str, Any]) -> bool:
    told = _first(usage, ("prompt_tokens", "input_tokens"))
    return told is not None and wire.tokens(told) is None


def _detail(usage: Mapping[str, Any], places: Iterable[tuple[str, ...]]) -> int | None:
    """Return the first count that is told in any of the places."""
    for place in places:
        if place[0] not in usage:
            continue
        value: Any = usage
        for name in place:
            value = value.get(name) if isinstance(value, dict) else None
        if (count := wire.tokens(value)) is not None:
            return count
    return None
