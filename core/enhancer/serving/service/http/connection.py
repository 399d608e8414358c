"""Speak HTTP/1.1 with clients that may be slow, endless, or no clients of HTTP at all.

httptools (Node's llhttp) parses. Everything that a client can make the process keep is bounded: the time for a head and
for a body, the size of either, connections, bytes of bodies and unsent answers (:mod:`.admission`). A request that is
refused before it was read whole is answered, and the connection closed once the client has had time to read that.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

import httptools

from enhancer.serving.service.answers import JSON, Answer, error_answer, http_error, slow_body, too_large
from enhancer.serving.service.http.admission import Admission

if TYPE_CHECKING:
    from enhancer.serving.service.endpoints import Endpoints, Exchange

IDLE_SECONDS: Final = 10.0
"""Until the first byte of a connection."""
KEEP_ALIVE_SECONDS: Final = 5.0
"""Between an answer and the next request."""
LINGER_SECONDS: Final = 2.0
"""For a client to read why its request was refused, while it may still be sending."""
MAX_HEAD_BYTES: Final = 1 << 16
"""Maximum size of a head."""
_HEADER_FRAME: Final = 4
"""Bytes of a header besides name and value: the colon, a blank and the end of the line."""
_UNSENT_BYTES: Final = 1 << 14
"""Unsent bytes of an answer beyond which the next request of the connection waits."""
_QUEUED_BYTES: Final = 1 << 10
"""Bytes that a request counts as while it waits for an earlier one of its connection, whatever its body."""
_MAX_LINGERING: Final = 256
"""Maximum refused connections that are given time; further ones are reset."""

# Phases of a connection.
_NEW, _IDLE, _HEAD, _BODY, _WAITING, _LINGERING, _CLOSING, _CLOSED = range(8)

_log = logging.getLogger("enhancer.serving")
_REASONS: Final = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

_Request = tuple[str, str, str, bytes, bool, bool, int]
"""Method, path, query, body, whether the connection is kept, whether this is HTTP/1.0, and the bytes held for it."""


class Connections:
    """All connections of a process.

    Args:
        endpoints: What answers requests.
        access_log: Log each request.
        idle: Seconds until the first byte of a connection.
    """

    def __init__(self, endpoints: Endpoints, *, access_log: bool = False, idle: float = IDLE_SECONDS) -> None:
        self.endpoints, self.access_log, self.idle = endpoints, access_log, idle
        self.limits = endpoints.limits
        self.admission = Admission(endpoints.limits, endpoints.metrics)
        self.open: set[Connection] = set()
        self.closing = False
        """No further requests are taken on open connections."""
        self.lingering = 0
        self._date, self._date_at = b"", 0

    def connect(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self)

    @property
    def tick(self) -> float:
        """Seconds between looks for connections whose time is over."""
        return min(0.5, self.limits.arrival / 4)

    async def watch(self) -> None:
        """End what takes too long, until cancelled."""
        while True:
            await asyncio.sleep(self.tick)
            now = time.monotonic()
            for connection in [one for one in self.open if one.deadline < now]:
                try:
                    connection.time_out()
                except Exception:  # noqa: BLE001 - no failure of one may leave the others without a clock
                    _log.exception("a connection could not be ended")
                    connection.abort()

    async def close(self, grace: float) -> None:
        """Close idle connections, and wait for requests that have begun; after ``grace`` seconds reset them."""
        self.closing = True
        for connection in list(self.open):
            connection.close_if_idle()
        until = time.monotonic() + grace
        while self.open and time.monotonic() < until:  # noqa: ASYNC110 - connections end in many places
            await asyncio.sleep(0.02)
        for connection in list(self.open):
            connection.abort()

    def date(self) -> bytes:
        """Return the date header, made once a second."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at, self._date = now, b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        return self._date


class Connection(asyncio.Protocol):
    """One connection. Requests on it are answered one after the other."""

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self._transport: asyncio.Transport
        self._parser: Any = None
        self.deadline = math.inf
        """When the current phase must be over, on the monotonic clock."""
        self._phase = _NEW
        self._counted = False
        self._url = b""
        self._method = self._path = self._query = ""
        self._head_bytes = 0
        """Bytes of a head that is arriving."""
        self._head_size = 0
        """Bytes of the parts of a head, which may be complete within one read."""
        self._in_head = self._in_body = self._expects = False
        self._length = 0
        """Bytes of the body, as its head says; -1 if the head does not say."""
        self._parts: list[bytes] = []
        self._held = 0
        """Bytes held for the body that is arriving."""
        self._unsent = 0
        """Bytes held for answers that the client does not read."""
        self._left: float = math.inf
        """Unsent bytes when the time of a client that does not read was last over."""
        self._queue: deque[_Request | Answer] = deque()
        self._current: _Request | None = None
        self._exchange: Exchange | None = None
        self._deaf = False
        """Whatever else arrives is not read."""
        self._unread = False
        """The client may be sending a request that is not read to its end."""
        self._advancing = self._blocked = False

    # --- asyncio ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock, or refuse the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._transport.set_write_buffer_limits(high=_UNSENT_BYTES)
        self._shared.open.add(self)
        refusal = self._shared.admission.connect()
        if refusal is not None:
            self._shared.endpoints.metrics.refused(refusal.status)
            self._refuse(refusal)
            return
        self._counted = True
        self._parser = httptools.HttpRequestParser(self)
        self._wait(_NEW, self._shared.idle)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Drop what the client wanted."""
        shared = self._shared
        shared.open.discard(self)
        if self._counted:
            shared.admission.disconnect()
        if self._phase == _LINGERING:
            shared.lingering -= 1
        held = self._held + self._unsent + sum(one[-1] for one in self._queue if not isinstance(one, Answer))
        if self._current is not None:
            held += self._current[-1]
        shared.admission.release(held)
        self._held = self._unsent = 0
        self._queue.clear()
        self._phase, self._deaf, self._current, self._parser = _CLOSED, True, None, None
        self.deadline = math.inf
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived."""
        if self._deaf:
            return
        if self._phase in (_NEW, _IDLE):
            self._wait(_HEAD, self._shared.limits.arrival)
        was_in_head = self._in_head
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # the request is answered, and what follows it is not HTTP
            self._deaf = True
        except httptools.HttpParserCallbackError as error:
            _log.error("a request failed", exc_info=error)
            self._refuse_with(http_error(500, "this is a bug in enhancer", "the log has the traceback"))
        except httptools.HttpParserError as error:
            self._refuse_with(http_error(400, f"this is not HTTP/1.1: {error}"))
        if was_in_head and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_with(http_error(431, f"the head has more than {MAX_HEAD_BYTES:,} bytes"))

    def pause_writing(self) -> None:
        """Hold back further answers: the client does not read."""
        self._blocked = True
        self._unsent = self._transport.get_write_buffer_size()
        if self._shared.admission.hold(self._unsent) is not None:
            self._unsent = 0
            self.abort()
        else:
            self.deadline = time.monotonic() + self._shared.limits.arrival

    def resume_writing(self) -> None:
        """Go on with answers."""
        self._blocked = False
        self._shared.admission.release(self._unsent)
        self._unsent = 0
        if self._phase < _LINGERING:
            self._next_phase()
            self._advance()

    # --- httptools ----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Note the start of a head."""
        self._in_head, self._head_bytes, self._head_size = True, 0, 0
        self._url, self._length, self._expects = b"", 0, False

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._head_size += len(url)
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note the headers that matter before the body has arrived."""
        size = len(name)
        self._head_size += size + len(value) + _HEADER_FRAME
        if size == 14 and name.lower() == b"content-length":
            self._length = int(value)
        elif size == 17 and name.lower() == b"transfer-encoding":
            self._length = -1
        elif size == 6 and name.lower() == b"expect":
            self._expects = value.lower() == b"100-continue"

    def on_headers_complete(self) -> None:
        """Answer before a body arrives that nobody reads, or that is too long."""
        self._in_head = False
        if self._deaf:
            return
        if self._head_size > MAX_HEAD_BYTES:
            self._refuse_with(http_error(431, f"the head has more than {MAX_HEAD_BYTES:,} bytes"))
            return
        self._method = self._parser.get_method().decode()
        self._path, _, self._query = self._url.decode("utf-8", "replace").partition("?")
        if not self._path.startswith("/"):  # a proxy's form: http://host/path
            self._path = "/" + self._path.partition("://")[2].partition("/")[2]
        if "%" in self._path:
            self._path = unquote(self._path)
        if not self._length:
            return
        limit = self._shared.limits.body
        if not self._shared.endpoints.takes_body(self._method, self._path):
            self._unread = True
            self._enqueue(b"", keep=False)
        elif self._length > limit:
            self._refuse_with(error_answer(too_large(limit)))
        else:
            self._in_body = True
            if self._phase == _HEAD:
                self._wait(_BODY, self._shared.limits.arrival)
            if self._expects and self._current is None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body, within the limits."""
        if self._deaf:
            return
        limit = self._shared.limits.body
        if self._held + len(body) > limit:
            self._refuse_with(error_answer(too_large(limit)))
        elif (refusal := self._shared.admission.hold(len(body))) is not None:
            self._refuse_with(refusal)
        else:
            self._held += len(body)
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer the request, or let it wait for the one before it."""
        self._in_body = False
        if not self._deaf:
            parser = self._parser
            self._enqueue(b"".join(self._parts), keep=parser.should_keep_alive() and not parser.should_upgrade())

    # --- answering ----------------------------------------------------------------------------------------------

    def _enqueue(self, body: bytes, *, keep: bool) -> None:
        held = self._held
        if self._current is not None or self._queue:  # pipelined
            if (refusal := self._shared.admission.hold(_QUEUED_BYTES)) is not None:
                self._refuse_with(refusal)
                return
            held += _QUEUED_BYTES
        self._held, self._parts = 0, []
        is_old = self._parser.get_http_version() == "1.0"
        self._queue.append((self._method, self._path, self._query, body, keep, is_old, held))
        self._deaf = self._deaf or not keep
        self._advance()

    def _refuse_with(self, answer: Answer) -> None:
        """Answer a request that cannot be read, after those before it, and hear no more."""
        if self._deaf:
            return
        self._deaf = self._unread = True
        self._shared.endpoints.metrics.refused(answer.status)
        self._shared.admission.release(self._held)
        self._held, self._parts = 0, []
        self._queue.append(answer)
        self._advance()

    def _advance(self) -> None:
        """Take the next requests, as long as they are answered at once."""
        if self._advancing:
            return
        self._advancing = True
        while self._queue and self._current is None and not self._blocked:
            request = self._queue.popleft()
            if isinstance(request, Answer):
                self._queue.clear()
                self._refuse(request)
                break
            self._current, self._phase, self.deadline = request, _WAITING, math.inf
            self._exchange = None
            method, path, query, body, _, _, _ = request
            exchange = self._shared.endpoints.handle(method, path, query, body, self._reply)
            if self._current is request:
                self._exchange = exchange
        self._advancing = False

    def _reply(self, answer: Answer) -> None:
        """Send the answer to the current request."""
        request, self._current, self._exchange = self._current, None, None
        if request is None:  # the client has left
            return
        method, path, query, _, keep, is_old, held = request
        if held:
            self._shared.admission.release(held)
        if self._shared.access_log:
            peer = self._transport.get_extra_info("peername") or ("-",)
            _log.info('%s "%s %s%s" %d', peer[0], method, path, f"?{query}" if query else "", answer.status)
        keep = keep and not self._shared.closing
        self._write(answer, keep=keep, is_old=is_old, with_body=method != "HEAD")
        if keep:
            self._next_phase()
            self._advance()
        else:
            self._end()

    def _write(self, answer: Answer, *, keep: bool, is_old: bool = False, with_body: bool = True) -> None:
        kind = b"application/json" if answer.media_type is JSON else answer.media_type.encode()
        head = (
            f"HTTP/1.1 {_REASONS[answer.status]}\r\ncontent-length: {len(answer.body)}\r\ncontent-type: ".encode()
            + kind
            + b"\r\n"
            + self._shared.date()
        )
        for name, value in answer.headers:
            head += f"{name}: {value}\r\n".encode()
        if not keep:
            head += b"connection: close\r\n"
        elif is_old:
            head += b"connection: keep-alive\r\n"
        self._transport.write(head + b"\r\n" + answer.body if with_body else head + b"\r\n")

    def _refuse(self, answer: Answer) -> None:
        self._unread = True
        self._write(answer, keep=False)
        self._end()

    def _end(self) -> None:
        """Close after the last answer; if the client is still sending, not before it has had time to read that."""
        self._deaf = True
        if self._transport.is_closing():
            return
        if self._unread and self._shared.lingering < _MAX_LINGERING and self._transport.can_write_eof():
            self._shared.lingering += 1
            self._wait(_LINGERING, LINGER_SECONDS)
            self._transport.write_eof()
        else:
            self._wait(_CLOSING, self._shared.limits.arrival)
            self._transport.close()

    # --- time ---------------------------------------------------------------------------------------------------

    def _wait(self, phase: int, seconds: float) -> None:
        self._phase, self.deadline = phase, time.monotonic() + seconds

    def _next_phase(self) -> None:
        """Set the clock after an answer."""
        if self._queue or self._current is not None or self._blocked:
            return
        if self._in_head or self._in_body:
            self._wait(_HEAD if self._in_head else _BODY, self._shared.limits.arrival)
        else:
            self._wait(_IDLE, KEEP_ALIVE_SECONDS)

    def time_out(self) -> None:
        """End a phase that has taken too long."""
        if self._blocked or self._phase >= _LINGERING:
            self._end_writing()
        elif self._phase == _BODY:
            self._refuse_with(error_answer(slow_body()))
        elif self._in_head:
            self._refuse_with(http_error(408, "the head of the request did not arrive in time"))
        else:
            self._transport.close()

    def _end_writing(self) -> None:
        """Give a client that reads slowly more time, and reset the connection of one that does not read."""
        left = self._transport.get_write_buffer_size()
        if 0 < left < self._left:
            self.deadline = time.monotonic() + self._shared.limits.arrival
        else:
            self.abort()
        self._left = left

    def close_if_idle(self) -> None:
        """Close the connection if no request has begun on it."""
        if self._phase in (_NEW, _IDLE):
            self._transport.close()

    def abort(self) -> None:
        """Reset the connection."""
        self._transport.abort()
