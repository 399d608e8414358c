"""Code that the network providers share: headers, secrets, schemas, and HTTP errors as exceptions."""

from __future__ import annotations

import contextlib
import email.utils
import json
import math
import re
import time
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from enhancer.errors import AuthenticationError, ProviderError, RateLimitError, RequestError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MAX_RETRY_AFTER = 3600.0
"""Upper limit for Retry-After in seconds, so that a wrong header cannot stop a run for a year."""
_MESSAGE_LENGTH = 500
_MAX_TOKENS = 10**9
_DATE = re.compile(r"[A-Za-z]{3}.*\d{2}:\d{2}")
# Errors of the account that waiting cannot solve, although some are sent with status 429.
_NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"})
_KEY_SHAPES = re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf|AIza)[-_A-Za-z0-9*]{10,}|(?i:bearer\s+)[^\s\"',}]+")
_LIMIT = re.compile("x-ratelimit-", re.IGNORECASE)
_UNSUPPORTED = frozenset({"$schema", "$id", "minLength", "maxLength", "uniqueItems", "default", "examples"})
_TRANSIENT_CODES = frozenset({"json_validate_failed", "tool_use_failed", "output_parse_failed"})
"""Codes of requests that Groq refuses because the answer, which it samples, did not fit the schema."""
_LASTING = frozenset({401, 402, 403, 408, 409, 425, 429})
"""Statuses that mean the same in the body of a response with status 200."""


def tokens(value: object) -> int | None:
    """Return a valid token count; None for other values, including counts of a billion or more."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_TOKENS else None


def dollars(value: object) -> float | None:
    """Return a finite amount that is not negative; None for other values."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        amount = float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None
    return amount if math.isfinite(amount) and amount >= 0 else None


def dollars_in(text: str | None) -> float | None:
    """Return the amount in a header, like :func:`dollars`."""
    try:
        return dollars(float(text)) if text else None
    except ValueError:
        return None


def strict_schema(schema: Any) -> Any:
    """Convert a schema for strict structured output.

    All properties become required and no others are allowed. Keywords that strict mode rejects are removed; the harness
    validates answers against the full schema.

    >>> strict_schema({"type": "object", "properties": {"a": {"type": "string", "minLength": 1}}})["required"]
    ['a']
    """
    if isinstance(schema, list):
        return [strict_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out: dict[str, Any] = {}
    for name, value in schema.items():
        if name in {"properties", "$defs", "definitions"} and isinstance(value, dict):
            out[name] = {key: strict_schema(sub) for key, sub in value.items()}  # keys are property names here
        elif name in {"enum", "const", "required"}:
            out[name] = value
        elif name not in _UNSUPPORTED:
            out[name] = strict_schema(value)
    if isinstance(out.get("properties"), dict):
        out["required"] = list(out["properties"])
        out["additionalProperties"] = False
    return out


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Return the seconds to wait from ``Retry-After`` (seconds or a date) or ``retry-after-ms``; None without either.

    A date is compared with the ``Date`` header of the response, so that a wrong local clock does not matter.

    Args:
        headers: Headers with lower-case names.
        now: Current time in seconds since the epoch, for a response without ``Date``.

    >>> retry_after({"retry-after": "2.5"}), retry_after({"retry-after": "1e9"}), retry_after({"retry-after": "-3"})
    (2.5, 3600.0, None)
    >>> retry_after({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT", "date": "Fri, 31 Dec 1999 23:59:49 GMT"})
    10.0
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if not text:
            continue
        try:
            seconds = float(text) / unit
        except ValueError:
            until = _epoch(text)
            if until is None:
                continue
            sent = _epoch(headers.get("date", ""))
            seconds = max(0.0, until - (sent if sent is not None else time.time() if now is None else now))
        if seconds >= 0 and not math.isnan(seconds):
            return min(seconds, MAX_RETRY_AFTER)
    return None


def _epoch(text: str) -> float | None:
    if not _DATE.match(text):
        return None
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def loads(body: bytes) -> Any:
    """Parse the JSON of a response, by orjson if it is installed.

    Raises:
        ValueError: It is not JSON, or not UTF-8.
        RecursionError: It is nested too deeply.
    """
    fast = _fast_loads()
    if fast is not None:
        with contextlib.suppress(ValueError):  # such as for NaN, which is no JSON and is sent nevertheless
            return fast(body)
    return json.loads(body.decode("utf-8"))


@cache
def _fast_loads() -> Callable[[bytes], Any] | None:
    try:
        fast: Callable[[bytes], Any] = import_module("orjson").loads
    except ImportError:
        return None
    return fast


def dumps(value: Any) -> bytes:
    """Return a request as JSON in UTF-8, by orjson if it is installed."""
    fast = _fast_dumps()
    if fast is not None:
        with contextlib.suppress(TypeError):  # such as for lone surrogates, and integers of more than 64 bits
            return fast(value)
    return json.dumps(value).encode("ascii")


@cache
def _fast_dumps() -> Callable[[Any], bytes] | None:
    try:
        fast: Callable[[Any], bytes] = import_module("orjson").dumps
    except ImportError:
        return None
    return fast


def rate_limits(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the ``x-ratelimit-*`` headers with lower-case names."""
    return {name.lower(): value for name, value in headers if name[:1] in "xX" and _LIMIT.match(name)}


class Scrubber:
    """Replaces secrets in texts that leave a provider.

    >>> Scrubber(["topsecret123"])("the key topsecret123, or sk-abcdefghijklmnop, is wrong")
    'the key [secret], or [secret], is wrong'
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for s in secrets if len(s) >= 4 for form in (s, quote(s, safe=""), json.dumps(s)[1:-1])}
        self._forms = sorted(forms, key=len, reverse=True)

    def exact(self, text: str) -> str:
        """Replace the known secrets only."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, "[secret]")
        return text

    def __call__(self, text: str) -> str:
        """Replace the known secrets, and strings that look like API keys."""
        return _KEY_SHAPES.sub("[secret]", self.exact(text))


def provider_message(body: bytes | str) -> tuple[str, str]:
    """Return message and code from the body of an error response; either may be empty.

    >>> provider_message('{"error": {"message": "no such model", "code": "model_not_found"}}')
    ('no such model', 'model_not_found')
    """
    text = body if isinstance(body, str) else body.decode("utf-8", "replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    code = ""
    if isinstance(data, list) and data:
        data = data[0]
    if isinstance(data, dict):
        error = data.get("error", data)
        if isinstance(error, dict):
            code = str(error.get("code") or error.get("type") or "")
            message = error.get("message") or error.get("detail") or error.get("error") or error
        else:
            message = error
        text = message if isinstance(message, str) else json.dumps(message)
    return shorten(text), code


def shorten(text: str) -> str:
    """Return the text as one line of at most 500 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_LENGTH else line[: _MESSAGE_LENGTH - 1] + "…"


def status_in_success(code: str) -> int:
    """Return the status that an error in a response with status 200 stands for.

    It comes from behind the gateway, which took the request, so a later attempt may succeed unless the account is at
    fault.

    >>> status_in_success("502"), status_in_success("403"), status_in_success("400"), status_in_success("upstream")
    (502, 403, 500, 500)
    """
    status = int(code) if re.fullmatch("[45][0-9]{2}", code) else 500
    return status if status >= 500 or status in _LASTING else 500


def is_transient_refusal(text: str) -> bool:
    """Check whether the text of an error, or its code, is a refusal that a later attempt may escape."""
    return any(code in text for code in _TRANSIENT_CODES)


def error_for(
    status: int, message: str, *, code: str = "", wait: float | None = None, where: str = "", key_name: str = ""
) -> ProviderError:
    """Return the exception for an HTTP status.

    Args:
        status: HTTP status.
        message: The provider's message, without secrets.
        code: The provider's error code.
        wait: Seconds to wait, as requested by the provider.
        where: Name of the endpoint.
        key_name: Environment variable of the API key.
    """
    text = f"{where} answered {status}" + (f": {message}" if message else "")
    hint = f"check {key_name}" if key_name else None
    if code in _TRANSIENT_CODES:
        return ServerError(text, retry_after=wait, status=status)
    if code in _NO_QUOTA or status == 402:
        return AuthenticationError(
            f"{text} (no quota is left)", hint=f"check the account of {key_name or 'the key'}", status=status
        )
    if status in {401, 403}:
        return AuthenticationError(text, hint=hint, status=status)
    if status == 429:
        return RateLimitError(text, retry_after=wait, status=status)
    if status in {408, 409, 425} or status >= 500:
        return ServerError(text, retry_after=wait, status=status)
    if status == 404:  # often a wrong path: the base URL of most servers ends in /v1
        return RequestError(text, hint="check [llm] model, and api_base, which usually ends in /v1", status=status)
    return RequestError(text, status=status)
