"""Parse columns of times: numbers, and dates of ISO 8601. No resolution is lost.

Blocks of one form are parsed as arrays of characters; others value by value, which also finds the wrong one.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from enhancer.errors import DataError

    Times = tuple[NDArray[np.int64], int]
    """int64 ``[n]`` and a number of decimals: times are the integers divided by 10 to that power."""

_EXACT = 2.0**53
_EXACT_FLOAT = 16
"""Characters of the longest number whose digits a float always tells apart."""
_LIMIT = 2**63
_MAX_DECIMALS = 18
_ISO_FRACTION = re.compile(r"(?<=\d\d)[.,](\d+)")
_DATE_HINT = "use a number or an ISO 8601 date, or remove the column"
_MAX_WIDTH = 48
"""Characters of the longest value that is parsed as an array."""
_POWERS = 10 ** np.arange(_MAX_DECIMALS + 1, dtype=np.int64)
_ZERO, _NINE, _PLUS, _MINUS, _POINT, _COMMA, _COLON, _BLANK, _T, _Z = b"09+-.,: TZ"
_DAY_SECONDS = 86_400
_DATE, _MINUTES, _SECONDS = len("2020-01-01"), len("2020-01-01T00:00"), len("2020-01-01T00:00:00")
_ZONE = len("+00:00")


def parse_times(values: Sequence[str], error: Callable[[int, str, str | None], DataError]) -> Times:
    """Return int64 ``[n]`` and a number of decimals: times are the integers divided by 10 to that power.

    Numbers keep all decimals that fit into 64 bits, dates the fractions of their seconds. A date without a zone is in
    UTC.

    Args:
        values: Numbers in any unit, or dates of ISO 8601.
        error: Returns the error to raise for a position, a problem and a hint.
    """
    try:
        return np.fromiter(map(int, values), np.int64, len(values)), 0
    except (ValueError, OverflowError):
        pass
    if max(map(len, values), default=0) <= _EXACT_FLOAT and (whole := _whole_floats(values)) is not None:
        return whole, 0
    characters = _characters(values)
    if characters is not None:
        for parse in (_parse_decimals, _parse_dates):
            if (found := parse(characters)) is not None:
                return found
    times = [_exact_time(value, n, error) for n, value in enumerate(values)]
    places = max((-int(time.normalize().as_tuple().exponent) for time in times), default=0)
    decimals = max(0, min(places, _fitting_decimals(max(map(abs, map(int, times)), default=0))))
    scaled = (int(time.scaleb(decimals).to_integral_value(ROUND_FLOOR)) for time in times)
    return np.fromiter(scaled, np.int64, len(times)), decimals


def _whole_floats(values: Sequence[str]) -> NDArray[np.int64] | None:
    """Return int64 ``[n]`` of whole numbers such as ``881250949.0`` and ``1e9``; None if there is anything else."""
    try:
        if not float(values[0]).is_integer():
            return None
        floats = np.fromiter(map(float, values), np.float64, len(values))
    except ValueError:
        return None
    return floats.astype(np.int64) if (np.abs(floats) < _EXACT).all() and (floats == np.floor(floats)).all() else None


def align_times(parts: Sequence[Times]) -> tuple[list[NDArray[np.int64]], int]:
    """Bring times to the same number of decimals: the most of all parts, or as many as fit into 64 bits."""
    whole = (int(max(-int(times.min()), int(times.max()))) // 10**n for times, n in parts if len(times))
    decimals = min(max((n for _, n in parts), default=0), _fitting_decimals(max(whole, default=0)))
    aligned = [times * 10 ** (decimals - n) if decimals >= n else times // 10 ** (n - decimals) for times, n in parts]
    return aligned, decimals


def _fitting_decimals(largest: int) -> int:
    """Return how many decimals 64 bits hold beside a whole part of this size."""
    return next((n for n in range(_MAX_DECIMALS, 0, -1) if (largest + 1) * 10**n < _LIMIT), 0)


def _characters(values: Sequence[str]) -> NDArray[np.uint8] | None:
    """Return uint8 ``[n, width]``, padded with zeros; None for empty, long or other than ASCII values."""
    try:
        found = np.array(values, np.bytes_)
    except UnicodeEncodeError:
        return None
    width = found.dtype.itemsize
    if not len(found) or width > _MAX_WIDTH:
        return None
    characters = np.ascontiguousarray(found).view(np.uint8).reshape(len(found), width)
    # NUL at the end of a value would be lost.
    return characters if np.count_nonzero(characters) == sum(map(len, values)) else None


def _parse_decimals(characters: NDArray[np.uint8]) -> Times | None:
    """Parse numbers such as ``881250949.25``; None if there is anything else."""
    signed = (characters[:, 0] == _MINUS) | (characters[:, 0] == _PLUS)
    digits = (characters >= _ZERO) & (characters <= _NINE)
    points = characters == _POINT
    known = digits | points | (characters == 0)
    known[:, 0] |= signed
    counts = digits.sum(1)
    if not known.all() or (points.sum(1) > 1).any() or not ((counts > 0) & (counts <= _MAX_DECIMALS)).all():
        return None
    numbers = np.zeros(len(characters), np.int64)
    places = np.zeros(len(characters), np.int64)
    after = np.zeros(len(characters), np.bool_)
    for column, is_digit, is_point in zip(characters.T, digits.T, points.T, strict=True):
        numbers = np.where(is_digit, numbers * 10 + (column - _ZERO), numbers)
        places += is_digit & after
        after |= is_point
    negative = characters[:, 0] == _MINUS
    return _scaled(np.where(negative, -numbers, numbers), places)


def _scaled(numbers: NDArray[np.int64], places: NDArray[np.int64]) -> Times:
    """Bring ``numbers / 10 ** places`` to one number of decimals: the fewest that are exact, or as many as fit."""
    while (ends := (places > 0) & (numbers % 10 == 0)).any():
        numbers, places = np.where(ends, numbers // 10, numbers), places - ends
    whole = np.abs(numbers) // _POWERS[places]
    decimals = min(int(places.max()), _fitting_decimals(int(whole.max())))
    finer = np.maximum(decimals - places, 0)
    coarser = np.maximum(places - decimals, 0)
    return numbers * _POWERS[finer] // _POWERS[coarser], decimals


def _parse_dates(characters: NDArray[np.uint8]) -> Times | None:
    """Parse dates such as ``2020-01-01`` and ``2020-01-01T12:30:00.5+01:00``; None if there is anything else."""
    lengths = np.count_nonzero(characters, 1)
    width = characters.shape[1]
    start = next((size for size in (_SECONDS, _MINUTES, _DATE) if lengths.min() >= size), None)
    if start is None or (start < _SECONDS and width > start) or not _has_form(characters, start):
        return None

    def number(at: int, size: int = 2) -> NDArray[np.int64]:
        digits = characters[:, at : at + size].astype(np.int64) - _ZERO
        total: NDArray[np.int64] = digits @ _POWERS[:size][::-1]
        return total

    year, month, day = number(0, 4), number(5), number(8)
    seconds = _days(year, month, day) * _DAY_SECONDS
    if not ((year > 0) & (month > 0) & (month <= 12) & (day > 0)).all():
        return None
    following = _days(year + month // 12, month % 12 + 1, np.ones_like(day))
    if not (_days(year, month, day) < following).all():
        return None
    if start > _DATE:
        hour, minute = number(11), number(14)
        second = number(17) if start == _SECONDS else np.zeros_like(minute)
        if not ((hour < 24) & (minute < 60) & (second < 60)).all():
            return None
        seconds += hour * 3600 + minute * 60 + second
    if width == start:
        return seconds, 0
    return _with_rest(characters[:, start:], lengths - start, seconds)


def _has_form(characters: NDArray[np.uint8], size: int) -> bool:
    """Check the first characters of dates: digits, and marks between them."""
    form = b"0000-00-00T00:00:00"[:size]
    for n, mark in enumerate(form):
        column = characters[:, n]
        if mark == _ZERO:
            fits = (column >= _ZERO) & (column <= _NINE)
        elif mark == _T:
            fits = (column == _T) | (column == _BLANK)
        else:
            fits = column == mark
        if not fits.all():
            return False
    return True


def _days(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the days since 1970-01-01, with years that begin in March so that leap days come last."""
    early = month < 3
    shifted = year - early
    in_year = (153 * (month + np.where(early, 9, -3)) + 2) // 5 + day - 1
    return 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400 + in_year - 719_468


def _with_rest(rest: NDArray[np.uint8], lengths: NDArray[np.int64], seconds: NDArray[np.int64]) -> Times | None:
    """Add the fraction and subtract the zone that may follow the seconds, such as ``.25+01:00`` or ``Z``."""
    rows = np.arange(len(rest))
    padded = np.pad(rest, ((0, 0), (0, _ZONE)))
    digits = (padded >= _ZERO) & (padded <= _NINE)
    pointed = (padded[:, 0] == _POINT) | (padded[:, 0] == _COMMA)
    # Digits of the fraction are those without a gap after the point.
    in_fraction = np.logical_and.accumulate(digits[:, 1:], axis=1) & pointed[:, None]
    places = in_fraction.sum(1)
    if (pointed & (places == 0)).any() or (places > _MAX_DECIMALS).any():
        return None
    fraction = np.zeros(len(rest), np.int64)
    for n in range(int(places.max(initial=0))):
        fraction = np.where(in_fraction[:, n], fraction * 10 + (padded[:, n + 1].astype(np.int64) - _ZERO), fraction)
    begin = places + pointed
    left = lengths - begin
    zone = padded[rows[:, None], np.minimum(begin[:, None] + np.arange(_ZONE), padded.shape[1] - 1)]
    is_utc = (left == 1) & (zone[:, 0] == _Z)
    offset = (left == _ZONE) & ((zone[:, 0] == _PLUS) | (zone[:, 0] == _MINUS)) & (zone[:, 3] == _COLON)
    parts = zone[:, [1, 2, 4, 5]].astype(np.int64) - _ZERO
    hours, minutes = parts[:, 0] * 10 + parts[:, 1], parts[:, 2] * 10 + parts[:, 3]
    offset &= ((parts >= 0) & (parts <= 9)).all(1) & (hours < 24) & (minutes < 60)
    if not ((left == 0) | is_utc | offset).all():
        return None
    east = np.where(zone[:, 0] == _MINUS, -1, 1) * (hours * 3600 + minutes * 60)
    seconds = seconds - np.where(offset, east, 0)
    while (ends := (places > 0) & (fraction % 10 == 0)).any():
        fraction, places = np.where(ends, fraction // 10, fraction), places - ends
    decimals = min(int(places.max()), _fitting_decimals(int(np.abs(seconds).max())))
    finer, coarser = np.maximum(decimals - places, 0), np.maximum(places - decimals, 0)
    return seconds * _POWERS[decimals] + fraction * _POWERS[finer] // _POWERS[coarser], decimals


def _exact_time(value: str, n: int, error: Callable[[int, str, str | None], DataError]) -> Decimal:
    shown = repr(value if len(value) <= 40 else value[:39] + "…")
    try:
        time = Decimal(value)
    except InvalidOperation:
        pass
    else:
        if not time.is_finite() or abs(time) >= _LIMIT:
            raise error(n, f"{shown} is not a time", None)
        return time
    text = value.strip()
    fraction = _ISO_FRACTION.search(text)
    whole = _ISO_FRACTION.sub("", text, count=1)
    try:
        if _ISO_FRACTION.search(whole):
            raise ValueError("two fractions")  # noqa: TRY301 - reported like any other date that is none
        moment = datetime.fromisoformat(whole)
    except ValueError:
        raise error(n, f"{shown} is not a time", _DATE_HINT) from None
    seconds = Decimal(int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))
    return seconds + Decimal(f"0.{fraction[1]}") if fraction else seconds
