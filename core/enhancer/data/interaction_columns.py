"""Turn columns of interactions into row numbers, numbers, times and labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from enhancer.data.alike_ids import NONE_RESPELT, FixedRows, Respelt
from enhancer.data.column_values import BlockLocation, parse_ids, parse_numbers, parse_times, shown
from enhancer.data.readers.arrays import CodedColumn, Column, IrregularTableError, TimeColumn

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.data.interaction_labels import LabelRule

_MAX_EXAMPLES = 5
_MAX_TABLE = 1 << 24
"""Numbers from which on ids that are integers are looked up by bisection and not by a table."""
_UNSEEN = -2


class Vocabulary:
    """Map of ids to row numbers, which grows unless it is fixed; -1 for ids missing from a fixed vocabulary.

    Args:
        fixed: The known ids, in the order of their rows; None for a vocabulary that grows.
    """

    def __init__(self, fixed: Sequence[str] | None) -> None:
        self.fixed = fixed is not None
        self.unknown: dict[str, None] = {}
        self._rows: dict[str, int]
        self._of_integers = np.full(0, _UNSEEN, np.int32)
        if fixed is not None:
            self._rows = FixedRows(fixed)
        else:
            growing: defaultdict[str, int] = defaultdict()
            growing.default_factory = growing.__len__
            self._rows = growing

    def rows(self, column: Column, name: str, location: BlockLocation) -> NDArray[np.int32]:
        """Return int32 ``[n]``: the row number of each id of a column.

        Raises:
            DataError: A value cannot be an id.
        """
        if isinstance(column, CodedColumn):
            texts = parse_ids(column.texts, name, _of_codes(location, column))
            return self._look_up(texts)[column.codes]
        if isinstance(column, list):
            return self._look_up(parse_ids(column, name, location))
        if isinstance(column, TimeColumn) or column.dtype != np.int64:
            raise IrregularTableError
        return self._rows_of_integers(column.astype(np.int64, copy=False))

    def _look_up(self, ids: list[str]) -> NDArray[np.int32]:
        found = np.fromiter(map(self._rows.__getitem__, ids), np.int32, len(ids))
        if self.fixed and len(self.unknown) < _MAX_EXAMPLES:
            for n in np.flatnonzero(found < 0)[: 100 * _MAX_EXAMPLES].tolist():
                if len(self.unknown) < _MAX_EXAMPLES:
                    self.unknown[ids[n]] = None
        return found

    def _rows_of_integers(self, numbers: NDArray[np.int64]) -> NDArray[np.int32]:
        if int(numbers.min()) < 0 or int(numbers.max()) >= _MAX_TABLE:
            distinct, codes = np.unique(numbers, return_inverse=True)
            return self._look_up(list(map(str, distinct.tolist())))[codes]
        missing = int(numbers.max()) + 1 - len(self._of_integers)
        if missing > 0:
            room = np.full(max(missing, len(self._of_integers)), _UNSEEN, np.int32)
            self._of_integers = np.concatenate([self._of_integers, room])
        rows = self._of_integers[numbers]
        unseen = numbers[rows == _UNSEEN]
        if not len(unseen):
            return rows
        distinct, first = np.unique(unseen, return_index=True)
        distinct = distinct[np.argsort(first)]
        self._of_integers[distinct] = self._look_up(list(map(str, distinct.tolist())))
        return self._of_integers[numbers]

    @property
    def ids(self) -> list[str]:
        """The ids in the order of their rows."""
        return self._rows.names if isinstance(self._rows, FixedRows) else list(self._rows)

    def settle(self, rows: NDArray[np.int32]) -> tuple[NDArray[np.int32], Respelt]:
        """Return final row numbers, after all rows were read; see :meth:`FixedRows.settle`."""
        return self._rows.settle(rows) if isinstance(self._rows, FixedRows) else (rows, NONE_RESPELT)


def ratings_of(column: Column, name: str, location: BlockLocation) -> NDArray[np.float32]:
    """Return float32 ``[n]``: the finite ratings of a column.

    Raises:
        DataError: A value is not a finite number.
        IrregularTableError: The same, of a column whose text is not known.
    """
    if isinstance(column, CodedColumn):
        return ratings_of(column.texts, name, _of_codes(location, column))[column.codes]
    if isinstance(column, TimeColumn):
        raise IrregularTableError
    numbers = parse_numbers(column, name, location, "rating") if isinstance(column, list) else column.astype(np.float64)
    bad = ~(np.abs(numbers) <= np.finfo(np.float32).max)
    if bad.any():
        if not isinstance(column, list):
            raise IrregularTableError
        n = int(np.argmax(bad))
        raise location.value_error(n, name, f"{shown(column[n])} is not a finite rating")
    return numbers.astype(np.float32)


def times_of(column: Column, name: str, location: BlockLocation) -> tuple[NDArray[np.int64], int]:
    """Return int64 ``[n]`` and a number of decimals; see :func:`enhancer.data.time_values.parse_times`.

    Raises:
        DataError: A value is not a time.
    """
    if isinstance(column, CodedColumn):
        times, decimals = parse_times(column.texts, name, _of_codes(location, column))
        return times[column.codes], decimals
    if isinstance(column, TimeColumn):
        return column.times, column.decimals
    if isinstance(column, list):
        return parse_times(column, name, location)
    if column.dtype != np.int64:
        raise IrregularTableError
    return column.astype(np.int64, copy=False), 0


def labels_of(column: Column, label: LabelRule, location: BlockLocation) -> NDArray[np.float32]:
    """Return float32 ``[n]``: the labels of a column, 0 or 1.

    Raises:
        DataError: A value is neither a label nor, for a bound, a finite number.
    """
    if label.bound is not None:
        return label.from_numbers(ratings_of(column, label.column, location))
    if isinstance(column, CodedColumn):
        return labels_of(column.texts, label, _of_codes(location, column))[column.codes]
    if isinstance(column, TimeColumn):
        raise IrregularTableError
    texts = column if isinstance(column, list) else list(map(str, column.tolist()))
    return label.from_text(texts, lambda n, problem: location.value_error(n, label.column, problem))


def _of_codes(location: BlockLocation, column: CodedColumn) -> BlockLocation:
    """Return the location of the distinct texts of a column: where each occurs first."""
    return BlockLocation(location.table, _FirstRows(location.rows, column))


class _FirstRows(Sequence[int]):
    """Row number at which each text of a coded column occurs first."""

    def __init__(self, rows: Sequence[int], column: CodedColumn) -> None:
        self._rows, self._column = rows, column

    def __len__(self) -> int:
        return len(self._column.texts)

    @overload
    def __getitem__(self, n: int) -> int: ...

    @overload
    def __getitem__(self, n: slice) -> Sequence[int]: ...

    def __getitem__(self, n: int | slice) -> int | Sequence[int]:
        if isinstance(n, slice):
            return [self[k] for k in range(*n.indices(len(self)))]
        return self._rows[int(np.argmax(self._column.codes == n))]
