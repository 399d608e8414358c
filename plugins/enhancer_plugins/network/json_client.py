"""POST JSON to one server and read the whole response, through a shared connection pool."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConnectionFailedError, PluginError, ServerError
from enhancer_plugins.network import common

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "User-Agent": "enhancer",
}


class JsonClient:
    """Client of one server. Used in one event loop at a time; after :meth:`aclose`, in another one.

    Args:
        base: Address of the server, for messages.
        headers: Headers beside the usual ones, such as the API key.
        proxy: URL of a proxy.
        scrub: Removes secrets from texts.
        max_body: Largest response in bytes, decompressed.
        needed_by: Plugin that needs the library, for the message if it is missing.
    """

    def __init__(
        self,
        base: str,
        headers: Mapping[str, str],
        *,
        proxy: str | None,
        scrub: Callable[[str], str],
        max_body: int,
        needed_by: str,
    ) -> None:
        self._base = base
        self._headers = {**_HEADERS, **headers}
        self._proxy = proxy
        self._scrub = scrub
        self._max_body = max_body
        self._needed_by = needed_by
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, url: str, payload: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Send one POST; return status, headers (case-insensitive) and body of the response.

        Raises:
            ConnectionFailedError: The connection could not be opened, or broke.
            ServerError: The response is not valid HTTP, or too large.
        """
        library = self._library()
        session = self._open()
        try:
            # A redirect would send the API key to another host.
            async with session.post(
                url, data=payload, headers=self._headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                received = response.headers
                return response.status, received, await self._read(response, received.get("Content-Encoding", ""))
        except (library.ClientPayloadError, library.ServerDisconnectedError, library.ClientOSError) as error:
            raise ConnectionFailedError(f"the connection to {self._base} failed: {self._why(error)}") from None
        except library.ClientError as error:
            raise ServerError(f"{self._base} sent an invalid HTTP response: {self._why(error)}") from None
        except ValueError as error:
            raise ServerError(f"{self._base} sent a response that cannot be read: {self._why(error)}") from None

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()

    def _why(self, error: Exception) -> str:
        return self._scrub(common.shorten(str(error))) or type(error).__name__

    async def _read(self, response: aiohttp.ClientResponse, encoding: str) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._max_body:
                raise ServerError(f"{self._base} sent a response of more than {self._max_body:,} bytes")
            parts.append(part)
        body = b"".join(parts)
        encoding = encoding.strip().lower()
        if encoding in {"", "identity"}:
            return body
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise ServerError(f"{self._base} sent a response compressed by {encoding!r}, which was not requested")
        try:
            body = zlib.decompressobj(wbits=47 if "gzip" in encoding else 15).decompress(body, self._max_body + 1)
        except zlib.error:
            raise ServerError(f"{self._base} sent a damaged compressed response") from None
        if len(body) > self._max_body:
            raise ServerError(f"{self._base} sent a response of more than {self._max_body:,} bytes, decompressed")
        return body

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop:
            library = self._library()
            self._loop = loop
            self._session = library.ClientSession(
                connector=library.TCPConnector(limit=0, ttl_dns_cache=300),  # the harness limits concurrency
                timeout=library.ClientTimeout(total=None, sock_connect=None),  # the whole call has one deadline
                auto_decompress=False,
                cookie_jar=library.DummyCookieJar(),
            )
        assert self._session is not None
        return self._session

    def _library(self) -> Any:
        try:
            import aiohttp
        except ImportError:
            raise PluginError(
                f"{self._needed_by} needs the library aiohttp", hint='pip install "enhancer[openai]"'
            ) from None
        return aiohttp
