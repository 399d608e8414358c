"""Requests, secrets, addresses, prices and errors of HTTP servers, for clients of any kind."""

from __future__ import annotations

from enhancer_plugins.llm._hosts import check_encrypted, checked_base, is_local, is_local_url, proxy_for
from enhancer_plugins.llm._post import Poster
from enhancer_plugins.llm._prices import list_price
from enhancer_plugins.llm._wire import (
    Scrubber,
    dollars,
    error_for,
    provider_message,
    rate_limits,
    retry_after,
    shorten,
    tokens,
)

__all__ = [
    "Poster",
    "Scrubber",
    "check_encrypted",
    "checked_base",
    "dollars",
    "error_for",
    "is_local",
    "is_local_url",
    "list_price",
    "provider_message",
    "proxy_for",
    "rate_limits",
    "retry_after",
    "shorten",
    "tokens",
]
