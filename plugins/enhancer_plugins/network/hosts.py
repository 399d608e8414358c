"""Validate base URLs, and find out which hosts are local."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit

from enhancer.errors import ConfigError


def checked_base(base: str, *, table: str = "llm") -> str:
    """Return the base URL without a trailing slash.

    Raises:
        ConfigError: The URL is invalid, or contains credentials.

    >>> checked_base("http://127.0.0.1:8000/v1/")
    'http://127.0.0.1:8000/v1'
    """
    base = base.strip()
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError:
        raise ConfigError(
            f"[{table}] api_base: {base!r} is not a URL", hint="for example http://127.0.0.1:8000/v1"
        ) from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"[{table}] api_base contains credentials or a query", hint="keys belong in environment variables"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ConfigError(f"[{table}] api_base: {base!r} is not a URL", hint="such as http://127.0.0.1:8000/v1")
    return base.rstrip("/").removesuffix("/chat/completions")


def is_local(host: str) -> bool:
    """Return whether a host is this machine or in a private network, where servers need no API key.

    >>> [is_local(h) for h in ("localhost", "10.1.2.3", "::1", "gpu-box", "gpu.internal", "api.openai.com", "8.8.8.8")]
    [True, True, True, True, True, False, False]
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.rsplit(".", 1)[1] in {"local", "internal", "lan", "localhost"}
    return address.is_loopback or address.is_private or address.is_link_local or address.is_unspecified


def is_local_url(url: str) -> bool:
    """Return whether the host of a URL is local; see :func:`is_local`."""
    return is_local(urlsplit(url).hostname or "")


def check_encrypted(base: str, *, allow_insecure: bool, table: str = "llm", origin: str | None = None) -> None:
    """Check that a secret can be sent to a base URL: by https, or within this machine or network.

    Args:
        base: The base URL.
        allow_insecure: Whether to send it anyway.
        table: Table of the configuration that allows it.
        origin: What sets the URL; by default ``api_base`` of the table.

    Raises:
        ConfigError: It would be sent over plain http to a public address.
    """
    if not allow_insecure and urlsplit(base).scheme == "http" and not is_local_url(base):
        origin = origin or f"[{table}] api_base"
        raise ConfigError(
            f"{origin}: a key would be sent to {base} over plain http, where others can read it",
            hint=f"use https; [{table}] allow_insecure = true sends it nevertheless",
        )


def proxy_for(url: str) -> str | None:
    """Return the proxy for a URL from the environment variables; None for local hosts."""
    parts = urlsplit(url)
    if is_local_url(url) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
