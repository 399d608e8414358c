"""Parse the values of a column: ids, numbers and times. An error names file, line and column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_FLOOR, Decimal, InvalidOperation
from typing import TYPE_CHECKING

import numpy as np

from enhancer.data.entities import find_bad_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.data.readers import TableReader
    from enhancer.errors import DataError

_EXACT_FLOAT = 2.0**53
_LIMIT = 2**63
_MAX_DECIMALS = 18
_ISO_FRACTION = re.compile(r"(?<=\d\d)[.,](\d+)")


@dataclass
class BlockLocation:
    """Location of a block in its file, from which error messages derive the line."""

    table: TableReader
    rows: Sequence[int]
    """Row number of each position."""

    def value_error(self, n: int, column: str, problem: str, *, hint: str = "correct or remove the row") -> DataError:
        """Return the error for the value at position ``n`` of the block."""
        return self.table.value_error(self.rows[n], column, problem, hint=hint)


def parse_ids(values: list[str], column: str, location: BlockLocation) -> list[str]:
    """Return the ids without white space around them; one that is empty, very long or has NUL is an error."""
    stripped = list(map(str.strip, values))
    if (wrong := find_bad_id(stripped)) is not None:
        n, problem = wrong
        raise location.value_error(n, column, problem)
    return stripped


def parse_times(values: list[str], column: str, location: BlockLocation) -> NDArray[np.int64]:
    """Return int64 ``[n]``: whole seconds of numbers or ISO 8601 dates, or whole units of the file."""
    times, decimals = parse_exact_times(values, column, location)
    whole: NDArray[np.int64] = times // 10**decimals
    return whole


def parse_exact_times(values: list[str], column: str, location: BlockLocation) -> tuple[NDArray[np.int64], int]:
    """Return int64 ``[n]`` and a number of decimals: times are the integers divided by 10 to that power.

    Numbers keep all decimals that fit into 64 bits, dates the fractions of their seconds.
    """
    try:
        return np.fromiter(map(int, values), np.int64, len(values)), 0
    except (ValueError, OverflowError):
        pass
    try:
        floats = np.fromiter(map(float, values), np.float64, len(values))
    except ValueError:
        pass
    else:
        if (np.abs(floats) < _EXACT_FLOAT).all() and (floats == np.floor(floats)).all():
            return floats.astype(np.int64), 0
    times = [_exact_time(value, n, column, location) for n, value in enumerate(values)]
    places = max((-int(time.normalize().as_tuple().exponent) for time in times), default=0)
    decimals = max(0, min(places, _fitting_decimals(max(map(abs, map(int, times)), default=0))))
    scaled = (int(time.scaleb(decimals).to_integral_value(ROUND_FLOOR)) for time in times)
    return np.fromiter(scaled, np.int64, len(times)), decimals


def align_times(parts: Sequence[tuple[NDArray[np.int64], int]]) -> tuple[list[NDArray[np.int64]], int]:
    """Bring times to the same number of decimals: the most of all parts, or as many as fit into 64 bits."""
    whole = (int(max(-int(times.min()), int(times.max()))) // 10**n for times, n in parts if len(times))
    decimals = min(max((n for _, n in parts), default=0), _fitting_decimals(max(whole, default=0)))
    aligned = [times * 10 ** (decimals - n) if decimals >= n else times // 10 ** (n - decimals) for times, n in parts]
    return aligned, decimals


def _fitting_decimals(largest: int) -> int:
    """Return how many decimals 64 bits hold beside a whole part of this size."""
    return next((n for n in range(_MAX_DECIMALS, 0, -1) if (largest + 1) * 10**n < _LIMIT), 0)


def _exact_time(value: str, n: int, column: str, location: BlockLocation) -> Decimal:
    try:
        time = Decimal(value)
    except InvalidOperation:
        pass
    else:
        if not time.is_finite() or abs(time) >= _LIMIT:
            raise location.value_error(n, column, f"{shown(value)} is not a time")
        return time
    text = value.strip()
    fraction = _ISO_FRACTION.search(text)
    whole = _ISO_FRACTION.sub("", text, count=1)
    seconds = Decimal(int(_seconds(whole, value, n, column, location)))
    return seconds + Decimal(f"0.{fraction[1]}") if fraction else seconds


def _seconds(text: str, value: str, n: int, column: str, location: BlockLocation) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        hint = "use a number or an ISO 8601 date, or remove the column"
        raise location.value_error(n, column, f"{shown(value)} is not a time", hint=hint) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def parse_numbers(values: list[str], column: str, location: BlockLocation, name: str) -> NDArray[np.float64]:
    """Return float64 ``[n]``; ``name`` is what an error calls an empty value."""
    try:
        return np.fromiter(map(float, values), np.float64, len(values))
    except ValueError:
        n = next(n for n, value in enumerate(values) if not _is_number(value))
        problem = f"{shown(values[n])} is not a number" if values[n].strip() else f"the {name} is empty"
        raise location.value_error(n, column, problem) from None


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def shown(value: str) -> str:
    """Return a value for an error message: quoted, and cut off if it is long."""
    return repr(value if len(value) <= 40 else value[:39] + "…")
