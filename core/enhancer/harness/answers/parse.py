"""Parse the JSON object in the text of an answer.

Thoughts, code fences and prose around the object are tolerated if it is unambiguous which object is meant. What is not
strict JSON is read more leniently in two respects: line breaks and tabs in strings, and an object that is the text of a
JSON string. Nothing recurses on outside text: the nesting depth is checked before the JSON decoder runs. Error messages
are written for the model, which sees them in a re-ask.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from enhancer.harness.answers.thought import without_thought

MAX_LENGTH = 400_000
"""Maximum length of an answer in characters."""
MAX_DEPTH = 64
"""Maximum nesting depth of the JSON."""
_MAX_DIGITS = 300
"""Maximum length of an integer: up to about here it is also a number with a decimal point."""
_MAX_BRACES = 100
"""Maximum number of braces in the surrounding prose that are examined."""
_JSON_START = re.compile(r"""\{\s*["'{\[}]""")
"""Start of a brace that is meant as JSON."""
_FENCE = re.compile(r"```[ \t]*(?:json|JSON)?[ \t]*\r?\n(.*?)```", re.DOTALL)
_EARLIER_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_ESCAPED_START = re.compile(r'\{(?:\s|\\n){0,9}\\"')
"""Start of an object that was put into a JSON string, without the quotes around it."""
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Control characters that are neither a line break nor a tab."""
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[{}\[\]]', re.DOTALL)


class InvalidAnswerError(ValueError):
    """The answer is not valid. The message can be shown to the model."""


class UnfinishedThoughtError(InvalidAnswerError):
    """The text ends within a thought, so that it holds no answer."""


def parse_object(text: str, *, cut_off: bool = False, earlier_rules: bool = False) -> dict[str, Any]:
    """Parse the only JSON object of an answer.

    Args:
        text: Text of the answer.
        cut_off: Whether the answer ended at its maximum length. Its object may then be a draft, unless nothing
            follows it.
        earlier_rules: Whether to read the text as releases up to 0.5 did, which took an object in a thought without
            end for the answer. For answers that those releases have judged.

    Raises:
        UnfinishedThoughtError: The text ends within a thought.
        InvalidAnswerError: There is no object or more than one, it is nested too deeply, a key occurs twice, or a
            number is out of range.

    >>> parse_object('Sure! Here it is: {"profile": "x"} Enjoy.')
    {'profile': 'x'}
    """
    if len(text) > MAX_LENGTH:
        raise InvalidAnswerError(f"the answer is longer than {MAX_LENGTH} characters")
    text = text.lstrip("\ufeff").strip()
    if text.startswith("{") and text.endswith("}") and text.count("{") + text.count("[") <= MAX_DEPTH:
        # The common case: the answer is one object, with too few brackets to be nested too deeply.
        try:
            return _loads(text, _STRICT)
        except InvalidAnswerError:
            pass  # handled below
    if earlier_rules:
        return _only_object(_EARLIER_THOUGHT.sub("", text, count=1).strip(), _STRICT)
    answer = without_thought(text)
    if answer is None:
        raise UnfinishedThoughtError("the answer ends within the thought: give the JSON object after it")
    answer = answer.strip()
    if text and not answer:
        raise InvalidAnswerError("no answer follows the thought: give the JSON object after it")
    try:
        return _only_object(answer, _STRICT, cut_off=cut_off)
    except InvalidAnswerError:
        found = _lenient(answer, cut_off=cut_off)
        if found is None:
            raise
        return found


def _lenient(text: str, *, cut_off: bool) -> dict[str, Any] | None:
    """Return the object of an answer that is not strict JSON; None if there is none, or if it is ambiguous."""
    try:
        if text.startswith('"') and text.endswith('"'):
            text = _text_of(text)
        elif _ESCAPED_START.match(text):
            text = _text_of(f'"{text}"')
        return None if _CONTROL.search(text) else _only_object(text, _TOLERANT, cut_off=cut_off)
    except InvalidAnswerError:
        return None


def _text_of(string: str) -> str:
    """Return the text of a JSON string that holds an object."""
    try:
        text = _TOLERANT.decode(string)
    except (ValueError, RecursionError):
        raise InvalidAnswerError("the text is not a JSON string") from None
    if not isinstance(text, str) or not text.strip().startswith("{"):
        raise InvalidAnswerError("the JSON string holds no object")
    return text.strip()


def _only_object(text: str, decoder: json.JSONDecoder, *, cut_off: bool = False) -> dict[str, Any]:
    """Return the only object in a text without thoughts."""
    if not text:
        raise InvalidAnswerError("the answer is empty")
    fences = _FENCE.findall(text) if "```" in text else []
    if len(fences) == 1 and "{" in fences[0] and not text.startswith("{") and not cut_off:
        text = fences[0].strip()
    found, end = _first_object(text, decoder)
    if cut_off and text[end:].strip() not in ("", "```"):
        raise InvalidAnswerError("the answer was cut off, and text follows its JSON object: give the object alone")
    for _ in range(_MAX_BRACES):
        # A brace in the prose after it is a second object only if it starts like one.
        start = text.find("{", end)
        if start < 0:
            return found
        if _JSON_START.match(text, start):
            raise InvalidAnswerError("the answer holds more than one JSON object; give exactly one")
        end = start + 1
    raise InvalidAnswerError("too many braces follow the JSON object; give the object alone")


def _first_object(text: str, decoder: json.JSONDecoder) -> tuple[dict[str, Any], int]:
    """Return the first object and its end; braces in the prose before it that enclose no JSON are skipped."""
    position = 0
    for _ in range(_MAX_BRACES):
        start, end = _object_span(text, position)
        try:
            return _loads(text[start:end], decoder), end
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


def _loads(text: str, decoder: json.JSONDecoder) -> dict[str, Any]:
    try:
        value = decoder.decode(text)
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


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise InvalidAnswerError(f"the number {text[:40]}... of {len(text):,} digits is out of range")
    return int(text)


def _pairs_of_one_line(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # A line break in a key means that a quote is missing before it.
    if any("\n" in key for key, _ in pairs):
        raise InvalidAnswerError("a key holds a line break")
    return _pairs(pairs)


_STRICT = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_finite, parse_int=_whole)
_TOLERANT = json.JSONDecoder(
    object_pairs_hook=_pairs_of_one_line,
    parse_constant=_constant,
    parse_float=_finite,
    parse_int=_whole,
    strict=False,
)
"""Accepts control characters in the values of strings."""
