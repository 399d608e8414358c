"""Answers of the service, before they become HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_plus

import orjson

from enhancer.errors import ArtifactError, ConfigError, DataError, EnhancerError
from enhancer.serving.service.micro_batcher import BusyError, LateError

if TYPE_CHECKING:
    from collections.abc import Iterator

JSON: Final = "application/json"
STATUSES: Final = (200, 400, 404, 405, 408, 413, 431, 500, 503, 504)
"""All statuses that the service answers with."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and headers."""

    status: int
    body: bytes
    media_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class TooLargeError(EnhancerError):
    """The body of a request exceeds the limit."""


class SlowBodyError(EnhancerError):
    """The body of a request did not arrive in time."""


class FullError(EnhancerError):
    """The process holds as many connections or bytes as it may."""


class UnknownIdError(DataError):
    """The artifact does not have the requested id."""


_STATUS: Final[tuple[tuple[type[EnhancerError], int], ...]] = (
    (UnknownIdError, 404),
    (DataError, 400),
    (ConfigError, 400),
    (SlowBodyError, 408),
    (TooLargeError, 413),
    (BusyError, 503),
    (FullError, 503),
    (ArtifactError, 503),
    (LateError, 504),
)


def to_json(value: Any) -> bytes:
    """Return a value as JSON."""
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate in an id, which that library refuses
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def too_large(limit: int) -> TooLargeError:
    """Return the error for a body above the limit."""
    return TooLargeError(f"the body has more than {limit:,} bytes", hint="send fewer users a request")


def slow_body() -> SlowBodyError:
    """Return the error for a body that does not arrive."""
    return SlowBodyError("the body did not arrive in time", hint="send it in one piece")


def problem(error: EnhancerError) -> dict[str, Any]:
    """Return the JSON object that describes an error."""
    return {"type": type(error).__name__, "message": error.message, "hint": error.hint}


def error_answer(error: EnhancerError) -> Answer:
    """Return the answer for an error of enhancer's."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = (("retry-after", "1"),) if status == 503 else ()
    return Answer(status, to_json({"error": problem(error)}), headers=headers)


def http_error(status: int, message: str, hint: str | None = None, *headers: tuple[str, str]) -> Answer:
    """Return the answer for a request that is wrong as HTTP."""
    body = {"error": {"type": "HTTPError", "message": message, "hint": hint}}
    return Answer(status, to_json(body), headers=headers)


def bug_answer(error: BaseException) -> Answer:
    """Return the answer for an error that is not the client's."""
    said = {"type": type(error).__name__, "message": "this is a bug in enhancer", "hint": "the log has the traceback"}
    return Answer(500, to_json({"error": said}))


def query_pairs(query: str) -> Iterator[tuple[str, str]]:
    """Yield the decoded names and values of a query string."""
    for part in query.split("&"):
        if part:
            name, _, value = part.partition("=")
            if "%" in part or "+" in part:
                name, value = unquote_plus(name), unquote_plus(value)
            yield name, value
