"""HTTP calls of the batch APIs. Files are streamed from and to disk."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from enhancer.errors import ConnectionFailedError, DeadlineError, PluginError, ProviderError, RequestError, ServerError
from enhancer_plugins.network import wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import aiohttp

A = TypeVar("A")
CALL_SECONDS = 60.0
"""Time limit of a call that sends no file."""
PAGES = 200
"""Maximum number of pages of past jobs to search, newest first."""
_MIN_UPLOAD_RATE = 50_000.0
"""Bytes per second; a slower upload times out."""
_STALL_SECONDS = 60.0
"""Time without data after which a download times out."""
_MAX_LINE_BYTES = 32 * 1024 * 1024


def upload_seconds(size: int) -> float:
    """Return the time limit of a call that sends ``size`` bytes."""
    return CALL_SECONDS + size / _MIN_UPLOAD_RATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Endpoint of a batch API, with the functions of the provider that connect and translate errors."""

    base: str
    """URL to which the paths of calls are appended."""
    headers: Mapping[str, str]
    """Headers of each call, with the credentials."""
    session: Callable[[], aiohttp.ClientSession]
    error: Callable[[int, str, str, dict[str, str]], ProviderError]
    """Return the exception for a status, a message, a code and headers."""
    scrub: Callable[[str], str]
    """Remove secrets from a text."""
    proxy: str | None = None
    max_body: int = 8 * 1024 * 1024
    """Maximum size of a response that is read into memory, in bytes."""

    async def call(self, method: str, path: str, *, seconds: float = CALL_SECONDS, **more: Any) -> dict[str, Any]:
        """Make one call and return its response, a JSON object."""
        return (await self.exchange(method, path, seconds=seconds, **more))[0]

    async def exchange(
        self, method: str, path: str, *, seconds: float = CALL_SECONDS, **more: Any
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Make one call and return its response, a JSON object, and its headers with lower-case names."""
        try:
            async with asyncio.timeout(seconds), self._request(method, path, **more) as received:
                if received.status not in (200, 201):
                    await self._fail(received)
                headers = {name.lower(): value for name, value in received.headers.items()}
                body = await self._body(received)
        except TimeoutError:
            raise DeadlineError(f"{self.base}{path} did not answer within {seconds:.0f} s") from None
        try:
            response: Any = json.loads(body) if body.strip() else {}
        except (ValueError, RecursionError):
            response = None
        if not isinstance(response, dict):
            start = self.scrub(wire.shorten(body[:200].decode("utf-8", "replace")))
            raise ServerError(f"{self.base}{path} sent an answer that is not a JSON object: {start!r}")
        return response, headers

    async def lines(self, path: str, folder: Path) -> AsyncIterator[bytes]:
        """Download a file to a temporary file in ``folder`` and yield its lines, except for those that are too long."""
        with tempfile.TemporaryFile(dir=folder) as file:
            async with self._request("GET", path) as response:
                if response.status != 200:
                    await self._fail(response)
                while part := await self._part(response, path):
                    file.write(part)
            file.seek(0)
            for line in read_lines(file):
                yield line

    async def first_line(self, path: str) -> bytes:
        """Return the first line of a file, and download no more than that."""
        async with self._request("GET", path) as response:
            if response.status != 200:
                await self._fail(response)
            start = b""
            while b"\n" not in start and len(start) < _MAX_LINE_BYTES:
                part = await self._part(response, path)
                if not part:
                    break
                start += part
            return start.split(b"\n", 1)[0]

    def id(self, response: Mapping[str, Any], name: str = "id", *, allowed: str = "") -> str:
        """Return the id in a response.

        Raises:
            ServerError: There is none, or it could not be part of a path.
        """
        value = response.get(name)
        if not isinstance(value, str) or not value or not value.isascii() or set(value) & (set("/?#% ") - set(allowed)):
            raise ServerError(f"{self.base} sent a response without a valid {name}")
        return value

    @property
    def _host(self) -> str:
        parts = urlsplit(self.base)
        return f"{parts.scheme}://{parts.netloc}"

    async def _part(self, response: aiohttp.ClientResponse, path: str) -> bytes:
        try:
            async with asyncio.timeout(_STALL_SECONDS):
                return await response.content.readany()
        except TimeoutError:
            raise DeadlineError(f"{self.base} stopped sending {path}") from None

    @contextlib.asynccontextmanager
    async def _request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, at_host: bool = False, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make a request.

        Args:
            method: HTTP method.
            path: Path below the base URL.
            headers: Headers beside those of the connection.
            at_host: The path begins at the host of the base URL.
            **more: Arguments of ``aiohttp.ClientSession.request``.
        """
        import aiohttp

        # Uncompressed: files are written to disk as received.
        send = {"Accept-Encoding": "identity", "User-Agent": "enhancer", **self.headers, **(headers or {})}
        call: AbstractAsyncContextManager[aiohttp.ClientResponse] = self.session().request(
            method,
            (self._host if at_host else self.base) + path,
            headers=send,
            allow_redirects=False,
            proxy=self.proxy,
            **more,
        )
        try:
            async with call as response:
                yield response
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            why = self.scrub(wire.shorten(str(error))) or type(error).__name__
            raise ConnectionFailedError(f"the connection to {self.base} failed: {why}") from None
        except aiohttp.ClientError as error:
            why = self.scrub(wire.shorten(str(error))) or type(error).__name__
            raise ServerError(f"{self.base} sent an invalid HTTP response: {why}") from None

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        """Read the whole body, up to ``max_body`` bytes."""
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self.max_body:
                raise ServerError(f"{self.base} sent an answer of more than {self.max_body:,} bytes")
            parts.append(part)
        return b"".join(parts)

    async def _fail(self, response: aiohttp.ClientResponse) -> None:
        """Raise the error of a response."""
        headers = {name.lower(): value for name, value in response.headers.items()}
        if 300 <= response.status < 400:
            raise RequestError(f"{self.base} redirects to {self.scrub(headers.get('location', 'nowhere'))}")
        message, code = wire.provider_message(await self._body(response))
        raise self.error(response.status, message, code, headers)


async def answers_first(
    lines: AsyncIterator[bytes], parse: Callable[[bytes], tuple[str, A | ProviderError] | None]
) -> AsyncIterator[tuple[str, A | ProviderError]]:
    """Yield the results in the lines of one file: answers, and then errors."""
    errors: list[tuple[str, A | ProviderError]] = []
    async for line in lines:
        result = parse(line)
        if result is None:
            continue
        if isinstance(result[1], ProviderError):
            errors.append(result)
        else:
            yield result
    for failed in errors:
        yield failed


def open_session() -> aiohttp.ClientSession:
    """Open a session for batch APIs, without cookies and automatic decompression."""
    try:
        import aiohttp
    except ImportError:
        raise PluginError("batch jobs need the library aiohttp", hint='pip install "enhancer[openai]"') from None
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the whole call has one deadline
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def read_lines(file: Any) -> Iterator[bytes]:
    """Yield the lines of a file, except for those that are too long."""
    while line := file.readline(_MAX_LINE_BYTES):
        if line.endswith(b"\n") or len(line) < _MAX_LINE_BYTES:
            if line.strip():
                yield line
            continue
        while (rest := file.readline(_MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
