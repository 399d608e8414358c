"""Dialects of LLM providers: requests captured as the clients send them, and replies in the form that providers document.

``docs/reference/dialects.md`` is made from this. Write its tables anew with::

    python tests/helpers/provider_dialects.py

Replies follow the public API references and SDKs as of 2026-12-01: Ollama, vLLM 0.26, llama.cpp, OpenAI, Anthropic (SDK
2.14), Gemini (google-genai 3.6), OpenRouter, Azure OpenAI, Mistral (mistralai 3.7), xAI, Together, Fireworks, Groq,
DeepSeek, Cohere. Each reply has thought of 300 tokens before an answer of 20.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import web
from loopback import LoopbackServer

from enhancer.contracts import Completion, Context, LLMProvider, Message, Request
from enhancer.errors import ProviderError
from enhancer_plugins.llm import _wire
from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions

Body = dict[str, Any]
PAGE = Path(__file__).parents[2] / "docs/reference/dialects.md"
KEY = "sk-test-0123456789abcdef"
ANSWER = '{"profile": "a quiet film about the sea", "tags": ["quiet"], "score": 0.5}'
THOUGHT = "Let me think about the sea."
PROMPT_TOKENS, THOUGHT_TOKENS, ANSWER_TOKENS = 100, 300, 20
ALL_TOKENS = THOUGHT_TOKENS + ANSWER_TOKENS
SCHEMA: Body = {
    "type": "object",
    "properties": {
        "profile": {"type": "string", "minLength": 20, "maxLength": 600, "description": "two sentences"},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}, "minItems": 1, "maxItems": 8},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["profile", "tags"],
}
PARAMETERS: Body = {"temperature": 0.3125, "top_p": 0.875, "max_tokens": 4321, "seed": 77}
"""Parameters of the request; values that occur nowhere else."""
_WORDS = {"minLength", "maxLength", "pattern", "minItems", "maxItems", "minimum", "maximum", "additionalProperties"}


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


# -- replies as documented ---------------------------------------------------------------------------------------------


def _chat(
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


def _groq(ending: str, *, thinks: bool) -> Body:
    return {**_chat(ending, thought="reasoning" if thinks else "", details=thinks), "service_tier": "on_demand"}


def _mistral(ending: str) -> Body:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}
    return _chat(ending, content=[thought, {"type": "text", "text": ANSWER}])


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
        reply=lambda ending: _chat(ending, thought="reasoning"),
        endings=(*_STOP, "abort"),
        thought="`message.reasoning` (`reasoning_content` before 0.12)",
        tokens="nowhere; part of `completion_tokens`",
    ),
    Dialect(
        name="llama.cpp",
        model="openai/local",
        lean="local",
        reply=lambda ending: _chat(ending, thought="reasoning_content"),
        endings=_STOP,
        thought="`message.reasoning_content`",
        tokens="nowhere; part of `completion_tokens`",
    ),
    Dialect(
        name="openai",
        model="openai/gpt-5-mini",
        lean="gpt-5-mini",
        reply=lambda ending: _chat(ending, details=True),
        endings=(*_STOP, "content_filter"),
        thought="not shown",
        tokens="`completion_tokens_details.reasoning_tokens`",
    ),
    Dialect(
        name="azure",
        model="azure/my-deployment",
        lean="my-deployment",
        reply=lambda ending: _chat(ending, details=True, content_filter_results={}),
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
        reply=lambda ending: _chat(ending, thought="reasoning", details=True, native_finish_reason="x"),
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
        reply=lambda ending: _chat(ending, thought="reasoning_content", details=True, apart=True),
        endings=_STOP,
        thought="`message.reasoning_content`, not for all models",
        tokens="`completion_tokens_details.reasoning_tokens`, **not** part of `completion_tokens`",
    ),
    Dialect(
        name="together_ai",
        model="together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        lean="meta-llama/Llama-3.3-70B-Instruct-Turbo",
        reply=lambda ending: _chat(ending, thought="reasoning"),
        endings=(*_STOP, "eos"),
        thought="`message.reasoning`, or `<think>` in the content",
        tokens="nowhere; part of `completion_tokens`",
    ),
    Dialect(
        name="fireworks_ai",
        model="fireworks_ai/accounts/fireworks/models/qwen3-8b",
        lean="accounts/fireworks/models/qwen3-8b",
        reply=lambda ending: _chat(ending, thought="reasoning_content"),
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
        reply=lambda ending: _chat(ending, thought="reasoning_content", details=True),
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


# -- speaking ------------------------------------------------------------------------------------------------------------


class Interpreter:
    """Speaks with a loopback server in each dialect.

    Attributes:
        reply: JSON of the next replies.
    """

    def __init__(self) -> None:
        self._received: list[tuple[str, Body]] = []
        self.reply: Body = {}

    def add_routes(self, app: web.Application, _: LoopbackServer) -> None:
        """Answer every POST below ``/x``."""
        app.router.add_route("*", "/x{tail:.*}", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self._received.append((request.path.removeprefix("/x"), json.loads(raw) if raw else {}))
        return web.json_response(self.reply)

    def ask(self, provider: LLMProvider, model: str, reply: Body) -> tuple[str, Body, Completion | ProviderError]:
        """Ask with one reply; return the path, the body that was sent, and what was read."""
        self._received.clear()
        self.reply = reply
        messages = (Message("system", "You write profiles."), Message("user", "About the sea."))

        async def whole() -> Completion | ProviderError:
            try:
                return await provider.complete(
                    Request(messages=messages, model=model, schema=SCHEMA, timeout=20.0, **PARAMETERS)
                )
            except ProviderError as error:
                return error
            finally:
                await provider.aclose()

        read = asyncio.run(whole())
        # LiteLLM asks Ollama about its model, too: the largest is the request.
        path, body = max(self._received, key=lambda one: len(json.dumps(one[1])))
        return path, body, read


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the places of a JSON value, and what is there."""
    yield path, value
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from leaves(part, f"{path}[{number}]")


def schema_in(body: Body) -> tuple[str, Any]:
    """Return the place of the schema in a request, and the schema; ("nowhere", None) without one."""
    for path, value in leaves(body):
        if isinstance(value, dict) and "profile" in (value.get("properties") or {}):
            return f"`{path}`", value
    for path, value in leaves(body):
        if isinstance(value, str) and "properties" in value and "profile" in value:
            return f"text in `{path}`", value
    return "nowhere", None


def _words(schema: Any) -> set[str]:
    if isinstance(schema, str):
        return {word for word in _WORDS if word in schema}
    return {name for path, _ in leaves(schema) if (name := re.sub(r".*\.|\[\d+\]$", "", path)) in _WORDS}


def _read_as(read: Completion | ProviderError) -> str:
    return f"`{read.finish_reason}`" if isinstance(read, Completion) else f"`{type(read).__name__}`"


def _counted(read: Completion | ProviderError) -> str:
    if not isinstance(read, Completion):
        return f"`{type(read).__name__}`"
    assert read.prompt_tokens == PROMPT_TOKENS
    text = "" if read.text == ANSWER or json.loads(read.text) == json.loads(ANSWER) else "; text not read"
    thought = "" if read.reasoning_tokens is None else f", {read.reasoning_tokens} of thought"
    return f"{read.completion_tokens}{thought}{text}"


# -- tables --------------------------------------------------------------------------------------------------------------


def tables() -> dict[str, str]:
    """Return the tables of the page, by name."""
    interpreter = Interpreter()
    requests, replies = [], []
    with LoopbackServer(add_routes=interpreter.add_routes) as server:
        base = server.url.removesuffix("/v1") + "/x"
        for dialect in DIALECTS:
            good = dialect.reply(dialect.endings[0])

            def through(one: str, reply: Body, dialect: Dialect = dialect) -> tuple[str, Body, Any]:
                if one == "litellm":
                    return interpreter.ask(LiteLLM(LiteLLMOptions(api_base=base), Context()), dialect.model, reply)
                return interpreter.ask(OpenAI(OpenAIOptions(api_base=base), Context()), dialect.lean, reply)

            path, body, _ = through("litellm", good)
            place, schema = schema_in(body)
            requests.append(
                [f"{dialect.name}: `{dialect.model}`", f"`{path or '/'}`", place, *_parameters(body, schema)]
            )
            ways = ["litellm", *(["openai"] if dialect.lean else [])]
            counted = {way: _counted(through(way, good)[2]) for way in ways}
            endings = {
                way: ", ".join(f"{e} → {_read_as(through(way, dialect.reply(e))[2])}" for e in dialect.endings)
                for way in ways
            }
            replies.append([dialect.name, dialect.thought, dialect.tokens, _joined(counted), _joined(endings)])
        lean = interpreter.ask(OpenAI(OpenAIOptions(api_base=base), Context()), "any", _chat("stop"))
        place, schema = schema_in(lean[1])
        requests.append(['`[llm] use = "openai"`, any server', f"`{lean[0]}`", place, *_parameters(lean[1], schema)])
    return {
        "versions": f"LiteLLM {version('litellm')}",
        "requests": _table(
            ["dialect", "the call goes to", "the schema arrives as", "keywords lost", "renamed", "dropped"], requests
        ),
        "replies": _table(
            ["dialect", "thought is in", "its tokens are in", "tokens that enhancer reads", "endings and what is read"],
            replies,
        ),
    }


def _parameters(body: Body, schema: Any) -> list[str]:
    """Return the keywords of the schema that are lost, and the parameters that are renamed or dropped."""
    sent = _wire.strict_schema(SCHEMA)
    lost = sorted(_words(sent) - _words(schema)) if schema is not None else []
    renamed, dropped, parents = [], [], set()
    for name, value in PARAMETERS.items():
        place = next((path for path, found in leaves(body) if type(found) is type(value) and found == value), None)
        if place is None:
            dropped.append(f"`{name}`")
            continue
        parent, _, last = place.rpartition(".")
        parents.add(parent)
        if last != name:
            renamed.append(f"`{name}`: `{last}`")
    if parents - {""}:
        renamed.append(f"all in `{', '.join(sorted(parents))}`")
    if schema is None:
        dropped.append("**the schema**")
    return [", ".join(f"`{word}`" for word in lost), ", ".join(renamed), ", ".join(dropped)]


def _joined(by_way: dict[str, str]) -> str:
    if len(set(by_way.values())) == 1:
        return next(iter(by_way.values()))
    return "; ".join(f"{way}: {text}" for way, text in by_way.items())


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell or " " for cell in line) + " |" for line in lines)


def block(page: str, name: str) -> str:
    """Return the block of a page between its marks."""
    found = re.search(rf"<!-- begin {name} -->\n(.*?)\n<!-- end {name} -->", page, re.DOTALL)
    assert found, f"{PAGE} has no block {name!r}"
    return found[1]


def environment() -> dict[str, str]:
    """Return an API key for each provider."""
    names = "OLLAMA HOSTED_VLLM OPENAI ANTHROPIC GEMINI OPENROUTER AZURE MISTRAL XAI TOGETHERAI FIREWORKS GROQ DEEPSEEK"
    return {f"{name}_API_KEY": KEY for name in (*names.split(), "COHERE", "FIREWORKS_AI", "TOGETHER_AI")}


def main() -> None:
    os.environ.update(environment())
    page = PAGE.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, text in tables().items():
            old = block(page, name)
            page = page.replace(f"<!-- begin {name} -->\n{old}\n", f"<!-- begin {name} -->\n{text}\n")
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
