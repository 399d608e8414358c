"""Parse the values of a column: ids, numbers and times. An error names file, line and column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.data import time_values
from enhancer.data.entities import find_bad_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.data.readers import TableReader
    from enhancer.errors import DataError


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


def parse_times(values: list[str], column: str, location: BlockLocation) -> tuple[NDArray[np.int64], int]:
    """Return int64 ``[n]`` and a number of decimals; see :func:`enhancer.data.time_values.parse_times`."""

    def error(n: int, problem: str, hint: str | None) -> DataError:
        return location.value_error(n, column, problem, hint=hint or "correct or remove the row")

    return time_values.parse_times(values, error)


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
