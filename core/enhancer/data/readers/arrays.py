"""Columns of a block as arrays, for tables of many short rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")

ColumnRole = Literal["id", "number", "time", "text"]
"""Use of the cells of a column."""


@dataclass(frozen=True, eq=False)
class CodedColumn:
    """Cells that repeat: each distinct text once, and its number for each row."""

    codes: NDArray[np.int32]
    """int32 ``[n]``: positions in ``texts``."""
    texts: list[str]


@dataclass(frozen=True, eq=False)
class TimeColumn:
    """Points in time."""

    times: NDArray[np.int64]
    """int64 ``[n]``: seconds since 1970 in UTC, times 10 to the power of ``decimals``."""
    decimals: int


Column: TypeAlias = "list[str] | CodedColumn | TimeColumn | NDArray[np.int64] | NDArray[np.float64]"
"""One column of a block. An array of integers or floats stands for their usual spelling."""


class IrregularTableError(Exception):
    """A table that cannot be read as arrays. Reading its cells as text says what is wrong, if anything is."""


def read_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield items while a thread makes the next one."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item
