"""What the providers that speak to a network share: headers, secrets, schemas, and HTTP errors in our own types."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from enhancer.errors import AuthenticationError, ProviderError, RateLimitError, RequestError, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from enhancer.contracts import FinishReason

MAX_RETRY_AFTER = 3600.0
"""Seconds. Whoever asks for more is taken to mean this: a typing error must not put a run to sleep for a year."""
_MESSAGE_LENGTH = 500
_NO_COUNT = 10**9
_DATE = re.compile(r"[A-Za-z]{3}.*\d{2}:\d{2}")
# Codes that say "pay first": waiting cannot help, though some come as 429.
_NO_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"})
_KEY_SHAPES = re.compile(r"\b(?:sk|pk|rk|gsk|xai|hf|AIza)[-_A-Za-z0-9*]{10,}|(?i:bearer\s+)[^\s\"',}]+")
_LIMIT = re.compile("x-ratelimit-", re.IGNORECASE)
_UNSUPPORTED = frozenset({"$schema", "$id", "minLength", "maxLength", "uniqueItems", "default", "examples"})
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
    "refusal": "refusal",
}


def finish_reason(told: object) -> FinishReason:
    """Translate a provider's word.

    >>> finish_reason("end_turn"), finish_reason(None)
    ('stop', 'other')
    """
    return _FINISH.get(told, "other") if isinstance(told, str) else "other"


def tokens(told: object) -> int | None:
    """A token count that is one, else None: no answer has a billion tokens."""
    return told if isinstance(told, int) and not isinstance(told, bool) and 0 <= told < _NO_COUNT else None


def dollars(told: object) -> float | None:
    """An amount that is one, else None."""
    if isinstance(told, (int, float)) and not isinstance(told, bool) and math.isfinite(told) and told >= 0:
        return float(told)
    return None


def strict_schema(schema: Any) -> Any:
    """The schema in the form that strict structured output takes.

    Every object lists all its properties as required and allows no others; keywords that the strict form refuses
    are left out. The full schema is validated locally anyway.

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
            out[name] = {key: strict_schema(sub) for key, sub in value.items()}  # keys are names here, not keywords
        elif name in {"enum", "const", "required"}:
            out[name] = value
        elif name not in _UNSUPPORTED:
            out[name] = strict_schema(value)
    if isinstance(out.get("properties"), dict):
        out["required"] = list(out["properties"])
        out["additionalProperties"] = False
    return out


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Seconds to wait, from ``Retry-After`` (seconds or a date) or ``retry-after-ms``; None where they say nothing.

    A date is compared with the server's own ``Date``, so a clock that is wrong here does no harm.

    Args:
        headers: With lower-case names.
        now: Seconds since the epoch, where the answer has no ``Date``.

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


def rate_limits(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The ``x-ratelimit-*`` headers, in lower case."""
    return {name.lower(): value for name, value in headers if name[:2] in ("x-", "X-") and _LIMIT.match(name)}


class Scrubber:
    """Takes secrets out of whatever leaves a provider.

    >>> Scrubber(["topsecret123"])("the key topsecret123, or sk-abcdefghijklmnop, is wrong")
    'the key [secret], or [secret], is wrong'
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for s in secrets if len(s) >= 4 for form in (s, quote(s, safe=""), json.dumps(s)[1:-1])}
        self._forms = sorted(forms, key=len, reverse=True)

    def exact(self, text: str) -> str:
        """Take out the known secrets alone."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, "[secret]")
        return text

    def __call__(self, text: str) -> str:
        """Take out the known secrets, and whatever looks like a key."""
        return _KEY_SHAPES.sub("[secret]", self.exact(text))


def provider_message(body: bytes | str) -> tuple[str, str]:
    """The provider's own words and its error code, from the body of an error; either may be empty.

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
            said = error.get("message") or error.get("detail") or error.get("error") or error
        else:
            said = error
        text = said if isinstance(said, str) else json.dumps(said)
    return shorten(text), code


def shorten(text: str) -> str:
    """One line of at most 500 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_LENGTH else line[: _MESSAGE_LENGTH - 1] + "…"


def error_for(
    status: int, message: str, *, code: str = "", wait: float | None = None, where: str = "", key_name: str = ""
) -> ProviderError:
    """The error that an HTTP status stands for.

    Args:
        status: HTTP status.
        message: The provider's words, already without secrets.
        code: The provider's error code.
        wait: Seconds it asks to wait.
        where: Names the endpoint.
        key_name: Environment variable of the key.
    """
    said = f"{where} answered {status}" + (f": {message}" if message else "")
    hint = f"check {key_name}" if key_name else None
    if code in _NO_QUOTA or status == 402:
        return AuthenticationError(
            f"{said} (no quota is left)", hint=f"check the account of {key_name or 'the key'}", status=status
        )
    if status in {401, 403}:
        return AuthenticationError(said, hint=hint, status=status)
    if status == 429:
        return RateLimitError(said, retry_after=wait, status=status)
    if status in {408, 409, 425} or status >= 500:
        return ServerError(said, retry_after=wait, status=status)
    if status == 404:  # most often the path: the base of most servers ends in /v1
        return RequestError(
            said, hint="check [llm] model, and that api_base is right: it mostly ends in /v1", status=status
        )
    return RequestError(said, status=status)
