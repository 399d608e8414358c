"""Fetch pages of a server that tell about it: its models, its version, its counters."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enhancer.errors import ConnectionFailedError, DeadlineError, ProviderError
from enhancer_plugins.network import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import aiohttp

_SECONDS = 5.0
"""Time limit of one page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Pages of one server."""

    base: str
    """Name of the server in errors."""
    headers: Mapping[str, str]
    """Headers of each request, with the credentials."""
    session: Callable[[], aiohttp.ClientSession]
    error: Callable[[int, str, str, dict[str, str]], ProviderError]
    """Return the exception for a status, a message, a code and headers."""
    scrub: Callable[[str], str]
    """Remove secrets from a text."""
    proxy: str | None = None
    max_body: int = 8 * 1024 * 1024
    """Number of bytes after which a page is cut off."""

    async def get(self, url: str) -> bytes | None:
        """Return a page; None if the server has none there. Follows no redirect, which would send the key elsewhere.

        Raises:
            AuthenticationError: The server refuses the key.
            ConnectionFailedError: The connection failed.
            DeadlineError: There was no answer within five seconds.
        """
        import aiohttp

        try:
            async with (
                asyncio.timeout(_SECONDS),
                self.session().get(url, headers=self.headers, proxy=self.proxy, allow_redirects=False) as received,
            ):
                body = b""
                while len(body) < self.max_body and (part := await received.content.read(65536)):
                    body += part
        except TimeoutError:
            raise DeadlineError(f"{self.base} did not answer within {_SECONDS:g} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            why = self.scrub(wire.shorten(str(error))) or type(error).__name__
            raise ConnectionFailedError(f"the connection to {self.base} failed: {why}") from None
        if received.status in (401, 403):
            message, code = wire.provider_message(body)
            raise self.error(received.status, message, code, {})
        return body if received.status == 200 else None
