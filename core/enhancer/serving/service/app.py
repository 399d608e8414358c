"""The service as an ASGI application, to be mounted in another program or run by any ASGI server.

:mod:`enhancer.serving.service.server` runs the same endpoints without ASGI. That takes less CPU and bounds connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from enhancer.serving.service.answers import Answer, error_answer, slow_body, too_large
from enhancer.serving.service.endpoints import Endpoints
from enhancer.serving.service.settings import WATCH, Limits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from enhancer.serving.service.live_ranker import LiveRanker

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]


def create_app(live: LiveRanker, limits: Limits | None = None, *, watch: float = WATCH) -> Application:
    """Build the application.

    Args:
        live: Ranker to serve.
        limits: Limits on requests. Those on connections and on bytes in memory are the server's matter.
        watch: Seconds between checks for a new artifact; 0 disables them.
    """
    return Application(live, (limits or Limits()).checked(), watch)


class Application:
    """An ASGI 3 application."""

    def __init__(self, live: LiveRanker, limits: Limits, watch: float) -> None:
        self._live, self._limits, self._watch = live, limits, watch
        self._endpoints = Endpoints(live, limits)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan of the application."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            answer = await self._answer(scope, receive)
            if answer is not None:
                await _send(scope, send, answer)
        else:
            raise RuntimeError(f"this application serves http, not {scope['type']}")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        watcher = asyncio.create_task(self._live.watch(self._watch)) if self._watch > 0 else None
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if watcher is not None:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        await asyncio.to_thread(self._endpoints.batcher.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Message, receive: Receive) -> Answer | None:
        """Return the answer to a request, or None if the client has left."""
        method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
        body: bytes | Answer | None = b""
        if self._endpoints.takes_body(method, path):
            body = await self._body(receive)
        if not isinstance(body, bytes):
            return body
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        query = scope["query_string"].decode("utf-8", "replace")
        exchange = self._endpoints.handle(method, path, query, body, answered.set_result)
        try:
            return await answered
        except asyncio.CancelledError:
            if exchange is not None:
                exchange.cancel()
            raise

    async def _body(self, receive: Receive) -> bytes | Answer | None:
        limit, body = self._limits.body, bytearray()
        try:
            async with asyncio.timeout(self._limits.arrival):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > limit:
                        return error_answer(too_large(limit))
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            return error_answer(slow_body())


async def _send(scope: Message, send: Send, answer: Answer) -> None:
    headers = [("content-type", answer.media_type), ("content-length", str(len(answer.body))), *answer.headers]
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})
