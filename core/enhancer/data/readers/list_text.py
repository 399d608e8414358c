"""Find the elements of lists that are written as text, as in cells of CSV files."""

from __future__ import annotations

import json
import re
from typing import Any

from enhancer.data.readers.cells import list_cell
from enhancer.data.readers.native.literals import parse_literal

_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_ARRAY = re.compile(rf"\[\s*(?:{_STRING})(?:\s+(?:{_STRING}))*\s*\]", re.DOTALL)
"""A one-dimensional array of strings, as NumPy prints it: without commas."""


def elements_of(text: str) -> tuple[str, ...] | None:
    """Return the elements of a list that is written as JSON, as a Python literal or as NumPy prints it.

    Nested lists are flattened. Nothing is evaluated.

    Returns:
        The elements without empty ones, or None for any other text.

    >>> elements_of("['Clothing, Shoes & Jewelry', ['Women']]"), elements_of("['Drama' 'War']"), elements_of("[REC]")
    (('Clothing, Shoes & Jewelry', 'Women'), ('Drama', 'War'), None)
    """
    if text.lstrip()[:1] not in ("[", "("):
        return None
    for parse in (json.loads, parse_literal, _parse_array):
        try:
            value = parse(text)
        except (ValueError, RecursionError):
            continue
        return list_cell(value).elements if isinstance(value, list) else None
    return None


def _parse_array(text: str) -> Any:
    if not _ARRAY.fullmatch(text.strip()):
        raise ValueError("not an array of strings")
    return [parse_literal(found[0]) for found in re.finditer(_STRING, text, re.DOTALL)]
