"""Post JSON to one URL over a pool of connections."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from enhancer.errors import ConnectionFailedError, PluginError, ServerError
from enhancer_plugins.network import wire
from enhancer_plugins.network.http_connections import Connections, TooLateError
from enhancer_plugins.network.http_response import ResponseError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from enhancer_plugins.network.wire import Scrubber


class Reply(NamedTuple):
    """An HTTP response with its decompressed body."""

    status: int
    headers: Mapping[str, str]
    """Headers with lower-case names."""
    body: bytes


class Poster:
    """Posts to one URL. Opens nothing until the first request. For one event loop.

    Args:
        url: The URL.
        base: Name of the server in errors.
        headers: Headers of each request.
        proxy: URL of the proxy; None to connect directly, whatever the environment says.
        scrub: Removes secrets from errors.
        max_body: Maximum size of a body in bytes, compressed and decompressed.
    """

    def __init__(
        self,
        url: str,
        *,
        base: str,
        headers: Mapping[str, str],
        proxy: str | None,
        scrub: Scrubber,
        max_body: int,
    ) -> None:
        self._url = url
        self._base = base
        self._headers = dict(headers)
        self._proxy = proxy
        self._scrub = scrub
        self._max_body = max_body
        self._direct: Connections | None = None
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, payload: bytes, deadline: float | None = None) -> Reply:
        """Send one request and read the whole response. Follows no redirect, which would send the key elsewhere.

        Args:
            payload: The JSON.
            deadline: Time of the event loop at which the response must be complete, or None.

        Raises:
            TimeoutError: The response was not complete by then.
            ConnectionFailedError: The connection failed, or was closed before the end of the response; or there can be
                none, because of the name of the host or a header.
            ServerError: The response is not valid HTTP, too large, or compressed in a way that was not requested.
        """
        if self._proxy is not None:
            async with asyncio.timeout_at(deadline):
                status, headers, body = await self._post_by_proxy(payload)
        else:
            try:
                status, headers, body, _ = await self._connections().post(payload, deadline)
            except TooLateError:
                raise TimeoutError from None
            except OSError as error:
                raise self._failed(error) from None
            except TooLargeError:
                raise self._too_large() from None
            except ResponseError as error:
                raise ServerError(f"{self._base} sent an invalid HTTP response: {self._why(error)}") from None
            except ValueError as error:
                raise ConnectionFailedError(f"no request can be sent to {self._base}: {self._why(error)}") from None
        if encoding := headers.get("content-encoding", ""):
            body = self._decompressed(body, encoding)
        return Reply(status, headers, body)

    def _connections(self) -> Connections:
        if self._direct is None:
            self._direct = Connections(self._url, self._headers, self._max_body)
            self._loop = self._direct.loop
        elif self._loop is not asyncio.get_running_loop():
            raise _other_loop()
        return self._direct

    async def _post_by_proxy(self, payload: bytes) -> Reply:
        """Send one request by aiohttp, which knows proxies."""
        aiohttp = _aiohttp()
        session = self.session()
        try:
            async with session.post(
                self._url, data=payload, headers=self._headers, allow_redirects=False, proxy=self._proxy
            ) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Reply(response.status, headers, await self._read(response.content))
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise self._failed(error) from None
        except aiohttp.ClientError as error:
            raise ServerError(f"{self._base} sent an invalid HTTP response: {self._why(error)}") from None
        except ValueError as error:
            raise ServerError(f"{self._base} sent a response that cannot be read: {self._why(error)}") from None

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        direct, self._direct = self._direct, None
        if session is not None:
            await session.close()
        if direct is not None:
            await direct.aclose()

    async def _read(self, content: aiohttp.StreamReader) -> bytes:
        """Read the whole body, up to ``max_body`` bytes."""
        parts: list[bytes] = []
        size = 0
        async for part in content.iter_any():
            size += len(part)
            if size > self._max_body:
                raise self._too_large()
            parts.append(part)
        return b"".join(parts)

    def _decompressed(self, body: bytes, encoding: str) -> bytes:
        encoding = encoding.strip().lower()
        if encoding in {"", "identity"}:
            return body
        if encoding not in {"gzip", "x-gzip", "deflate"}:
            raise ServerError(f"{self._base} sent a response compressed by {encoding!r}, which was not requested")
        limit = self._max_body
        try:
            body = zlib.decompressobj(wbits=47 if "gzip" in encoding else 15).decompress(body, limit + 1)
        except zlib.error:
            raise ServerError(f"{self._base} sent a damaged compressed response") from None
        if len(body) > limit:
            raise ServerError(f"{self._base} sent a response of more than {limit:,} bytes, decompressed")
        return body

    def _failed(self, error: Exception) -> ConnectionFailedError:
        why = self._why(error)
        return ConnectionFailedError(f"the connection to {self._base} failed: {why}", hint=_certificate_hint(why))

    def _too_large(self) -> ServerError:
        return ServerError(f"{self._base} sent a response of more than {self._max_body:,} bytes")

    def _why(self, error: Exception) -> str:
        return self._scrub(wire.shorten(str(error))) or type(error).__name__

    def session(self) -> aiohttp.ClientSession:
        """Return the session, which is opened at the first use and belongs to that event loop.

        Raises:
            PluginError: aiohttp is not installed.
            ConnectionFailedError: It was opened in another event loop.
        """
        loop = asyncio.get_running_loop()
        if self._session is None:
            aiohttp = _aiohttp()
            self._loop = loop
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0,  # the harness limits concurrency
                    ttl_dns_cache=300,
                    # aiohttp reads SSL_CERT_FILE when it is imported; this context, now.
                    ssl=ssl.create_default_context() if self._url.startswith("https:") else True,
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the whole call has one deadline
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        elif self._loop is not loop:
            raise _other_loop()
        return self._session


def _other_loop() -> ConnectionFailedError:
    return ConnectionFailedError(
        "this provider was opened in another event loop", hint="create one provider for each event loop"
    )


def _certificate_hint(why: str) -> str | None:
    if "certificate" not in why.lower():
        return None
    return "if the server's certificate is from an authority of your own, set SSL_CERT_FILE to its certificate"


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError:
        raise PluginError("the library aiohttp is missing", hint='pip install "enhancer[openai]"') from None
    return aiohttp
