"""Parse the JSON object in the text of an answer.

Code fences, a reasoning preamble and prose around the object are tolerated if it is unambiguous which object is meant.
Nothing recurses on outside text: the nesting depth is checked before the JSON decoder runs. Error messages are written
for the model, which sees them in a re-ask.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

MAX_LENGTH = 400_000
"""Maximum length of an answer in characters."""
MAX_DEPTH = 64
"""Maximum nesting depth of the JSON."""
_MAX_BRACES = 100
"""Maximum number of braces in the surrounding prose that are examined."""
_JSON_START = re.compile(r"""\{\s*["'{\[}]""")
"""Start of a brace that is meant as JSON."""
_FENCE = re.compile(r"```[ \t]*(?:json|JSON)?[ \t]*\r?\n(.*?)```", re.DOTALL)
_THINKING = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)


class InvalidAnswerError(ValueError):
    """The answer is not valid. The message can be shown to the model."""


def parse_object(text: str) -> dict[str, Any]:
    """Parse the only JSON object of an answer.

    Raises:
        InvalidAnswerError: There is no object or more than one, it is nested too deeply, a key occurs twice, or a
            number is not finite.

    >>> parse_object('Sure! Here it is: {"profile": "x"} Enjoy.')
    {'profile': 'x'}
    """
    if len(text) > MAX_LENGTH:
        raise InvalidAnswerError(f"the answer is longer than {MAX_LENGTH} characters")
    text = _THINKING.sub("", text.lstrip("\ufeff"), count=1).strip()
    if not text:
        raise InvalidAnswerError("the answer is empty")
    if text.startswith("{") and text.endswith("}") and text.count("{") + text.count("[") <= MAX_DEPTH:
        # The common case: the answer is one object, with too few brackets to be nested too deeply.
        try:
            return _loads(text)
        except InvalidAnswerError:
            pass  # handled below
    fences = _FENCE.findall(text) if "```" in text else []
    if len(fences) == 1 and "{" in fences[0] and not text.startswith("{"):
        text = fences[0].strip()
    found, end = _first_object(text)
    for _ in range(_MAX_BRACES):
        # A brace in the prose after it is a second object only if it starts like one.
        start = text.find("{", end)
        if start < 0:
            return found
        if _JSON_START.match(text, start):
            raise InvalidAnswerError("the answer holds more than one JSON object; give exactly one")
        end = start + 1
    raise InvalidAnswerError("too many braces follow the JSON object; give the object alone")


def _first_object(text: str) -> tuple[dict[str, Any], int]:
    """Return the first object and its end; braces in the prose before it that enclose no JSON are skipped."""
    position = 0
    for _ in range(_MAX_BRACES):
        start, end = _object_span(text, position)
        try:
            return _loads(text[start:end]), end
        except InvalidAnswerError:
            # Invalid JSON is an error; it is not searched for a smaller part that happens to be valid.
            if _JSON_START.match(text, start) or "{" not in text[end:]:
                raise
            position = end
    raise InvalidAnswerError("too many braces precede the JSON object; give the object alone")


def _object_span(text: str, start: int = 0) -> tuple[int, int]:
    """Return start and end of the first balanced ``{…}`` from ``start`` on. Counts the depth without recursion."""
    start = text.find("{", start)
    if start < 0:
        raise InvalidAnswerError("the answer holds no JSON object")
    before = text[:start].rstrip()
    if before.endswith(("[", ",", ":")) and before.lstrip().startswith("["):
        raise InvalidAnswerError("the answer is a JSON list; give one JSON object")
    depth = 0
    for token in _TOKEN.finditer(text, start):
        mark = token.group()[0]
        if mark in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidAnswerError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
        elif mark in "}]":
            depth -= 1
            if depth == 0:
                return start, token.end()
    raise InvalidAnswerError("the JSON object is not complete: it ends before its closing brace")


def _loads(text: str) -> dict[str, Any]:
    try:
        value = _DECODER.decode(text)
    except InvalidAnswerError:
        raise
    except json.JSONDecodeError as error:
        raise InvalidAnswerError(
            f"the JSON is not valid: {error.msg} at character {error.pos} (line {error.lineno}, column {error.colno})"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InvalidAnswerError(f"the JSON cannot be read: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise InvalidAnswerError("the answer is not a JSON object")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidAnswerError(f"the key {key[:80]!r} stands twice in one object")
            seen.add(key)
    return found


def _constant(name: str) -> NoReturn:
    raise InvalidAnswerError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidAnswerError(f"the number {text[:40]} is out of range")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_finite)
