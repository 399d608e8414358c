"""Dialects of LLM providers: requests captured as the clients send them, and replies in the form that providers document.

``docs/reference/dialects.md`` is made from this. Write its tables anew with::

    python tests/helpers/provider_dialects.py
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from aiohttp import web
from dialect_replies import (
    ANSWER,
    DIALECTS,
    PROMPT_TOKENS,
    Body,
    Dialect,
    chat,
)
from loopback import LoopbackServer

from enhancer.contracts import Completion, Context, LLMProvider, Message, Request
from enhancer.errors import ProviderError
from enhancer_plugins.llm.litellm import LiteLLM, LiteLLMOptions
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions
from enhancer_plugins.network import wire

PAGE = Path(__file__).parents[2] / "docs/reference/dialects.md"
KEY = "sk-test-0123456789abcdef"
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
        lean = interpreter.ask(OpenAI(OpenAIOptions(api_base=base), Context()), "any", chat("stop"))
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
    sent = wire.strict_schema(SCHEMA)
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
