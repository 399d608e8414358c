"""Compare columns of a table with the number of interactions of each of its entities."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.data.alike_ids import plain_number
from enhancer.guessing.values import hold_dates, number_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.data.readers import TableOptions

MAX_INTERACTIONS = 2_000_000
"""Rows of interactions that are counted: enough to rank items, and read in seconds."""
MAX_ENTITIES = 100_000
"""Rows of items or users that are compared."""
FOLLOWS = 0.9
"""Absolute rank correlation from which a column follows the number of interactions."""
_LEAST = 20
"""Smallest number of entities whose order says something."""


@dataclass(frozen=True)
class Interacted:
    """Interactions of each id, in the rows that were counted."""

    counts: Counter[str]
    rows: int
    whole: bool
    """Whether the whole table was counted."""


@dataclass(frozen=True)
class ColumnFacts:
    """Facts about a table beyond its first rows."""

    rows: int
    """Rows that were looked at."""
    row_numbers: frozenset[str]
    """Columns that count the rows, from 0 or 1."""
    correlations: dict[str, float]
    """Rank correlation of numeric columns with the number of interactions."""
    joined: dict[str, float]
    """Share of interactions, by column, whose id is among its values."""


def count_interactions(
    path: Path, columns: Sequence[str], limit: int = MAX_INTERACTIONS, *, options: TableOptions | None = None
) -> dict[str, Interacted]:
    """Count the rows of each id in columns of a table of interactions, in at most ``limit`` rows of it.

    Args:
        path: The table.
        columns: Its columns of ids.
        limit: Largest number of rows.
        options: How the file is read.

    Raises:
        ConfigError: The table cannot be opened.
        DataError: A row cannot be read.
    """
    names = list(dict.fromkeys(columns))
    counts: dict[str, Counter[str]] = {name: Counter() for name in names}
    rows = 0
    for block in _columns(path, names, limit, options):
        for name, values in zip(names, block, strict=True):
            counts[name].update(values)
        rows += len(block[0])
    return {name: Interacted(_by_number(found), rows, rows < limit) for name, found in counts.items()}


def _by_number(counts: Counter[str]) -> Counter[str]:
    """Return the counts with one key for all spellings of a number, which the tables may spell otherwise."""
    found: Counter[str] = Counter()
    for name, count in counts.items():
        found[_key(name)] += count
    return found


def _key(name: str) -> str:
    bare = name.strip()
    return plain_number(bare) or bare


def column_facts(
    path: Path,
    id_column: str,
    numeric: Sequence[str],
    *,
    ids: Sequence[str] = (),
    counted: Interacted | None,
    limit: int = MAX_ENTITIES,
    options: TableOptions | None = None,
) -> ColumnFacts:
    """Look at the numeric columns of a table of items or users, in at most ``limit`` rows of it.

    Args:
        path: The table.
        id_column: Its ids.
        numeric: Its columns of numbers.
        ids: Columns that may be its ids.
        counted: Interactions of each id; None without any.
        limit: Largest number of rows.
        options: How the file is read.

    Raises:
        ConfigError: The table cannot be opened.
        DataError: A row cannot be read.
    """
    names = list(dict.fromkeys([id_column, *numeric, *ids]))
    starts = {name: {0, 1} for name in numeric}
    numbers: dict[str, list[float]] = {name: [] for name in numeric}
    per_id: list[int] = []
    known: dict[str, int] = dict.fromkeys(ids, 0)
    rows = 0
    for block in _columns(path, names, limit, options):
        values = dict(zip(names, block, strict=True))
        for name in numeric:
            starts[name] = {n for n in starts[name] if _counts_on(values[name], rows + n)}
            parsed = [number_of(value.strip()) for value in values[name]]
            numbers[name] += [np.nan if number is None else number for number in parsed]
        if counted is not None:
            per_id += [counted.counts[_key(one)] for one in values[id_column]]
            for name in ids:
                known[name] += sum(counted.counts[one] for one in {*map(_key, values[name])})
        rows += len(block[0])
    correlations = {}
    if counted is not None:
        frequency = np.array(per_id, np.float64)
        if not counted.whole:  # what was not reached may be as popular as anything
            frequency[frequency == 0] = np.nan
        for name in numeric:
            column = np.array(numbers[name])
            found = rank_correlation(column, frequency)
            if found is not None and not hold_dates(column[np.isfinite(column)].tolist()):
                correlations[name] = found
    total = counted.rows if counted is not None else 0
    return ColumnFacts(
        rows=rows,
        row_numbers=frozenset(name for name in numeric if starts[name] and rows > 1),
        correlations=correlations,
        joined={name: known[name] / total for name in ids if total},
    )


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Return Spearman's rank correlation, with mean ranks of ties.

    Args:
        one: float64 ``[n]``; NaN for a missing value.
        other: float64 ``[n]``.

    Returns:
        None if either side is constant, or fewer than twenty places have both values.
    """
    both = np.isfinite(one) & np.isfinite(other)
    if np.count_nonzero(both) < _LEAST:
        return None
    first, second = _ranks(one[both]), _ranks(other[both])
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: NDArray[np.float64] = last - (counts - 1) / 2
    return means[inverse]


def _counts_on(values: Sequence[str], first: int) -> bool:
    """Return whether values count the rows up, from ``first`` on."""
    return all(value.strip() in (str(n), f"{n}.0") for n, value in enumerate(values, first))


def _columns(path: Path, names: Sequence[str], limit: int, options: TableOptions | None) -> Iterator[list[list[str]]]:
    """Yield blocks of the named columns without blank lines, of at most ``limit`` rows in all."""
    from enhancer.data.readers import open_table

    table = open_table(path, options)
    if not {*names} <= {*table.columns}:
        table.scan_columns()
    left = limit
    for _, block in table.blocks(names):
        yield [column[:left] for column in block]
        left -= len(block[0])
        if left <= 0:
            return
