"""What base URLs are, and which of them are near."""

from __future__ import annotations

import ipaddress
import urllib.request
from urllib.parse import urlsplit

from enhancer.errors import ConfigError


def checked_base(base: str) -> str:
    """The base URL without a last slash.

    Raises:
        ConfigError: It is no URL, or holds a secret.

    >>> checked_base("http://127.0.0.1:8000/v1/")
    'http://127.0.0.1:8000/v1'
    """
    base = base.strip()
    try:
        parts = urlsplit(base)
        port = parts.port
    except ValueError:
        raise ConfigError(f"[llm] api_base: {base!r} is no URL", hint="such as http://127.0.0.1:8000/v1") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("[llm] api_base holds credentials or a query", hint="keys belong in environment variables")
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ConfigError(f"[llm] api_base: {base!r} is no URL", hint="such as http://127.0.0.1:8000/v1")
    return base.rstrip("/").removesuffix("/chat/completions")


def is_local(host: str) -> bool:
    """Whether a host is this machine or on a private network, where servers want no key.

    >>> [is_local(h) for h in ("localhost", "10.1.2.3", "::1", "gpu-box", "gpu.internal", "api.openai.com", "8.8.8.8")]
    [True, True, True, True, True, False, False]
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.rsplit(".", 1)[1] in {"local", "internal", "lan", "localhost"}
    return address.is_loopback or address.is_private or address.is_link_local or address.is_unspecified


def is_local_url(url: str) -> bool:
    """Likewise for a URL's host."""
    return is_local(urlsplit(url).hostname or "")


def proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL; none for hosts that are near."""
    parts = urlsplit(url)
    if is_local_url(url) or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
