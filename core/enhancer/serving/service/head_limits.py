"""Limit the time and the size of a request's head.

A client that opens connections and sends each head byte by byte (slow loris) occupies a file descriptor per
connection until none is left for others. uvicorn has a timeout for idle time between two requests, but none before the
first request and none while a head arrives.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

IDLE_SECONDS: Final = 10.0
"""Until the first byte of a connection; between requests uvicorn's own timeout applies (5 seconds)."""
MAX_HEAD_BYTES: Final = 1 << 16
"""Maximum size of a head. h11 has a limit of its own, httptools has none."""


class HeadLimits(asyncio.Protocol):
    """Mixin for uvicorn's HTTP protocols, placed before them; see :func:`with_head_limits`.

    The timer runs while no request is being answered. It starts at the first byte that arrives and further bytes do not
    extend it, so it also ends a body that continues after its request was rejected.
    """

    head_seconds: float
    idle_seconds: float
    transport: asyncio.Transport
    cycle: Any
    """uvicorn's state of the latest request with a complete head."""

    _timer: asyncio.TimerHandle | None = None
    _has_begun = False
    """Bytes have arrived since the timer was set."""
    _in_head = False
    """Set by httptools' callbacks."""
    _head_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the idle timer."""
        super().connection_made(transport)
        self._has_begun = False
        self._set_timer(self.idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the head timer at the first byte; stop it once the head is complete."""
        was_in_head = self._in_head
        super().data_received(data)
        if self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
            self._stop_timer()
        elif not self._has_begun:
            self._has_begun = True
            self._set_timer(self.head_seconds)
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._reject("431 Request Header Fields Too Large", f"the head has more than {MAX_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """Note the start of a head; called by httptools."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()  # type: ignore[misc]  # defined by the httptools protocol

    def on_headers_complete(self) -> None:
        """Note the end of a head; called by httptools."""
        self._in_head = False
        super().on_headers_complete()  # type: ignore[misc]  # likewise

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP with a JSON error, like every other error of the service; called by uvicorn."""
        self._reject("400 Bad Request", msg)

    def _set_timer(self, seconds: float) -> None:
        self._stop_timer(has_begun=self._has_begun)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._time_out)

    def _stop_timer(self, *, has_begun: bool = False) -> None:
        self._has_begun = has_begun
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if self._in_head or (self._has_begun and self.cycle is None):
            self._reject("408 Request Timeout", "the head of the request did not arrive in time")
        else:  # no request is open
            self.transport.close()

    def _reject(self, status: str, message: str) -> None:
        if self.transport.is_closing():
            return
        body = json.dumps({"error": {"type": "HTTPError", "message": message, "hint": None}}).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()
        self._stop_timer()


def with_head_limits(
    base: type[asyncio.Protocol], seconds: float, idle: float = IDLE_SECONDS
) -> type[asyncio.Protocol]:
    """Return a subclass of one of uvicorn's HTTP protocols that enforces the limits.

    Args:
        base: uvicorn's protocol class.
        seconds: Time from the first byte of a head to its last.
        idle: Time until the first byte of a connection.
    """
    return type(f"Limited{base.__name__}", (HeadLimits, base), {"head_seconds": seconds, "idle_seconds": idle})
