"""Forward and backward pass of one side of a factorisation machine, for the rows that a step draws.

With ``r`` the sums over ids and side features, ``l`` their biases, ``X`` the dense columns, ``V`` their factors and
``w`` their linear terms, the sums and biases of a side are, row by row::

    total = r + X V
    bias = l + X w + 1/2 (|total|² - |r|² - X² |V|²)

With ``T`` and ``g`` the gradients by total and bias, and ``T' = T + g total``, the gradients are::

    by r = T' - g r      by l = g      by V = X' T' - (X²' g) V      by w = X' g      by X = T' V' + g (w - X |V|²)

``X`` is read twice per step, and its square is never stored.
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

_MAX_GATHERED = 8 << 20
"""Maximum size of the gathered dense columns, in numbers."""
_FAST = {"contract", "reassoc", "nsz", "arcp"}  # without "nnan" and "ninf", so that a diverged run is detected


class DenseFields(NamedTuple):
    """Dense fields of one side, without gradient."""

    factors: torch.Tensor
    """``V``, float32 ``[w, d]``."""
    linear: torch.Tensor | None
    """``w``, float32 ``[w, 1]``; None without linear terms."""


class SideGradients(NamedTuple):
    """Gradients by the inputs of a side."""

    rows: torch.Tensor
    """Gradient by ``r`` of the drawn rows, float32 ``[m, d]``."""
    factors: torch.Tensor | None
    """Gradient by ``V``; None without dense fields."""
    linear: torch.Tensor | None
    """Gradient by ``w``; None without linear terms."""
    columns: torch.Tensor | None
    """Gradient by ``X`` of the drawn rows, float32 ``[m, w]``; None unless ``X`` is trained."""


class DrawnSide:
    """Forward and backward pass over drawn rows of one side, for successive steps.

    Args:
        n: Number of entities.
        constant: float32 ``[n, w]``: dense columns that are not trained; None without any.
    """

    def __init__(self, n: int, constant: torch.Tensor | None) -> None:
        self._constant = constant
        self._place = np.full(n, -1, np.int64)
        self._gathered = torch.empty(0)
        self._there = (-1, -1)
        self.rows = torch.empty(0, dtype=torch.int64)
        """int64 ``[m]``: distinct rows of the step, ascending."""

    def draw(self, keys: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
        """Set the rows of a step and return the position of each key in :attr:`rows`."""
        self.rows = torch.from_numpy(_distinct(np.concatenate(keys), self._place))
        places = [self._place[some] for some in keys]
        self._place[self.rows.numpy()] = -1
        self._there = (-1, -1)
        return places

    def forward(
        self, sums: torch.Tensor, bias: torch.Tensor | None, fields: DenseFields | None, columns: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return totals and biases of the drawn rows.

        Args:
            sums: ``r`` of all entities, float32 ``[n, d]``.
            bias: ``l`` of all entities, float32 ``[n]``; None if biases are not needed.
            fields: Dense fields; None without any.
            columns: Trained dense columns of the drawn rows, float32 ``[m, w]``; None without any.
        """
        self._fields, self._columns = fields, columns
        self._sums = sums.index_select(0, self.rows)
        own = None if bias is None else bias.index_select(0, self.rows)
        if fields is None:
            self._total = self._sums
            return self._total, own
        self._total = torch.empty_like(self._sums)
        half, linear = _terms(fields)
        for first, last in self._blocks():
            block = self._block(first, last)
            torch.addmm(self._sums[first:last], block, fields.factors, out=self._total[first:last])
            if own is not None:
                _add_biases(block.numpy(), half, linear, own[first:last].numpy())
        if own is not None:
            _add_squares(self._total, self._sums, own)
        return self._total, own

    def backward(self, by_total: torch.Tensor, by_bias: torch.Tensor | None) -> SideGradients:
        """Return the gradients by the inputs from those by the results of :meth:`forward`. Overwrites ``by_total``."""
        fields = self._fields
        if fields is None:
            return SideGradients(by_total, None, None, None)
        by_rows = by_total
        if by_bias is not None:
            by_rows = torch.empty_like(by_total)
            _add_gradients(by_total.numpy(), by_bias.numpy(), self._total.numpy(), self._sums.numpy(), by_rows.numpy())
        to_factors = torch.zeros_like(fields.factors)
        sums = np.zeros((2, len(to_factors)), np.float32)
        for first, last in reversed(list(self._blocks())):  # the last block is still gathered
            block = self._block(first, last)
            to_factors.addmm_(block.T, by_total[first:last])
            if by_bias is not None:
                sums += _column_sums(block.numpy(), by_bias[first:last].numpy()).sum(0)
        if by_bias is not None:
            to_factors.addcmul_(torch.from_numpy(sums[1]).unsqueeze(1), fields.factors, value=-1)
        to_columns = None
        if self._columns is not None:
            to_columns = by_total @ fields.factors.T
            if by_bias is not None:
                half, linear = _terms(fields)
                _add_column_gradients(self._columns.numpy(), half, linear, by_bias.numpy(), to_columns.numpy())
        to_linear = None if fields.linear is None else torch.from_numpy(sums[:1].T.copy())
        return SideGradients(by_rows, to_factors, to_linear, to_columns)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Iterate over blocks of drawn rows whose columns are gathered at once."""
        m = len(self.rows)
        table = self._constant if self._columns is None else self._columns
        assert table is not None
        size = m if self._columns is not None else max(_MAX_GATHERED // max(table.shape[1], 1), 1)
        for first in range(0, m, max(size, 1)):
            yield first, min(first + size, m)

    def _block(self, first: int, last: int) -> torch.Tensor:
        """Return the dense columns of some drawn rows."""
        if self._columns is not None:
            return self._columns
        assert self._constant is not None
        if len(self._gathered) < last - first:
            most = min(max(len(self._place), 1), max(_MAX_GATHERED // max(self._constant.shape[1], 1), 1))
            self._gathered = self._constant.new_empty((min(most, 2 * (last - first)), self._constant.shape[1]))
        block = self._gathered[: last - first]
        if self._there != (first, last):
            torch.index_select(self._constant, 0, self.rows[first:last], out=block)
            self._there = (first, last)
        return block


def all_rows(
    sums: torch.Tensor, bias: torch.Tensor, columns: torch.Tensor, fields: DenseFields
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return totals ``[n, d]`` and biases ``[n]`` of all entities, on the CPU and without gradient."""
    total = torch.addmm(sums, columns, fields.factors)
    made = bias.clone()
    _add_biases(columns.contiguous().numpy(), *_terms(fields), made.numpy())
    _add_squares(total, sums, made)
    return total, made


def _add_squares(total: torch.Tensor, sums: torch.Tensor, out: torch.Tensor) -> None:
    """Add ``(|total|² - |sums|²) / 2`` to ``out``.

    Torch computes this, because a kernel sums short rows differently in the process that compiles it and in one that
    loads it from the cache.
    """
    out.add_(torch.linalg.vecdot(total, total).sub_(torch.linalg.vecdot(sums, sums)), alpha=0.5)


def _terms(fields: DenseFields) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return ``|V|² / 2`` and ``w``, float32 ``[w]`` each."""
    half = fields.factors.square().sum(1).div_(2).numpy()
    return half, np.zeros_like(half) if fields.linear is None else fields.linear.squeeze(1).numpy()


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _distinct(keys: Any, place: Any) -> Any:  # pragma: no cover - compiled
    """Return the distinct ``keys``, ascending. Their positions are written to ``place`` int64 ``[n]``, all -1."""
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
def _add_biases(columns: Any, half: Any, linear: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Compute ``out[r] += sum_k x (linear[k] - x half[k])``."""
    for row in numba.prange(columns.shape[0]):
        total = np.float32(0)
        for k in range(columns.shape[1]):
            x = columns[row, k]
            total += x * (linear[k] - x * half[k])
        out[row] += total


@numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
def _add_gradients(by_total: Any, by_bias: Any, total: Any, sums: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Compute ``by_total += by_bias total`` in place, and ``out = by_total - by_bias sums``."""
    for row in numba.prange(total.shape[0]):
        bias = by_bias[row]
        for k in range(total.shape[1]):
            slope = by_total[row, k] + bias * total[row, k]
            by_total[row, k] = slope
            out[row, k] = slope - bias * sums[row, k]


@numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
def _column_sums(columns: Any, slopes: Any) -> Any:  # pragma: no cover - compiled
    """Return ``X' g`` and ``X²' g`` per chunk of rows, float32 ``[CHUNKS, 2, w]``."""
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
def _add_column_gradients(
    columns: Any, half: Any, linear: Any, slopes: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Compute ``out[r, k] += slopes[r] (linear[k] - 2 x half[k])``."""
    for row in numba.prange(columns.shape[0]):
        g = slopes[row]
        for k in range(columns.shape[1]):
            out[row, k] += g * (linear[k] - np.float32(2) * columns[row, k] * half[k])
