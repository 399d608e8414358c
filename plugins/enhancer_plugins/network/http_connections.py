"""Send POST requests to one server over a pool of connections, without a proxy.

A request is one write, and a response one future. That takes a quarter of the CPU time of aiohttp's client, which is
made for every method, redirects, cookies and streams.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import quote, urlsplit

from enhancer.errors import PluginError
from enhancer_plugins.network.http_response import ResponseError, ResponseParser

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer_plugins.network.http_response import Response

_KEEP_ALIVE = 15.0
"""Seconds after which an idle connection is closed."""
_ADDRESS_SECONDS = 300.0
"""Seconds for which the addresses of the server are kept."""
_NEXT_ADDRESS_DELAY = 0.25
"""Seconds after which the next address is tried beside one that does not answer (RFC 8305)."""
_PATH_CHARACTERS = "/%:@!$&'()*+,;=~-._"
_Address: TypeAlias = "tuple[Any, Any, int, str, Any]"
"""Element of the result of ``socket.getaddrinfo``."""


class DisconnectedError(ConnectionError):
    """The server closed the connection before the end of the response."""


class TooLateError(Exception):
    """The response was not complete by the deadline."""


class Connections:
    """Connections to the server of one URL. For one event loop.

    Args:
        url: URL of every request, ``http`` or ``https``.
        headers: Headers of every request.
        max_body: Largest size of a response's body in bytes.

    Raises:
        ValueError: A header holds a character that headers cannot have.
    """

    def __init__(self, url: str, headers: Mapping[str, str], max_body: int) -> None:
        parts = urlsplit(url)
        self._host = _ascii_host(parts.hostname or "")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (80 if self._tls is None else 443)
        self._max_body = max_body
        self._head = _request_head(
            quote(parts.path, safe=_PATH_CHARACTERS), _authority(self._host, parts.port), headers
        )
        self._loop = asyncio.get_running_loop()
        self._addresses = _Addresses(self._host, self._port)
        self._idle: deque[_Connection] = deque()
        """Connections without a request, the one that has been so for the longest time first."""
        self._open: set[_Connection] = set()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Event loop that the connections belong to."""
        return self._loop

    async def post(self, payload: bytes, deadline: float | None = None) -> Response:
        """Send one request and wait for the whole response.

        Args:
            payload: Body of the request.
            deadline: Time of the event loop at which the response must be complete, or None.

        Raises:
            TooLateError: The response was not complete by then.
            OSError: The connection cannot be made, or ends before the response does.
            ResponseError: The response is not valid HTTP, or its body is too large.
        """
        connection = self._idle_connection()
        if connection is None:
            connection = await self._connect_by(deadline)
        request = b"%s%d\r\n\r\n%s" % (self._head, len(payload), payload)
        return await connection.exchange(request, self._max_body, deadline)

    async def aclose(self) -> None:
        """Close the connections."""
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)  # the loop closes their sockets in its next turn

    def _idle_connection(self) -> _Connection | None:
        """Return the connection that was used last, and close those that were not used for long."""
        idle = self._idle
        if not idle:
            return None
        oldest = self._loop.time() - _KEEP_ALIVE
        while idle and idle[0].idle_since < oldest:
            idle.popleft().close()
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
        return None

    async def _connect_by(self, deadline: float | None) -> _Connection:
        try:
            async with asyncio.timeout_at(deadline) as limit:
                return await self._connect()
        except TimeoutError:
            if not limit.expired():  # a timeout of the operating system
                raise DisconnectedError("it could not be made in time") from None
            raise TooLateError from None

    async def _connect(self) -> _Connection:
        sock = await self._addresses.connect()
        connection: _Connection
        _, connection = await self._loop.create_connection(
            lambda: _Connection(self._idle, self._open),
            sock=sock,
            ssl=self._tls,
            server_hostname=None if self._tls is None else self._host,
        )
        return connection


class _Connection(asyncio.Protocol):
    """A connection, which carries one request at a time.

    Args:
        idle: It appends itself when it can carry another request, and removes itself at its end.
        opened: It adds itself, and removes itself at its end.
    """

    def __init__(self, idle: deque[_Connection], opened: set[_Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        self._idle = idle
        self._opened = opened
        self._transport: asyncio.Transport | None = None
        self._parser: ResponseParser | None = None
        self._response: asyncio.Future[Response] | None = None
        """Response that is waited for."""
        self.idle_since = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether it is open."""
        return self._transport is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, max_body: int, deadline: float | None) -> Response:
        """Send a request and wait for the response until the deadline. Cancelling it closes the connection."""
        transport = self._transport
        if transport is None:
            raise DisconnectedError("the server closed it")
        response: asyncio.Future[Response] = self._loop.create_future()
        self._response = response
        self._parser = ResponseParser(max_body)
        transport.write(request)
        # A timer alone costs less than asyncio.timeout().
        timer = None if deadline is None else self._loop.call_at(deadline, self._expire, response)
        try:
            return await response
        except asyncio.CancelledError:
            self._give_up(response)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once, whatever is on its way."""
        if self._transport is not None:
            self._transport.abort()

    # -- called by the event loop -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._opened.add(self)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:
            self.abort()  # nothing was asked
            return
        try:
            found = self._parser.feed(data)
        except ResponseError as error:
            self.abort()
            self._fail(error)
            return
        if found is not None:
            self._complete(found)

    def eof_received(self) -> bool:
        found = None if self._parser is None else self._parser.eof()
        if found is not None:
            self._complete(found)
        return False  # close the other direction, too

    def connection_lost(self, error: Exception | None) -> None:
        self._opened.discard(self)
        self._transport = None
        if self._parser is None:
            if self in self._idle:
                self._idle.remove(self)
        else:
            self._fail(error or DisconnectedError("the server closed it before the end of the response"))

    # -- inside -----------------------------------------------------------------------------------------------------

    def _complete(self, found: Response) -> None:
        response, self._response, self._parser = self._response, None, None
        assert response is not None
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size():
            self.abort()  # the server has answered, such as by a refusal, before it has read the whole request
        elif transport is not None and found.reusable:
            self.idle_since = self._loop.time()
            self._idle.append(self)
        else:
            self.close()
        if not response.done():
            response.set_result(found)

    def _expire(self, response: asyncio.Future[Response]) -> None:
        if not response.done():
            response.set_exception(TooLateError())
            self._give_up(response)

    def _give_up(self, response: asyncio.Future[Response]) -> None:
        if self._response is response:  # otherwise it has arrived, and another request may be on its way
            self.abort()

    def _fail(self, error: Exception) -> None:
        response, self._response, self._parser = self._response, None, None
        if response is not None and not response.done():
            response.set_exception(error)


class _Addresses:
    """Addresses of a server, which are looked up once for all connections.

    Args:
        host: Name or address of the server.
        port: Its port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._found: asyncio.Task[list[_Address]] | None = None
        self._until = 0.0
        self._turn = 0

    async def connect(self) -> socket.socket:
        """Return a socket that is connected to one of the addresses; each connection begins with another one.

        Raises:
            OSError: There is no address, or none can be reached.
            PluginError: A library is missing.
        """
        try:
            from aiohappyeyeballs import start_connection
        except ImportError:
            raise PluginError("the library aiohttp is missing", hint='pip install "enhancer[openai]"') from None
        addresses = await self._look_up()
        self._turn += 1
        turn = self._turn % len(addresses)
        return await start_connection(
            [*addresses[turn:], *addresses[:turn]], happy_eyeballs_delay=_NEXT_ADDRESS_DELAY, interleave=1
        )

    async def _look_up(self) -> list[_Address]:
        loop, found = asyncio.get_running_loop(), self._found
        failed = found is not None and found.done() and (found.cancelled() or found.exception() is not None)
        if found is None or failed or loop.time() > self._until:
            self._found = found = loop.create_task(self._resolve())
            self._until = loop.time() + _ADDRESS_SECONDS
        return await asyncio.shield(found)  # others wait for it, too

    async def _resolve(self) -> list[_Address]:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)


def _ascii_host(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode("ascii")


def _request_head(target: str, authority: str, headers: Mapping[str, str]) -> bytes:
    """Return the head of every request, up to the value of its last header, ``Content-Length``."""
    lines = [f"POST {target} HTTP/1.1", f"Host: {authority}"]
    for name, value in headers.items():
        if any(character in name + value for character in "\r\n\0"):
            raise ValueError(f"the header {name!r} holds a line break or NUL")
        lines.append(f"{name}: {value}")
    return "\r\n".join([*lines, "Content-Length: "]).encode()


def _authority(host: str, port: int | None) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"
