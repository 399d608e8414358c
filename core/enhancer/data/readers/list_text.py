"""Find the elements of lists that are written as text, as in cells of CSV files."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.data.readers.cells import ListCell, list_cell
from enhancer.data.readers.native.literals import parse_literal

if TYPE_CHECKING:
    from collections.abc import Sequence

_LONG_NUMBER = 14
"""Characters of the shortest number that is taken for one of 32 bits."""
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


def plain_lists(column: list[str]) -> list[str]:
    """Return cells with every list as its elements: ``a, b``.

    A list that is written as text counts if it has strings in quotes, or is empty.

    >>> plain_lists(["['Drama', ['War']]", "[1, 2]", "[]", "Heat"])
    ['Drama, War', '[1, 2]', '', 'Heat']
    """
    return [_plain(value) if value[:1] == "[" or isinstance(value, ListCell) else value for value in column]


def _plain(value: str) -> str:
    if isinstance(value, ListCell):
        return ", ".join(value.elements)
    if "'" not in value and '"' not in value and value.strip("[] "):
        return value
    elements = elements_of(value)
    return value if elements is None else ", ".join(elements)


def _parse_array(text: str) -> Any:
    if not _ARRAY.fullmatch(text.strip()):
        raise ValueError("not an array of strings")
    return [parse_literal(found[0]) for found in re.finditer(_STRING, text, re.DOTALL)]


def not_plain(column: Sequence[str]) -> bool:
    """Return whether ``[data] plain_cells`` changes how a column reads: lists as text, or numbers of 32 bits."""
    return plain_lists(list(column)) != list(column) or any(map(_has_single_precision, column))


def _has_single_precision(value: str) -> bool:
    """Return whether a number has so many digits only because 32 bits were taken for 64."""
    if len(value) < _LONG_NUMBER or not value.replace(".", "", 1).removeprefix("-").isdigit():
        return False
    number = float(value)
    return float(np.float32(number)) == number
