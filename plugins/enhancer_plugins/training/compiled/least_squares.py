"""Solve the rows of one side in alternating least squares by conjugate gradients.

A row's result depends neither on the rows beside it nor on the number of threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from enhancer_plugins.training.compiled.conjugate_gradients import kernel, panels

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNKS = 64
"""Pieces of a side that threads share, with about equal work."""
_ROW_COST = 32
"""Work of a row without interactions, in interactions."""
_NO_WEIGHTS = np.empty(0, np.float32)


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
    grouped = np.empty(len(columns), np.int32)
    grouped_weights = np.empty(0 if weights is None else len(columns), np.float32)
    _group(rows, columns, _NO_WEIGHTS if weights is None else weights, starts[:-1].copy(), grouped, grouped_weights)
    return SparseRows(starts, grouped, grouped_weights)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _group(
    rows: Any, columns: Any, weights: Any, places: Any, grouped: Any, grouped_weights: Any
) -> None:  # pragma: no cover - compiled
    """Write each pair to the next place of its row, in order, without an array of places of all pairs."""
    for pair in range(rows.shape[0]):
        row = rows[pair]
        grouped[places[row]] = columns[pair]
        if weights.shape[0] > 0:
            grouped_weights[places[row]] = weights[pair]
        places[row] += 1


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
    d = rows.shape[1]
    gram = panels((fixed.T @ fixed) * np.float32(unobserved))
    if mean is None:
        mean = np.empty((0, d), np.float32)
    losses = np.empty(len(rows), np.float64)
    improve = kernel(d, weighted=len(interactions.weights) > 0)
    improve(*interactions, fixed, gram, _bounds(interactions.starts), penalty, mean, rows, losses, steps)
    return float(losses.sum())


def _bounds(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first rows of chunks with about equal work."""
    work = starts + _ROW_COST * np.arange(len(starts))
    return np.searchsorted(work, np.linspace(0, work[-1], _CHUNKS + 1)).astype(np.int64)
