"""Parse the values of a column: ids, numbers and times. An error names file, line and column."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from enhancer.data.entities import MAX_ID

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.data.readers import TableReader
    from enhancer.errors import DataError


@dataclass
class BlockLocation:
    """Location of a block in its file, from which error messages derive the line."""

    table: TableReader
    first: int
    present: list[int] | None

    def value_error(self, n: int, column: str, problem: str, *, hint: str = "correct or remove the row") -> DataError:
        """Return the error for the value at position ``n`` of the block."""
        row = self.first + (n if self.present is None else self.present[n])
        return self.table.value_error(row, column, problem, hint=hint)


def parse_ids(values: list[str], column: str, location: BlockLocation) -> list[str]:
    """Return the ids without white space around them; an empty or very long one is an error."""
    stripped = list(map(str.strip, values))
    if "" in stripped:
        raise location.value_error(stripped.index(""), column, "the id is empty")
    if max(map(len, stripped), default=0) > MAX_ID:
        n = next(n for n, value in enumerate(stripped) if len(value) > MAX_ID)
        raise location.value_error(n, column, f"the id has {len(stripped[n]):,} characters")
    return stripped


def parse_times(values: list[str], column: str, location: BlockLocation) -> NDArray[np.int64]:
    """Return int64 ``[n]``: whole seconds of numbers or ISO 8601 dates, or whole units of the file."""
    try:
        # Parse as int first: a float cannot hold nanoseconds exactly.
        return np.fromiter(map(int, values), np.int64, len(values))
    except (ValueError, OverflowError):
        pass
    numbers = np.fromiter((_seconds(v, n, column, location) for n, v in enumerate(values)), np.float64, len(values))
    bad = ~(np.abs(numbers) < 2.0**63)
    if bad.any():
        n = int(np.argmax(bad))
        raise location.value_error(n, column, f"{shown(values[n])} is not a time")
    return np.floor(numbers).astype(np.int64)


def _seconds(value: str, n: int, column: str, location: BlockLocation) -> float:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value.strip())
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
