"""Replies of LLM providers in the form that they document, with thought of 300 tokens before an answer of 20.

They follow the public API references and SDKs as of 2026-12-01: Ollama, vLLM 0.33, SGLang 0.5.23, llama.cpp, OpenAI, Anthropic (SDK
2.14), Gemini (google-genai 3.6), OpenRouter, Azure OpenAI, Mistral (mistralai 3.7), xAI, Together, Fireworks, Groq,
DeepSeek, Cohere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]
ANSWER = '{"profile": "a quiet film about the sea", "tags": ["quiet"], "score": 0.5}'
THOUGHT = "Let me think about the sea."
PROMPT_TOKENS, THOUGHT_TOKENS, ANSWER_TOKENS = 100, 300, 20
ALL_TOKENS = THOUGHT_TOKENS + ANSWER_TOKENS


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """A provider's way of speaking."""

    name: str
    model: str
    """LiteLLM's name of a model."""
    reply: Callable[[str], Body]
    """Return the documented reply with an ending."""
    endings: tuple[str, ...]
    thought: str
    """Place of the thought in a reply."""
    tokens: str
    """Place of the number of its tokens."""
    lean: str = ""
    """Name of the model for ``openai``; empty if that does not speak this dialect."""


def chat(
    ending: str, *, thought: str = "", details: bool = False, apart: bool = False, content: Any = ANSWER, **more: Any
) -> Body:
    """Return a chat completion.

    Args:
        ending: Its finish reason.
        thought: Name of the field of the message that has the thought.
        details: Whether the tokens of thought are told.
        apart: Whether they are left out of the completion's tokens.
        content: Content of the message.
        **more: Fields of the choice.
    """
    message: Body = {"role": "assistant", "content": content}
    if thought:
        message[thought] = THOUGHT
    usage: Body = {
        "prompt_tokens": PROMPT_TOKENS,
        "completion_tokens": ANSWER_TOKENS if apart else ALL_TOKENS,
        "total_tokens": PROMPT_TOKENS + ALL_TOKENS,
    }
    if details:
        usage["completion_tokens_details"] = {"reasoning_tokens": THOUGHT_TOKENS}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": ending, **more}],
    }


def _ollama(ending: str) -> Body:
    return {
        "model": "m",
        "created_at": "2026-12-01T00:00:00Z",
        "done": True,
        "done_reason": ending,
        "response": ANSWER,
        "thinking": THOUGHT,
        "prompt_eval_count": PROMPT_TOKENS,
        "eval_count": ALL_TOKENS,
    }


def _ollama_chat(ending: str) -> Body:
    reply = _ollama(ending)
    del reply["response"], reply["thinking"]
    return {**reply, "message": {"role": "assistant", "content": ANSWER, "thinking": THOUGHT}}


def _anthropic(ending: str, *, tool: bool = False) -> Body:
    answer: Body = {"type": "text", "text": ANSWER}
    if tool:
        answer = {"type": "tool_use", "id": "t", "name": "json_tool_call", "input": json.loads(ANSWER)}
    details = {"thinking_tokens": THOUGHT_TOKENS}
    return {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "stop_reason": ending,
        "content": [{"type": "thinking", "thinking": THOUGHT, "signature": "s"}, answer],
        "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": ALL_TOKENS, "output_tokens_details": details},
    }


def _gemini(ending: str) -> Body:
    usage = {
        "promptTokenCount": PROMPT_TOKENS,
        "candidatesTokenCount": ANSWER_TOKENS,
        "thoughtsTokenCount": THOUGHT_TOKENS,
        "totalTokenCount": PROMPT_TOKENS + ALL_TOKENS,
    }
    if ending == "(prompt blocked)":
        return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage, "modelVersion": "m"}
    parts = [{"text": THOUGHT, "thought": True}, {"text": ANSWER}]
    candidate: Body = {"content": {"role": "model", "parts": parts}, "finishReason": ending, "index": 0}
    if ending in ("SAFETY", "PROHIBITED_CONTENT", "RECITATION"):
        del candidate["content"]
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"}


def _sglang(ending: str) -> Body:
    reply = chat(ending, thought="reasoning_content", details=True, matched_stop=None)
    reply["usage"] |= {"reasoning_tokens": THOUGHT_TOKENS, "prompt_tokens_details": None}
    return {**reply, "metadata": {"weight_version": "default"}}


def _groq(ending: str, *, thinks: bool) -> Body:
    return {**chat(ending, thought="reasoning" if thinks else "", details=thinks), "service_tier": "on_demand"}


def _mistral(ending: str) -> Body:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
    return chat(ending, content=[thought, {"type": "text", "text": ANSWER}])


def _cohere(ending: str) -> Body:
    content = [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}]
    tokens = {"input_tokens": PROMPT_TOKENS, "output_tokens": ALL_TOKENS}
    return {
        "id": "c",
        "finish_reason": ending,
        "message": {"role": "assistant", "content": content},
        "usage": {"billed_units": tokens, "tokens": tokens},
    }


_STOP = ("stop", "length")
DIALECTS = (
    Dialect(
        name="ollama",
        model="ollama/llama3.2",
        reply=_ollama,
        endings=_STOP,
        thought="`thinking`",
        tokens="nowhere; part of `eval_count`",
    ),
    Dialect(
        name="ollama_chat",
        model="ollama_chat/qwen3",
        reply=_ollama_chat,
        endings=_STOP,
        thought="`message.thinking`",
        tokens="nowhere; part of `eval_count`",
    ),
    Dialect(
        name="hosted_vllm",
        model="hosted_vllm/Qwen/Qwen3-8B",
        lean="Qwen/Qwen3-8B",
        reply=lambda ending: chat(ending, thought="reasoning"),
        endings=(*_STOP, "abort"),
        thought="`message.reasoning` (`reasoning_content` before 0.12)",
        tokens="nowhere; part of `completion_tokens`",
    ),
    Dialect(
        name="hosted_vllm, with `--reasoning-parser` (0.33)",
        model="hosted_vllm/Qwen/Qwen3-8B",
        lean="Qwen/Qwen3-8B",
        reply=lambda ending: chat(ending, thought="reasoning", details=True),
        endings=_STOP,
        thought="`message.reasoning`",
        tokens="`completion_tokens_details.reasoning_tokens`",
    ),
    Dialect(
        name="SGLang",
        model="openai/Qwen/Qwen3-8B",
        lean="Qwen/Qwen3-8B",
        reply=_sglang,
        endings=(*_STOP, "abort"),
        thought="`message.reasoning_content`",
        tokens="`reasoning_tokens`, and `completion_tokens_details.reasoning_tokens`",
    ),
    Dialect(
        name="llama.cpp",
        model="openai/local",
        lean="local",
        reply=lambda ending: chat(ending, thought="reasoning_content"),
        endings=_STOP,
        thought="`message.reasoning_content`",
        tokens="nowhere; part of `completion_tokens`",
    ),
    Dialect(
        name="openai",
        model="openai/gpt-5-mini",
        lean="gpt-5-mini",
        reply=lambda ending: chat(ending, details=True),
        endings=(*_STOP, "content_filter"),
        thought="not shown",
        tokens="`completion_tokens_details.reasoning_tokens`",
    ),
    Dialect(
        name="azure",
        model="azure/my-deployment",
        lean="my-deployment",
        reply=lambda ending: chat(ending, details=True, content_filter_results={}),
        endings=(*_STOP, "content_filter"),
        thought="not shown",
        tokens="`completion_tokens_details.reasoning_tokens`",
    ),
    Dialect(
        name="anthropic, with structured output",
        model="anthropic/claude-sonnet-4-5",
        reply=_anthropic,
        endings=("end_turn", "stop_sequence", "max_tokens", "model_context_window_exceeded", "refusal", "pause_turn"),
        thought="`content[]` of the type `thinking`",
        tokens="`output_tokens_details.thinking_tokens`",
    ),
    Dialect(
        name="anthropic, older models",
        model="anthropic/claude-3-5-haiku-latest",
        reply=lambda ending: _anthropic(ending, tool=True),
        endings=("tool_use", "max_tokens"),
        thought="none",
        tokens="none",
    ),
    Dialect(
        name="gemini",
        model="gemini/gemini-2.5-flash",
        reply=_gemini,
        endings=("STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "OTHER", "(prompt blocked)"),
        thought="`parts[]` with `thought: true`",
        tokens="`thoughtsTokenCount`, beside `candidatesTokenCount`",
    ),
    Dialect(
        name="gemini, a name that LiteLLM does not know",
        model="gemini/gemini-from-next-year",
        reply=_gemini,
        endings=("STOP", "MAX_TOKENS"),
        thought="`parts[]` with `thought: true`",
        tokens="`thoughtsTokenCount`, beside `candidatesTokenCount`",
    ),
    Dialect(
        name="openrouter",
        model="openrouter/deepseek/deepseek-r1",
        lean="deepseek/deepseek-r1",
        reply=lambda ending: chat(ending, thought="reasoning", details=True, native_finish_reason="x"),
        endings=(*_STOP, "content_filter", "error"),
        thought="`message.reasoning`, `reasoning_details`",
        tokens="`completion_tokens_details.reasoning_tokens`",
    ),
    Dialect(
        name="mistral",
        model="mistral/magistral-small-latest",
        lean="magistral-small-latest",
        reply=_mistral,
        endings=(*_STOP, "model_length", "error"),
        thought="`message.content[]` of the type `thinking`",
        tokens="nowhere; part of `completion_tokens`",
    ),
    Dialect(
        name="xai",
        model="xai/grok-4",
        lean="grok-4",
        reply=lambda ending: chat(ending, thought="reasoning_content", details=True, apart=True),
        endings=_STOP,
        thought="`message.reasoning_content`, not for all models",
        tokens="`completion_tokens_details.reasoning_tokens`, **not** part of `completion_tokens`",
    ),
    Dialect(
        name="together_ai",
        model="together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        lean="meta-llama/Llama-3.3-70B-Instruct-Turbo",
        reply=lambda ending: chat(ending, thought="reasoning"),
        endings=(*_STOP, "eos"),
        thought="`message.reasoning`, or `<think>` in the content",
        tokens="nowhere; part of `completion_tokens`",
    ),
    Dialect(
        name="fireworks_ai",
        model="fireworks_ai/accounts/fireworks/models/qwen3-8b",
        lean="accounts/fireworks/models/qwen3-8b",
        reply=lambda ending: chat(ending, thought="reasoning_content"),
        endings=_STOP,
        thought="`message.reasoning_content`",
        tokens="nowhere; part of `completion_tokens`",
    ),
    Dialect(
        name="groq, with structured output",
        model="groq/openai/gpt-oss-20b",
        lean="openai/gpt-oss-20b",
        reply=lambda ending: _groq(ending, thinks=True),
        endings=_STOP,
        thought="`message.reasoning`",
        tokens="`completion_tokens_details.reasoning_tokens`",
    ),
    Dialect(
        name="groq, other models",
        model="groq/llama-3.1-8b-instant",
        lean="llama-3.1-8b-instant",
        reply=lambda ending: _groq(ending, thinks=False),
        endings=_STOP,
        thought="none",
        tokens="none",
    ),
    Dialect(
        name="deepseek",
        model="deepseek/deepseek-reasoner",
        lean="deepseek-reasoner",
        reply=lambda ending: chat(ending, thought="reasoning_content", details=True),
        endings=(*_STOP, "content_filter", "insufficient_system_resource"),
        thought="`message.reasoning_content`",
        tokens="`completion_tokens_details.reasoning_tokens`",
    ),
    Dialect(
        name="cohere_chat",
        model="cohere_chat/command-a-03-2025",
        reply=_cohere,
        endings=("COMPLETE", "STOP_SEQUENCE", "MAX_TOKENS", "ERROR"),
        thought="`message.content[]` of the type `thinking`",
        tokens="nowhere; part of `output_tokens`",
    ),
)
