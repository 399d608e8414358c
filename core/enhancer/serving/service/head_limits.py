"""A limit on the time and the length of a request's head, which uvicorn leaves to a proxy.

Whoever opens connections and lets each head trickle in (slow loris) holds a file descriptor for each, and with all of
them taken nobody else is answered. uvicorn times what is idle between two requests, and nothing before the first one
nor from the first byte of a head on.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

IDLE_SECONDS: Final = 10.0
"""For the first byte of the first request; between requests uvicorn counts by itself (5 seconds)."""
HEAD_BYTES: Final = 1 << 16
"""In a head, at most. h11 has a limit of its own, httptools has none."""


class HeadLimits(asyncio.Protocol):
    """Mixed into one of uvicorn's protocols, before it; see :func:`limited`.

    The clock runs while no request is being answered: from the first byte that comes then, and not anew with each
    further one. So it also ends a body that goes on after its request was refused.
    """

    head_seconds: float
    idle_seconds: float
    transport: asyncio.Transport
    cycle: Any
    """uvicorn's, of the newest request whose head was whole."""

    _clock: asyncio.TimerHandle | None = None
    _begun = False
    """Something has come since the clock was set."""
    _in_head = False
    """As httptools tells."""
    _length = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to count."""
        super().connection_made(transport)
        self._begun = False
        self._set_clock(self.idle_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count no more."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See whether a head is whole after it."""
        was_in_head = self._in_head
        super().data_received(data)
        if self.transport.is_closing() or (self.cycle is not None and not self.cycle.response_complete):
            self._stop_clock()
        elif not self._begun:
            self._begun = True
            self._set_clock(self.head_seconds)
        if was_in_head and self._in_head:
            self._length += len(data)
            if self._length > HEAD_BYTES:
                self._refuse("431 Request Header Fields Too Large", f"the head has more than {HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """Called by httptools."""
        self._in_head, self._length = True, 0
        super().on_message_begin()  # type: ignore[misc]  # what it is mixed into has it where it is called

    def on_headers_complete(self) -> None:
        """Called by httptools."""
        self._in_head = False
        super().on_headers_complete()  # type: ignore[misc]  # likewise

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn for what is no HTTP; every error of the service is JSON."""
        self._refuse("400 Bad Request", msg)

    def _set_clock(self, seconds: float) -> None:
        self._stop_clock(begun=self._begun)
        self._clock = asyncio.get_running_loop().call_later(seconds, self._late)

    def _stop_clock(self, *, begun: bool = False) -> None:
        self._begun = begun
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _late(self) -> None:
        self._clock = None
        if self._in_head or (self._begun and self.cycle is None):
            self._refuse("408 Request Timeout", "the head of the request did not arrive in time")
        else:  # nothing was asked, or what was asked last is answered
            self.transport.close()

    def _refuse(self, status: str, message: str) -> None:
        if self.transport.is_closing():
            return
        body = json.dumps({"error": {"type": "HTTPError", "message": message, "hint": None}}).encode()
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()
        self._stop_clock()


def limited(base: type[asyncio.Protocol], seconds: float, idle: float = IDLE_SECONDS) -> type[asyncio.Protocol]:
    """One of uvicorn's HTTP protocols, with limits.

    Args:
        base: uvicorn's.
        seconds: From the first byte of a head to its last.
        idle: Until the first byte of a connection.
    """
    return type(f"Limited{base.__name__}", (HeadLimits, base), {"head_seconds": seconds, "idle_seconds": idle})
