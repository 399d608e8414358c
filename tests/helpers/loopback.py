"""Serve the OpenAI protocol on 127.0.0.1, with faults on demand.

In tests, use the fixture ``llm_server``, or ``LoopbackServer`` as a context manager::

    from loopback import Behaviour, fails, returns, Script

    def test_something(llm_server):
        llm_server.script = Script(sequence=[fails(429, retry_after="2"), Behaviour(fault="half_body")])
        ...                                    # two faults, then valid answers
        assert llm_server.count == 3

As a separate process, for benchmarks::

    python tests/helpers/loopback.py --latency 0.2      # prints {"url": "http://127.0.0.1:PORT/v1"} and serves until stdin closes

A script chooses each answer, in order of precedence, by ``script.choose(number, body)``, the next entry of
``script.sequence``, or ``script.default``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from aiohttp import web

Body = dict[str, Any]
Answer = Callable[[Body], str]
Fault = Literal[
    "none",
    "reset_before",  # RST before the answer
    "reset_in",  # RST within the body
    "reset_after",  # RST after the body
    "half_body",  # half of content-length, then a normal close
    "hang",  # no answer
    "drip",  # a byte every ``drip_every`` seconds
    "gzip_bomb",  # ``bomb_bytes`` of spaces, gzipped
    "flood",  # the same, uncompressed and without content-length
    "bad_utf8",
    "truncated_json",
    "not_json",  # an HTML page with status 200
    "empty_body",
    "no_choices",  # JSON, but not a completion
    "not_object",  # a JSON list
    "error_200",  # the object ``error`` with status 200
    "echo_key",  # an error whose text contains the API key of the request
    "redirect",  # to another host
]


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """Answer to one request."""

    answer: str | Answer | None = None
    """Text of the completion, or a function of the request's JSON; by default an instance of the requested schema."""
    latency: float = 0.0
    """Seconds before the answer."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault = "none"
    error: Mapping[str, Any] | None = None
    """``error`` object of an answer whose status is not 200."""
    flat_error: bool = False
    """Whether this object is the whole answer, as with SGLang."""
    finish_reason: str | None = "stop"
    refusal: str | None = None
    usage: bool = True
    """Whether the answer has token counts."""
    usage_override: Mapping[str, Any] | Callable[[Body], Mapping[str, Any]] | None = None
    """Entries of ``usage`` that replace or extend the server's counts, or a function of the request's JSON."""
    cost: float | None = None
    """``usage.cost``, which some gateways report."""
    message: Any = None
    """Message of the choice, in place of the assistant's message with ``answer``."""
    body: Mapping[str, Any] | Callable[[Body], Mapping[str, Any]] | None = None
    """Entries that replace those of the response, or a function of the request's JSON."""
    drip_every: float = 0.3
    """Seconds between bytes of the fault ``drip``."""
    bomb_bytes: int = 64 * 1024 * 1024


def returns(answer: str | Answer, **more: Any) -> Behaviour:
    """Return a valid answer with this text."""
    return Behaviour(answer=answer, **more)


def fails(
    status: int, message: str = "", *, retry_after: str | None = None, code: str | None = None, **more: Any
) -> Behaviour:
    """Return an HTTP error in OpenAI's format."""
    headers = {**more.pop("headers", {}), **({"Retry-After": retry_after} if retry_after is not None else {})}
    error = {"message": message or f"loopback says {status}", "type": "loopback_error", "param": None, "code": code}
    return Behaviour(status=status, error=error, headers=headers, **more)


@dataclass
class Script:
    """Answers of the server; may be replaced or changed while it runs."""

    default: Behaviour = field(default_factory=Behaviour)
    sequence: list[Behaviour] = field(default_factory=list)
    """Consumed from the front, one per request."""
    choose: Callable[[int, Body], Behaviour | None] | None = None
    """Called with the request's number (from 0) and JSON; None falls back to ``sequence`` and ``default``."""
    models: Sequence[str | Mapping[str, Any]] = ("loopback-model",)
    """Names of models, or whole entries of the list."""


@dataclass(frozen=True, kw_only=True)
class Received:
    """A received request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body | None
    at: float
    """``time.monotonic()`` on arrival."""


def approximate_tokens(text: str) -> int:
    return max(1, len(text.encode()) // 4)


def instance_of(schema: Mapping[str, Any], salt: str) -> Any:
    """Return a deterministic instance of a simple JSON schema such as profiles use.

    An array whose elements have a property limited by ``enum`` (such as ``id``) gets one element for each value.
    """
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if kind == "object":
        return {name: instance_of(sub, f"{salt}.{name}") for name, sub in schema.get("properties", {}).items()}
    if kind == "array":
        element = schema.get("items", {})
        enums = {k: v["enum"] for k, v in element.get("properties", {}).items() if "enum" in v}
        if enums:
            name, values = next(iter(enums.items()))
            return [{**instance_of(element, f"{salt}.{value}"), name: value} for value in values]
        return [instance_of(element, f"{salt}.{n}") for n in range(max(schema.get("minItems", 0), 3))]
    if kind == "string":
        digest = hashlib.sha256(salt.encode()).hexdigest()
        words = [_WORDS[int(digest[n : n + 2], 16) % len(_WORDS)] for n in range(0, 24, 2)]
        element_of_an_array = salt.rsplit(".", maxsplit=1)[-1].isdigit()
        text = f"{words[0]}-{digest[:4]}" if element_of_an_array else " ".join(words)
        return text[: schema.get("maxLength", len(text))].strip()
    return {"integer": 1, "number": 0.5, "boolean": True}.get(str(kind))


_WORDS = (
    *("warm", "quiet", "bright", "slow", "restless", "wry", "tender", "grand", "spare", "lush", "sharp", "gentle"),
    *("stories", "about", "friendship", "loss", "wonder", "travel", "family", "craft", "memory", "music", "people"),
)


def default_answer(body: Body) -> str:
    """Return an instance of the requested schema, or a profile; it depends on the messages only."""
    salt = hashlib.sha256(json.dumps(body.get("messages"), sort_keys=True).encode()).hexdigest()[:12]
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema is None:
        schema = {
            "type": "object",
            "properties": {"profile": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
        }
    return json.dumps(instance_of(schema, salt))


def completion_body(behaviour: Behaviour, body: Body, number: int) -> bytes:
    """Return the JSON of a chat completion."""
    answer = behaviour.answer
    text = default_answer(body) if answer is None else answer if isinstance(answer, str) else answer(body)
    message: Body = {"role": "assistant", "content": None if behaviour.refusal else text}
    if behaviour.refusal:
        message["refusal"] = behaviour.refusal
    completion: Body = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": body.get("model", "loopback-model"),
        "choices": [{"index": 0, "message": message, "finish_reason": behaviour.finish_reason}],
    }
    if behaviour.usage:
        prompt = sum(approximate_tokens(str(m.get("content", ""))) for m in body.get("messages", []))
        spent = approximate_tokens(text)
        completion["usage"] = {"prompt_tokens": prompt, "completion_tokens": spent, "total_tokens": prompt + spent}
        if behaviour.cost is not None:
            completion["usage"]["cost"] = behaviour.cost
    if (override := behaviour.usage_override) is not None:
        changes = override(body) if callable(override) else override
        usage = completion["usage"] = {**completion.get("usage", {}), **changes}
        if "total_tokens" not in changes and {"prompt_tokens", "completion_tokens"} & changes.keys():
            usage.pop("total_tokens", None)
    if behaviour.message is not None:
        completion["choices"][0]["message"] = behaviour.message
    if (changes := behaviour.body) is not None:
        completion = {**completion, **(changes(body) if callable(changes) else changes)}
    return json.dumps(completion).encode()


def _bomb(size: int) -> bytes:
    out = io.BytesIO()
    block = b" " * (1024 * 1024)
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as squeezed:
        for _ in range(size // len(block)):
            squeezed.write(block)
    return out.getvalue()


def _reset(request: web.Request) -> None:
    """Close the connection with RST."""
    transport = request.transport
    if transport is not None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


class LoopbackServer:
    """Server in a thread with an event loop of its own.

    Args:
        script: Initial script.
        port: Port; 0 lets the system choose.
        keep_requests: Record requests.
        add_routes: Called with the application and this server before it starts.

    Attributes:
        script: Current script.
        requests: Received requests, in order.
        max_in_flight: Maximum number of simultaneous requests so far.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        port: int = 0,
        keep_requests: bool = True,
        add_routes: Callable[[web.Application, LoopbackServer], None] | None = None,
    ) -> None:
        self._add_routes = add_routes
        self.script = script or Script()
        self.requests: list[Received] = []
        self.max_in_flight = 0
        self.in_flight = 0
        self.answered = 0
        self._completions = 0
        self._keep = keep_requests
        self._port = port
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None
        self._bombs: dict[int, bytes] = {}
        self._thread = threading.Thread(target=self._serve, name="loopback", daemon=True)

    @property
    def url(self) -> str:
        """Base URL, for ``api_base``."""
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def count(self) -> int:
        """Number of completion requests."""
        return self._completions

    @property
    def bodies(self) -> list[Body]:
        """JSON of the completion requests, in order."""
        return [r.body for r in self.requests if r.body is not None]

    def reset_counts(self) -> None:
        """Forget the requests so far."""
        self.requests.clear()
        self.max_in_flight = self.in_flight
        self._completions = self.answered = 0

    def start(self) -> Self:
        self._thread.start()
        self._started.wait(10)
        if self._failure is not None:
            raise self._failure
        return self

    def close(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(10)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:  # noqa: BLE001 - raised by start()
            self._failure = error
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._completion)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/stats", self._stats)
        if self._add_routes is not None:
            self._add_routes(app, self)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port, backlog=4096)
        await site.start()
        self._port = runner.addresses[0][1]
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    # -- routes -----------------------------------------------------------------------------------------------------

    def record(self, request: web.Request, body: Body | None) -> None:
        """Record a request."""
        if self._keep:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.requests.append(
                Received(method=request.method, path=request.path, headers=headers, body=body, at=time.monotonic())
            )

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response({"count": self._completions, "max_in_flight": self.max_in_flight})

    async def _models(self, request: web.Request) -> web.Response:
        self.record(request, None)
        cards = [{"id": m, "object": "model"} if isinstance(m, str) else dict(m) for m in self.script.models]
        return web.json_response({"object": "list", "data": cards})

    async def _completion(self, request: web.Request) -> web.StreamResponse:
        number = self._completions
        self._completions += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            body = json.loads(await request.read())
            self.record(request, body)
            script = self.script
            behaviour = script.choose(number, body) if script.choose else None
            if behaviour is None:
                behaviour = script.sequence.pop(0) if script.sequence else script.default
            if behaviour.latency:
                await asyncio.sleep(behaviour.latency)
            response = await self._behave(request, behaviour, body, number)
            self.answered += 1
            return response
        finally:
            self.in_flight -= 1

    async def _behave(self, request: web.Request, behaviour: Behaviour, body: Body, number: int) -> web.StreamResponse:
        if behaviour.fault == "echo_key":
            message = f"Incorrect API key provided: {request.headers.get('Authorization', '')}. Headers: {dict(request.headers)}"
            error = {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}
            return web.json_response({"error": error}, status=behaviour.status, headers=behaviour.headers)
        if behaviour.fault == "redirect":
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:9/v1/chat/completions"})
        good = (
            completion_body(behaviour, body, number)
            if behaviour.status == 200
            else json.dumps(behaviour.error if behaviour.flat_error else {"error": behaviour.error}).encode()
        )
        if behaviour.fault == "none":
            return web.Response(
                body=good, status=behaviour.status, content_type="application/json", headers=behaviour.headers
            )
        if behaviour.fault == "reset_before":
            _reset(request)
            return web.Response()
        if behaviour.fault == "hang":
            await asyncio.sleep(3600)
        plain: dict[str, bytes] = {
            "bad_utf8": good.replace(b'"role"', b'"\xff\xfe\xc3"'),
            "truncated_json": good[: len(good) * 2 // 3],
            "not_json": b"<html><body>502 Bad Gateway</body></html>",
            "empty_body": b"",
            "no_choices": b'{"object": "chat.completion", "choices": []}',
            "not_object": b"[1, 2, 3]",
            "error_200": json.dumps({"error": behaviour.error}).encode(),
        }
        if behaviour.fault in plain:
            kind = "text/html" if behaviour.fault == "not_json" else "application/json"
            return web.Response(
                body=plain[behaviour.fault], status=behaviour.status, content_type=kind, headers=behaviour.headers
            )
        return await self._stream(request, behaviour, good)

    async def _stream(self, request: web.Request, behaviour: Behaviour, good: bytes) -> web.StreamResponse:
        response = web.StreamResponse(
            status=behaviour.status, headers={"Content-Type": "application/json", **behaviour.headers}
        )
        if behaviour.fault == "gzip_bomb":
            good = self._bombs.setdefault(behaviour.bomb_bytes, b"") or _bomb(behaviour.bomb_bytes)
            self._bombs[behaviour.bomb_bytes] = good
            response.headers["Content-Encoding"] = "gzip"
        if behaviour.fault != "flood":
            response.content_length = len(good)
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            if behaviour.fault == "gzip_bomb":
                await response.write(good)
            elif behaviour.fault == "flood":
                for _ in range(behaviour.bomb_bytes // 65536):
                    await response.write(b" " * 65536)
            elif behaviour.fault == "drip":
                for n in range(len(good)):
                    await response.write(good[n : n + 1])
                    await asyncio.sleep(behaviour.drip_every)
            elif behaviour.fault in {"reset_in", "half_body"}:
                await response.write(good[: len(good) // 2])
                await asyncio.sleep(0.02)
                if behaviour.fault == "reset_in":
                    _reset(request)
                elif request.transport is not None:
                    request.transport.close()
            elif behaviour.fault == "reset_after":
                await response.write(good)
                await asyncio.sleep(0.02)
                _reset(request)
        return response


@contextlib.contextmanager
def spawn(*, latency: float = 0.0) -> Iterator[str]:
    """Run the server in a separate process and yield its base URL. For benchmarks: a thread would share the GIL."""
    command = [sys.executable, __file__, "--latency", str(latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.stdin.close()
            process.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description="OpenAI protocol on 127.0.0.1, until stdin closes.")
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    script = Script(default=Behaviour(latency=given.latency))
    with LoopbackServer(script, port=given.port, keep_requests=False) as server:
        print(json.dumps({"url": server.url}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
