"""Solve the rows of one side in alternating least squares by conjugate gradients.

The rows of one side are solved together, in blocks: the dense part of all products is one matrix product per step, and
a kernel adds the sparse part and updates each row. A row's result depends neither on the block nor on the number of
threads.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from enhancer_plugins.training.compiled.gather import sum_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_BLOCK_ROWS = 8192
"""Rows that are solved together."""
_CHUNKS = 64
"""Pieces of a block that threads share, with about equal numbers of interactions."""
_ROW_COST = 8
"""Work of a row without interactions, in interactions."""
_TILE = 48
"""Rows of the other side that are read twice in a row, while they are in the cache."""
_SOLVED = np.float32(1e-12)
"""Squared length of a residual at which a row is left as it is."""
_NO_WEIGHTS = np.empty(0, np.float32)
_FAST = {"contract", "reassoc", "nsz", "arcp"}


class SparseRows(NamedTuple):
    """Interactions of one side in CSR form."""

    starts: NDArray[np.int64]
    """int64 ``[n + 1]``: start of each row in ``columns``."""
    columns: NDArray[np.int32]
    """int32 ``[nnz]``: rows of the other side."""
    weights: NDArray[np.float32] = _NO_WEIGHTS
    """float32 ``[nnz]``: weight of each pair; empty if all are 1."""


def sparse_rows(
    rows: NDArray[np.int32], columns: NDArray[np.int32], n: int, weights: NDArray[np.float32] | None = None
) -> SparseRows:
    """Group pairs by row.

    Args:
        rows: int32 ``[nnz]``: row of each pair.
        columns: int32 ``[nnz]``: its column.
        n: Number of rows.
        weights: float32 ``[nnz]``: its weight; None if all are 1.
    """
    starts = np.zeros(n + 1, np.int64)
    np.cumsum(np.bincount(rows, minlength=n), out=starts[1:])
    order = np.argsort(rows, kind="stable")
    return SparseRows(
        starts,
        np.ascontiguousarray(columns[order], np.int32),
        _NO_WEIGHTS if weights is None else np.ascontiguousarray(weights[order], np.float32),
    )


def solve(
    interactions: SparseRows,
    fixed: NDArray[np.float32],
    rows: NDArray[np.float32],
    *,
    unobserved: float,
    penalty: NDArray[np.float32],
    steps: int,
    mean: NDArray[np.float32] | None = None,
) -> float:
    r"""Improve ``rows`` in place, with the other side fixed.

    Row u minimises

    .. math:: \sum_{i \in I_u} w_{ui} (1 - x_u^\top y_i)^2 + \alpha_0 \sum_i (x_u^\top y_i)^2
        + \lambda_u \|x_u - m_u\|^2

    by ``steps`` conjugate-gradient steps from its current value (Takács, Pilászy & Tikk 2011, "Applications of the
    conjugate gradient method for implicit feedback collaborative filtering", RecSys).

    Args:
        interactions: The pairs of each row, and their weights :math:`w`.
        fixed: float32 ``[m, d]``: factors of the other side.
        rows: float32 ``[n, d]``: factors of this side, C-contiguous.
        unobserved: Weight of every pair, observed or not, as a zero (:math:`\alpha_0`).
        penalty: float32 ``[n]``: :math:`\lambda_u`.
        steps: Conjugate-gradient steps.
        mean: float32 ``[n, d]``: :math:`m_u`; zero by default.

    Returns:
        Sum of :math:`w_{ui} (1 - x_u^\top y_i)^2` over the pairs, before the rows were changed.
    """
    n, d = rows.shape
    step = _kernel(d)
    gram = (fixed.T @ fixed) * np.float32(unobserved)
    size = min(_BLOCK_ROWS, n)
    residuals, directions, products = (np.empty((size, d), np.float32) for _ in range(3))
    squares, losses = np.empty(size, np.float32), np.empty(n, np.float64)
    scores = np.empty(len(interactions.columns), np.float32)
    for first in range(0, n, size):
        last = min(first + size, n)
        here = slice(last - first)
        bounds = _bounds(interactions.starts, first, last)
        block = (bounds, first, penalty, rows, products, residuals, directions, squares, losses)
        np.matmul(rows[first:last], gram, out=products[here])
        if mean is not None:  # the kernel subtracts the products from the residual
            products[here] -= penalty[first:last, None] * mean[first:last]
        step(*interactions, fixed, scores, *block, True)
        for _ in range(steps):
            np.matmul(directions[here], gram, out=products[here])
            step(*interactions, fixed, scores, *block, False)
    return float(losses.sum())


def _bounds(starts: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
    """Return the first rows of chunks with about equal work."""
    work = starts[first : last + 1] - starts[first] + _ROW_COST * np.arange(last - first + 1)
    return first + np.searchsorted(work, np.linspace(0, work[-1], _CHUNKS + 1)).astype(np.int64)


@functools.cache
def _kernel(d: int) -> Callable[..., None]:
    """Return the kernel of one step of a block, for rows of width ``d``.

    With ``begin``, it computes the residual of each row; otherwise it does one conjugate-gradient step. ``products``
    are those of the rows, or of the directions, with the dense part of the matrix.
    """

    @numba.njit(parallel=True, fastmath=_FAST, cache=True)  # type: ignore[untyped-decorator]
    def step(
        starts: Any, columns: Any, weights: Any, fixed: Any, scores: Any, bounds: Any, first: Any, penalty: Any,
        rows: Any, products: Any, residuals: Any, directions: Any, squares: Any, losses: Any, begin: Any,
    ) -> None:  # fmt: skip  # pragma: no cover - compiled
        target = np.float32(1) if begin else np.float32(0)
        weighted = len(weights) > 0
        for chunk in numba.prange(bounds.shape[0] - 1):
            # Minus the product of the matrix with a direction; at the beginning, the residual of a row.
            total, part, vector = np.empty(d, np.float32), np.empty(d, np.float32), np.empty(d, np.float32)
            for row in range(bounds[chunk], bounds[chunk + 1]):
                place = row - first
                if not begin and squares[place] <= _SOLVED:
                    continue
                for k in range(d):
                    vector[k] = rows[row, k] if begin else directions[place, k]
                    total[k] = -products[place, k] - penalty[row] * vector[k]
                loss = 0.0
                for low in range(starts[row], starts[row + 1], _TILE):
                    high = min(low + _TILE, starts[row + 1])
                    for entry in range(low, high):
                        score: Any = np.float32(0)
                        column = columns[entry]
                        for k in range(d):
                            score += fixed[column, k] * vector[k]
                        rest = target - score
                        scores[entry] = rest * weights[entry] if weighted else rest
                        loss += scores[entry] * rest
                    sum_rows(columns, scores, low, high, fixed, part, d)
                    for k in range(d):
                        total[k] += part[k]
                square: Any = np.float32(0)
                if begin:
                    losses[row] = loss
                    for k in range(d):
                        residuals[place, k] = total[k]
                        directions[place, k] = total[k]
                        square += total[k] * total[k]
                    squares[place] = square
                    continue
                curvature = np.float32(0)
                for k in range(d):
                    curvature -= vector[k] * total[k]
                length = squares[place] / curvature
                for k in range(d):
                    rows[row, k] += length * vector[k]
                    residuals[place, k] += length * total[k]
                    square += residuals[place, k] * residuals[place, k]
                turn = square / squares[place]
                squares[place] = square
                for k in range(d):
                    directions[place, k] = residuals[place, k] + turn * vector[k]

    return step  # type: ignore[no-any-return]
