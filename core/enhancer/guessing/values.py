"""Read what a column holds from a sample of its values."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_URL = re.compile(r"(?:(?:https?|ftp):)?//[^\s\"'<>\]}]+|www\.[^\s\"'<>\]}]+|data:[a-z]+/[^\s\"'<>\]}]+", re.IGNORECASE)
_FILE = re.compile(r"\S+\.(?:jpe?g|png|gif|webp|svg|bmp|tiff?|avif|mp[34]|m4[av]|avi|mov|webm|wav|ogg|flac)(?:\?\S*)?")
_STRUCTURE = re.compile(r"[\s\[\]{}()\"',:;|]|\b(?:None|null|True|False|true|false)\b")
_QUANTITY = re.compile(
    r"[~<>≈≥≤#]?\s*[-+]?\d[\d.,\s]*(?:[eE][-+]?\d+)?\s*[kKmMbB%]?\+?(?:\s*(?:-|\.\.|to)\s*\d[\d.,]*\s*[kKmMbB]?)?"
)
_GROUPED = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CODE = re.compile(r"(?=[^\s]*\d)[A-Za-z0-9][A-Za-z0-9_.:/+=~-]{3,63}")
_WORD = re.compile(r"[A-Za-z]+(?:[-_][A-Za-z]+)*\d{0,2}|(?:19|20)\d\d[-/.]\d\d?.*|[\d.,:/-]+")
_LEAST = 20
"""Smallest number of values from which a column's shape is judged."""
_FIRST_YEAR, _LAST_YEAR = 1500, 2100
_FIRST_SECOND, _LAST_SECOND = 631_152_000, 4_102_444_800
"""Beginnings of 1990 and 2100, in seconds since 1970."""


def holds_urls(values: Sequence[str]) -> bool:
    """Return whether at least half of what a column says is URLs or names of pictures, however nested.

    >>> holds_urls(['[{"large": "https://a.example/1.jpg", "variant": "MAIN"}]'])
    True
    >>> holds_urls(["Bought at https://a.example, a shop in town"])
    False
    """
    urls = whole = 0
    for value in values:
        letters = len(_STRUCTURE.sub("", value))
        whole += letters
        urls += letters if _FILE.fullmatch(value) else len(_STRUCTURE.sub("", "".join(_URL.findall(value))))
    return whole > 0 and 2 * urls >= whole


def hold_quantities(values: Sequence[str]) -> bool:
    """Return whether all values are quantities, also such as ``1,234``, ``10K+`` or ``20000 - 50000``."""
    return bool(values) and all(len(value) <= 40 and _QUANTITY.fullmatch(value) for value in values)


def number_of(value: str) -> float | None:
    """Return the number that a value is, also with commas between thousands; None if it is none."""
    try:
        return float(value.replace(",", "") if _GROUPED.fullmatch(value) else value)
    except ValueError:
        return None


def hold_codes(values: Sequence[str]) -> bool:
    """Return whether nearly all values are codes with digits, such as ``B00004YLF5``, and none occurs twice.

    Numbers, dates and words are no codes.
    """
    if len(values) < _LEAST or len({*values}) < 0.99 * len(values):
        return False
    codes = sum(_CODE.fullmatch(value) is not None and _WORD.fullmatch(value) is None for value in values)
    return codes >= 0.95 * len(values)


def hold_dates(values: Sequence[float]) -> bool:
    """Return whether nearly all numbers could be years, days such as ``20040131``, or times in (milli)seconds.

    >>> hold_dates([1999, 2004]), hold_dates([20040131, 19991231]), hold_dates([1.2e9, 1.6e9]), hold_dates([12, 2004])
    (True, True, True, False)
    """
    dates = sum(_is_date(int(value)) for value in values if value == value // 1)
    return bool(values) and dates >= 0.95 * len(values)


def _is_date(number: int) -> bool:
    if _FIRST_YEAR <= number <= _LAST_YEAR:
        return True
    year, day = divmod(number, 10_000)
    if 1900 <= year <= _LAST_YEAR and 1 <= day // 100 <= 12 and 1 <= day % 100 <= 31:
        return True
    return any(_FIRST_SECOND <= number // unit <= _LAST_SECOND for unit in (1, 1000))


def whole_stars(values: Sequence[str]) -> bool:
    """Return whether values are whole numbers up to five, as those of a hotel's class are."""
    numbers = [number_of(value) for value in values]
    return all(number is not None and number == int(number) and 0 <= number <= 5 for number in numbers)
