"""Convert values to cells: text, and for a list also its elements."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class ListCell(str):
    """The text of a list, with its elements.

    As text it is what prompts show. Readers of tags take the elements, which may contain any separator.

    Args:
        text: The list as text.
        elements: Its elements as text, nested lists flattened, without empty ones.

    >>> cell = list_cell(["Clothing, Shoes & Jewelry", "Women"])
    >>> str(cell), cell.elements
    ('Clothing, Shoes & Jewelry, Women', ('Clothing, Shoes & Jewelry', 'Women'))
    """

    __slots__ = ("elements",)
    elements: tuple[str, ...]

    def __new__(cls, text: str, elements: Sequence[str]) -> Self:
        """Return the text with its elements."""
        cell = super().__new__(cls, text)
        cell.elements = tuple(elements)
        return cell

    def __reduce__(self) -> tuple[type[Self], tuple[str, tuple[str, ...]]]:
        return type(self), (str(self), self.elements)


def list_cell(values: Sequence[Any]) -> ListCell:
    """Return the cell of a list: its elements joined by commas as text, or compact JSON if it holds other containers.

    >>> cell = list_cell([["a", "b"], {"id": 7, "name": "c"}, None])
    >>> str(cell), cell.elements
    ('[["a","b"],{"id":7,"name":"c"},null]', ('a', 'b', 'c'))
    """
    if all(type(value) is str for value in values):
        texts = [value if value.isascii() else _encodable(value) for value in values]
        return ListCell(", ".join(texts), [text for text in texts if text])
    if not any(value is None or isinstance(value, (list, tuple, dict)) for value in values):
        texts = [cell(value) for value in values]
        return ListCell(", ".join(texts), [text for text in texts if text])
    return ListCell(_compact(list(values)), list(_elements(values)))


def cell(value: Any) -> str:
    """Convert a value of JSON, of a Python literal or of Arrow to a cell.

    Lists become :class:`ListCell`, other containers compact JSON, dates ISO 8601, and null an empty text.

    >>> cell({"a": [1, None]}), cell(None), cell(4.5), cell(7.0), cell(True)
    ('{"a":[1,null]}', '', '4.5', '7', 'true')
    """
    if isinstance(value, str):
        return value if value.isascii() else _encodable(value)
    if value is None:
        return ""
    if type(value) is int:  # excludes bool
        return _digits(value)
    if isinstance(value, float):
        # A column with gaps that passed through a data frame holds NaN for a gap and 7.0 for 7.
        return "" if math.isnan(value) else repr(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, (list, tuple)):
        return list_cell(value)
    if isinstance(value, (bool, dict)):
        return _compact(value)
    return _other(value)


def _other(value: Any) -> str:
    """Convert a value without a form in JSON to text."""
    if isinstance(value, (dt.date, dt.time)):  # a datetime is a date
        return value.isoformat()
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _encodable(text: str) -> str:
    """Replace lone surrogates, which JSON may hold and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _digits(value: int) -> str:
    try:
        return repr(value)
    except ValueError:  # more digits than Python converts
        return hex(value)


def _compact(value: Any) -> str:
    try:
        return _encodable(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_other))
    except RecursionError:
        return ""


def _elements(values: Sequence[Any]) -> Iterator[str]:
    """Yield the elements of a list that may be nested; an object stands for its name, if it has one."""
    waiting = [iter(values)]
    while waiting:
        for value in waiting[-1]:
            if isinstance(value, (list, tuple)):
                waiting.append(iter(value))
                break
            named = value.get("name") if isinstance(value, dict) else None
            if text := cell(named if isinstance(named, str) and named else value):
                yield text
        else:
            waiting.pop()
