"""Weighted ridge regression with an intercept, in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_BLOCK_ROWS = 4096
"""Rows that are converted to float64 at once."""


class RidgeRegression:
    """Ridge regressions of several targets on the same inputs.

    The Gram matrix of the inputs is computed once, so that a further target costs ``O(n w k)`` instead of ``O(n w²)``.

    Args:
        x: float ``[n, w]``. Kept, not copied.
        ridge: Penalty, as a multiple of the mean squared length of a centred column of ``x``.
        weights: float64 ``[n]``, not all zero; None for equal weights.
    """

    def __init__(self, x: NDArray[np.floating], *, ridge: float, weights: NDArray[np.float64] | None = None) -> None:
        self._x = x
        self._weights = np.ones(len(x)) if weights is None else weights
        total = self._weights.sum()
        self._centre = sum(weight @ rows for rows, weight in self._blocks()) / total
        gram = np.zeros((x.shape[1], x.shape[1]))
        for rows, weight in self._blocks():
            centred = (rows - self._centre) * np.sqrt(weight)[:, None]
            gram += centred.T @ centred
        gram[np.diag_indices_from(gram)] += ridge * max(float(np.trace(gram)) / len(gram), 1e-12)
        self._gram = gram

    def fit(self, y: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fit one target.

        Args:
            y: float ``[n, k]``.

        Returns:
            Slope ``[w, k]`` and intercept ``[k]``.
        """
        mean = np.average(y, 0, self._weights)
        products = np.zeros((len(self._gram), y.shape[1]))
        start = 0
        for rows, weight in self._blocks():  # weighted residuals sum to zero, so that the inputs need no centring here
            residuals = (y[start : start + len(rows)] - mean) * weight[:, None]
            products += rows.T @ residuals
            start += len(rows)
        slope = np.asarray(np.linalg.solve(self._gram, products), np.float64)
        return slope, mean - self._centre @ slope

    def _blocks(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Iterate over blocks of rows, in float64, with their weights."""
        for start in range(0, len(self._x), _BLOCK_ROWS):
            end = start + _BLOCK_ROWS
            yield self._x[start:end].astype(np.float64), self._weights[start:end]


def ridge_regression(
    x: NDArray[np.floating], y: NDArray[np.floating], *, ridge: float, weights: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit one target by weighted ridge regression with an intercept.

    Args:
        x: float ``[n, w]``.
        y: float ``[n, k]``.
        ridge: Penalty, as a multiple of the mean squared length of a centred column of ``x``.
        weights: float64 ``[n]``; None for equal weights.

    Returns:
        Slope ``[w, k]`` and intercept ``[k]``.
    """
    return RidgeRegression(x, ridge=ridge, weights=weights).fit(y)
