"""Parse Python literals, such as ``{u'id': u'7', 'tags': ['a']}``, without evaluating anything.

A literal is rewritten as JSON by one pass over its tokens, and parsed as JSON. That is faster than
:func:`ast.literal_eval`, and no nesting or number of operators reaches Python's own parser.
"""

from __future__ import annotations

import json
import re
from typing import Any

_TOKEN = re.compile(
    r"""
    [uU]?'(?P<single>[^'\\]*(?:\\.[^'\\]*)*)'
    | [uU]?"(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"
    | (?P<word>\b(?:True|False|None|nan|inf)\b)
    | (?P<bracket>[()])
    | (?P<comma>,\s*(?=[\])}]))
    | (?P<long>(?<=\d)L\b)
    """,
    re.VERBOSE | re.DOTALL,
)
_OUTSIDE = re.compile(
    r"(?P<prefix>[uU](?=\x00))|(?P<word>\b(?:True|False|None|nan|inf)\b)|(?P<bracket>[()])"
    r"|(?P<comma>,\s*(?=[\])}]))|(?P<long>(?<=\d)L\b)"
)
"""The tokens to rewrite of a literal in which NUL stands for each text with its quotes."""
_ESCAPE = re.compile(
    r"\\(?:x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<octal>[0-7]{1,3})|(?P<one>.))",
    re.DOTALL,
)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "\n": ""}
_WORDS = {"True": "true", "False": "false", "None": "null", "nan": "NaN", "inf": "Infinity"}
_LARGEST_CODE = 0x10FFFF


def parse_literal(text: str) -> Any:
    r"""Return the value of a Python literal. Tuples become lists.

    Strings are read as Python 3 reads them: ``'\xe9'`` is é.

    Raises:
        ValueError: The text is no literal of dictionaries with texts as keys, lists, tuples, texts, numbers, True,
            False and None.
        RecursionError: It is nested too deeply.

    >>> parse_literal("{u'id': 7L, 'names': ('it\\'s', \"\\xe9\"), 'ok': True, 'x': None}")
    {'id': 7, 'names': ["it's", 'é'], 'ok': True, 'x': None}
    """
    if "\\" in text or '"' in text or "\x00" in text:
        return json.loads(_TOKEN.sub(_as_json, text), strict=False)
    # Every text is between two apostrophes, so that texts can be told from the rest without looking at each.
    parts = text.split("'")
    if len(parts) % 2 == 0:
        raise ValueError("a text never ends")
    parts[::2] = _OUTSIDE.sub(_as_json, "\x00".join(parts[::2])).split("\x00")
    return json.loads('"'.join(parts), strict=False)


def _as_json(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind in ("single", "double"):
        text = match[kind]
        if "\\" in text:
            text = _ESCAPE.sub(_character, text)
        elif '"' not in text:
            return f'"{text}"'
        return json.dumps(text)
    if kind == "word":
        return _WORDS[match[0]]
    if kind == "bracket":
        return "[" if match[0] == "(" else "]"
    return ""


def _character(match: re.Match[str]) -> str:
    """Return the text of an escape; an unknown one stands for itself."""
    kind = match.lastgroup
    if kind == "one":
        one = match["one"]
        return one if one in "\\'\"" else _ESCAPED.get(one, match[0])
    assert kind is not None
    code = int(match[kind], 8 if kind == "octal" else 16)
    return chr(code) if code <= _LARGEST_CODE else match[0]
