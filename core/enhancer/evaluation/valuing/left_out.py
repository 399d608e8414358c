r"""Predict rows from all other rows by ridge regression, for the given vectors and for shuffled ones.

With the weighted, centred inputs :math:`\sqrt{W} X = U S V^\top`, a ridge regression with penalty :math:`\lambda` and
an intercept fits :math:`\hat y = H y`, :math:`H = U D U^\top + \sqrt{w} \sqrt{w}^\top / \sum w`,
:math:`D = S^2 / (S^2 + \lambda)`, and without row :math:`i` it errs on it by :math:`(y_i - \hat y_i) / (1 - h_{ii})`
(Allen 1974, PRESS). If rows exchange their vectors within groups of equal weight, the rows of :math:`U` are exchanged
and nothing else changes: a shuffle costs two products and no decomposition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PENALTIES = (0.03, 0.3, 3.0, 30.0)
"""Penalties to choose from, as multiples of the mean of the kept eigenvalues."""
_MOST_AXES = 256
"""Largest number of principal axes that enter a regression."""


class LeftOutRidge:
    """Ridge regressions of several targets on the same vectors, which are centred within groups of rows.

    Args:
        x: float ``[n, d]``; n is at least 3.
        weights: float ``[n]``, positive, equal within groups if rows are to be exchanged.
        group: int ``[n]``: group of each row, from 0.
        intercepts: Whether each group has an intercept. Without them, the mean of a target is taken to be 0.
    """

    def __init__(
        self,
        x: NDArray[np.floating],
        weights: NDArray[np.floating],
        group: NDArray[np.integer],
        *,
        intercepts: bool = True,
    ) -> None:
        self._intercepts = intercepts
        self._means = GroupMeans(np.asarray(weights, np.float64), group)
        self._roots = np.sqrt(np.asarray(weights, np.float64))[:, None]
        scaled = np.asarray(x, np.float64)
        scaled = (scaled - self._means.of(scaled)) * self._roots
        n, d = scaled.shape
        # The smaller of the two Gram matrices has the same eigenvalues.
        values, axes = np.linalg.eigh(scaled.T @ scaled if d < n else scaled @ scaled.T)
        values, axes = values[::-1][:_MOST_AXES], axes[:, ::-1][:, :_MOST_AXES]
        kept = values > 1e-9 * max(float(values[0]), 1e-300)
        values, axes = values[kept], axes[:, kept]
        self._left = scaled @ axes / np.sqrt(values) if d < n else axes
        unit = float(values.mean()) if len(values) else 1.0
        self._shrunk = [values / (values + penalty * unit) for penalty in _PENALTIES]

    def predict(self, y: NDArray[np.floating], order: NDArray[np.integer] | None = None) -> NDArray[np.float64]:
        """Predict every row from all others, with the penalty of least squared error.

        Args:
            y: float ``[n, k]``.
            order: int ``[n]``: row whose vector each row gets, of the same group; None for its own.

        Returns:
            float64 ``[n, k]``.
        """
        left = self._left if order is None else self._left[order]
        target = (y - self._means.of(y) if self._intercepts else y) * self._roots
        projected = left.T @ target
        squares = left**2
        best, least = target, np.inf
        for shrunk in self._shrunk:
            slack = np.maximum(1 - squares @ shrunk - (self._means.share if self._intercepts else 0), 1e-6)
            residuals = (target - left @ (shrunk[:, None] * projected)) / slack[:, None]
            error = float(np.square(residuals).sum())
            if error < least:
                best, least = residuals, error
        return np.asarray(y - best / self._roots, np.float64)


class GroupMeans:
    """Weighted means of groups of rows.

    Args:
        weights: float64 ``[n]``, positive.
        group: int ``[n]``: group of each row, from 0.

    Attributes:
        share: float64 ``[n]``: share of each row in the weight of its group.
    """

    def __init__(self, weights: NDArray[np.float64], group: NDArray[np.integer]) -> None:
        self._group = group
        self._totals = np.maximum(np.bincount(group, weights), 1e-300)
        self._weights = weights[:, None]
        self.share = weights / self._totals[group]

    def of(self, y: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the mean of each row's group, float64 ``[n, k]``."""
        sums = np.zeros((len(self._totals), y.shape[1]))
        np.add.at(sums, self._group, self._weights * y)
        return np.asarray((sums / self._totals[:, None])[self._group], np.float64)

    def left_out(self, y: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the mean of the other rows of each row's group, float64 ``[n, k]``; 0 where there are none."""
        share = self.share[:, None]
        rest = np.where(share < 1, 1 - share, np.inf)
        return np.asarray((self.of(y) - share * y) / rest, np.float64)
