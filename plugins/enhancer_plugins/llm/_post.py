"""Post JSON to one URL over a pool of connections, by pyreqwest: a Rust client that takes a third of aiohttp's time."""

from __future__ import annotations

import asyncio
import atexit
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from enhancer.errors import ConnectionFailedError, PluginError, ServerError
from enhancer_plugins.llm import _wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer_plugins.llm._wire import Scrubber

_IDLE_CONNECTIONS = 65_536
"""Connections kept open; the harness limits how many calls are in flight."""

_LAST_BREATH = 0.1
"""Seconds that the interpreter waits at its end for pyreqwest's thread."""


class Reply(NamedTuple):
    """An HTTP response with its decompressed body."""

    status: int
    headers: Mapping[str, str]
    """Headers. Look-ups ignore case; names are lower-case."""
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
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, payload: bytes) -> Reply:
        """Send one request and read the whole response. Follows no redirect, which would send the key elsewhere.

        Raises:
            ConnectionFailedError: The connection failed, or was closed before the end of the response.
            ServerError: The response is not valid HTTP, too large, or compressed in a way that was not requested.
        """
        client = self._open()
        import pyreqwest.exceptions as failures

        try:
            async with client.post(self._url).body_bytes(payload).build_streamed() as response:
                received = response.headers
                encoding = received.get("content-encoding", "")
                body = await self._read(response.body_reader)
                return Reply(response.status, received, self._decompressed(body, encoding))
        except failures.RequestError as error:
            if isinstance(error, failures.NetworkError | failures.RequestTimeoutError) or _was_closed(error):
                why = self._why(error)
                message = f"the connection to {self._base} failed: {why}"
                raise ConnectionFailedError(message, hint=_certificate_hint(why)) from None
            raise ServerError(f"{self._base} sent an invalid HTTP response: {self._why(error)}") from None
        except ValueError as error:
            why = self._scrub(_wire.shorten(str(error)))
            raise ServerError(f"{self._base} sent a response that cannot be read: {why}") from None

    async def aclose(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _read(self, reader: Any) -> bytes:
        """Read the whole body, up to ``max_body`` bytes."""
        # A response of usual length is one part; one byte more than is allowed shows that there is more.
        first = await reader.read(self._max_body + 1)
        body = b"" if first is None else bytes(first)
        if len(body) > self._max_body:
            raise ServerError(f"{self._base} sent a response of more than {self._max_body:,} bytes")
        return body

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

    def _why(self, error: Any) -> str:
        causes = [cause["message"] for cause in error.details["causes"] or ()]
        # The innermost cause is that of the system, such as "Connection refused"; the outer ones repeat the URL.
        return self._scrub(_wire.shorten(causes[-1] if causes else error.message)) or type(error).__name__

    def _open(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None:
            self._loop = loop
            self._client = self._built()
        elif self._loop is not loop:
            raise ConnectionFailedError(
                "this provider was opened in another event loop", hint="create one provider for each event loop"
            )
        return self._client

    def _built(self) -> Any:
        # pyreqwest 0.15.1: its thread may still let go of the last answer when the event loop has gone on.
        # An interpreter that ends in this instant is aborted, with exit code 134 in place of the command's own.
        atexit.unregister(_wait_for_thread)
        atexit.register(_wait_for_thread)
        try:
            from pyreqwest.client import ClientBuilder
            from pyreqwest.proxy import ProxyBuilder
        except ImportError:
            raise PluginError(
                "llm 'openai' needs the library pyreqwest", hint='pip install "enhancer[openai]"'
            ) from None
        builder = ClientBuilder().default_headers(self._headers).follow_redirects(False).referer(False)
        builder = builder.gzip(False).deflate(False).brotli(False).zstd(False).pool_max_idle_per_host(_IDLE_CONNECTIONS)
        builder = builder.no_proxy() if self._proxy is None else builder.proxy(ProxyBuilder.all(self._proxy))
        return builder.build()


def _wait_for_thread() -> None:
    time.sleep(_LAST_BREATH)


def _certificate_hint(why: str) -> str | None:
    if "CaUsedAsEndEntity" in why:
        return (
            "the server shows the certificate of an authority (openssl's default for a self-signed one): let that issue"
            " another to the server, with basicConstraints=CA:FALSE, and set SSL_CERT_FILE to the authority's"
        )
    if "certificate" in why:
        return "if the server's certificate is from an authority of your own, set SSL_CERT_FILE to its certificate"
    return None


def _was_closed(error: Any) -> bool:
    """Check whether the server closed the connection before the end of its response."""
    told = " ".join(cause["message"] for cause in error.details["causes"] or ()).lower()
    return any(words in told for words in ("connection closed", "reset by peer", "broken pipe", "end of file"))
