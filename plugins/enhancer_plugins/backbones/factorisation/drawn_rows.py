"""One side of a step of a factorisation machine, on the rows that the step draws and on no others.

With ``r`` what an entity's id and side features bring (``l`` their linear terms), ``X`` the dense columns, ``V`` their
factors and ``w`` their linear terms, a side is, row by row::

    total = r + X V
    level = l + X w + 1/2 (|total|² - |r|² - X² |V|²)

Its gradient is written out here. By ``T`` and ``g``, the gradients by total and level, and ``T' = T + g total``::

    by r = T' - g r      by l = g      by V = X' T' - (X²' g) V      by w = X' g      by X = T' V' + g (w - X |V|²)

So ``X`` is read twice a step, no square of it is ever kept, and all else is small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
import torch

from enhancer_plugins.training.compiled.kernels import CHUNKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_HELD = 8 << 20
"""Numbers of gathered columns that are held at once."""
_FAST = {"contract", "reassoc", "nsz", "arcp"}  # not "nnan"/"ninf": a diverged run must still be seen as such


class Fields(NamedTuple):
    """The dense fields of a side, without gradient."""

    factors: torch.Tensor
    """``V``, float32 ``[w, d]``."""
    linear: torch.Tensor | None
    """``w``, float32 ``[w, 1]``; None for none."""


class Slopes(NamedTuple):
    """Gradients by what a side is made of."""

    rows: torch.Tensor
    """By ``r`` of the drawn rows, float32 ``[m, d]``."""
    factors: torch.Tensor | None
    """By ``V``; None without dense fields."""
    linear: torch.Tensor | None
    """By ``w``; None without linear terms."""
    columns: torch.Tensor | None
    """By ``X`` of the drawn rows, float32 ``[m, w]``, where that is trained."""


class DrawnSide:
    """Draws rows of one side, and goes forward and back over them; one step after another.

    Args:
        n: Entities of this side.
        constant: float32 ``[n, w]``: their dense columns, where these are not trained; None for others, or for none.
    """

    def __init__(self, n: int, constant: torch.Tensor | None) -> None:
        self._constant = constant
        self._place = np.full(n, -1, np.int64)
        self._gathered = torch.empty(0)
        self._there = (-1, -1)
        self.rows = torch.empty(0, dtype=torch.int64)
        """int64 ``[m]``: the step's distinct rows, ascending."""

    def draw(self, keys: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Take up a step's rows; the place in :attr:`rows` of each that is asked for."""
        self.rows = torch.from_numpy(_distinct(np.concatenate(keys), self._place))
        places = [self._place[some] for some in keys]
        self._place[self.rows.numpy()] = -1
        self._there = (-1, -1)
        return places

    def forward(
        self, core: torch.Tensor, level: torch.Tensor | None, fields: Fields | None, columns: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Totals and levels of the drawn rows.

        Args:
            core: ``r`` of all entities, float32 ``[n, d]``.
            level: ``l`` of all of them, float32 ``[n]``; None where levels say nothing.
            fields: Those of the dense columns; None without any.
            columns: Of the drawn rows, float32 ``[m, w]``, where they are trained.
        """
        self._fields, self._columns = fields, columns
        self._core = core.index_select(0, self.rows)
        own = None if level is None else level.index_select(0, self.rows)
        if fields is None:
            self._total = self._core
            return self._total, own
        self._total = torch.empty_like(self._core)
        half, linear = _terms(fields)
        for first, last in self._blocks():
            block = self._block(first, last)
            torch.addmm(self._core[first:last], block, fields.factors, out=self._total[first:last])
            if own is not None:
                _add_levels(block.numpy(), half, linear, own[first:last].numpy())
        if own is not None:
            _add_products(self._total, self._core, own)
        return self._total, own

    def backward(self, by_total: torch.Tensor, by_level: torch.Tensor | None) -> Slopes:
        """The gradients, from those by what :meth:`forward` gave; ``by_total`` is changed."""
        fields = self._fields
        if fields is None:
            return Slopes(by_total, None, None, None)
        by_rows = by_total
        if by_level is not None:
            by_rows = torch.empty_like(by_total)
            _add_slopes(by_total.numpy(), by_level.numpy(), self._total.numpy(), self._core.numpy(), by_rows.numpy())
        to_factors = torch.zeros_like(fields.factors)
        sums = np.zeros((2, len(to_factors)), np.float32)
        for first, last in reversed(list(self._blocks())):  # the last block is there still
            block = self._block(first, last)
            to_factors.addmm_(block.T, by_total[first:last])
            if by_level is not None:
                sums += _column_sums(block.numpy(), by_level[first:last].numpy()).sum(0)
        if by_level is not None:
            to_factors.addcmul_(torch.from_numpy(sums[1]).unsqueeze(1), fields.factors, value=-1)
        to_columns = None
        if self._columns is not None:
            to_columns = by_total @ fields.factors.T
            if by_level is not None:
                half, linear = _terms(fields)
                _add_column_slopes(self._columns.numpy(), half, linear, by_level.numpy(), to_columns.numpy())
        linear_slopes = None if fields.linear is None else torch.from_numpy(sums[:1].T.copy())
        return Slopes(by_rows, to_factors, linear_slopes, to_columns)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Places of rows whose columns are held at once."""
        m = len(self.rows)
        table = self._constant if self._columns is None else self._columns
        assert table is not None
        size = m if self._columns is not None else max(_HELD // max(table.shape[1], 1), 1)
        for first in range(0, m, max(size, 1)):
            yield first, min(first + size, m)

    def _block(self, first: int, last: int) -> torch.Tensor:
        """Columns of some drawn rows."""
        if self._columns is not None:
            return self._columns
        assert self._constant is not None
        if len(self._gathered) < last - first:
            most = min(max(len(self._place), 1), max(_HELD // max(self._constant.shape[1], 1), 1))
            self._gathered = self._constant.new_empty((min(most, 2 * (last - first)), self._constant.shape[1]))
        block = self._gathered[: last - first]
        if self._there != (first, last):
            torch.index_select(self._constant, 0, self.rows[first:last], out=block)
            self._there = (first, last)
        return block


def all_rows(
    core: torch.Tensor, level: torch.Tensor, columns: torch.Tensor, fields: Fields
) -> tuple[torch.Tensor, torch.Tensor]:
    """Totals ``[n, d]`` and levels ``[n]`` of all entities at once, on the CPU and without gradient."""
    total = torch.addmm(core, columns, fields.factors)
    made = level.clone()
    _add_levels(columns.contiguous().numpy(), *_terms(fields), made.numpy())
    _add_products(total, core, made)
    return total, made


def _add_products(total: torch.Tensor, core: torch.Tensor, out: torch.Tensor) -> None:
    """``out[r] += (|total|² - |core|²) / 2``.

    By torch: sums of so few numbers come out otherwise in the process that compiles a kernel than in those that find it
    compiled.
    """
    out.add_(torch.linalg.vecdot(total, total).sub_(torch.linalg.vecdot(core, core)), alpha=0.5)


def _terms(fields: Fields) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """``|V|² / 2`` and ``w``, float32 ``[w]`` each."""
    half = fields.factors.square().sum(1).div_(2).numpy()
    return half, np.zeros_like(half) if fields.linear is None else fields.linear.squeeze(1).numpy()


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _distinct(keys: Any, place: Any) -> Any:  # pragma: no cover - compiled
    """Distinct ``keys`` int64, ascending; ``place`` int64 ``[n]``, -1 everywhere, gets where each is."""
    count = 0
    for key in keys:
        if place[key] < 0:
            place[key] = 0
            count += 1
    rows = np.empty(count, np.int64)
    at = 0
    for key in range(place.shape[0]):
        if place[key] >= 0:
            rows[at] = key
            place[key] = at
            at += 1
    return rows


@numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
def _add_levels(columns: Any, half: Any, linear: Any, out: Any) -> None:  # pragma: no cover - compiled
    """``out[r] += sum_k x (linear[k] - x half[k])``."""
    for row in numba.prange(columns.shape[0]):
        total = np.float32(0)
        for k in range(columns.shape[1]):
            x = columns[row, k]
            total += x * (linear[k] - x * half[k])
        out[row] += total


@numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
def _add_slopes(by_total: Any, by_level: Any, total: Any, core: Any, out: Any) -> None:  # pragma: no cover - compiled
    """``by_total += by_level total`` in place; ``out = by_total - by_level core``."""
    for row in numba.prange(total.shape[0]):
        level = by_level[row]
        for k in range(total.shape[1]):
            slope = by_total[row, k] + level * total[row, k]
            by_total[row, k] = slope
            out[row, k] = slope - level * core[row, k]


@numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
def _column_sums(columns: Any, slopes: Any) -> Any:  # pragma: no cover - compiled
    """``X' g`` and ``X²' g``: float32 ``[CHUNKS, 2, w]``, to be summed; pieces do not depend on the threads."""
    n, width = columns.shape
    out = np.zeros((CHUNKS, 2, width), np.float32)
    for chunk in numba.prange(CHUNKS):
        for row in range(chunk * n // CHUNKS, (chunk + 1) * n // CHUNKS):
            g = slopes[row]
            for k in range(width):
                x = columns[row, k]
                out[chunk, 0, k] += g * x
                out[chunk, 1, k] += g * x * x
    return out


@numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
def _add_column_slopes(
    columns: Any, half: Any, linear: Any, slopes: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """``out[r, k] += slopes[r] (linear[k] - 2 x half[k])``."""
    for row in numba.prange(columns.shape[0]):
        g = slopes[row]
        for k in range(columns.shape[1]):
            out[row, k] += g * (linear[k] - np.float32(2) * columns[row, k] * half[k])
