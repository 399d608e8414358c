"""Weighted ridge regression with an intercept and a penalty chosen by leave-one-out, in numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_BLOCK_ROWS = 4096
"""Rows that are converted to float64 at once."""
_PENALTIES = tuple(float(f"{digit}e{power}") for power in range(-4, 3) for digit in (1, 3))
"""Penalties that leave-one-out chooses from, ascending."""
_FIRST = _PENALTIES.index(0.1)
"""Index of the penalty at which a search begins."""
_SAMPLE = 2048
"""Maximum number of rows whose leave-one-out errors choose the penalty, spread evenly over the weighted rows."""


class Choice(NamedTuple):
    """Outcome of the last fit."""

    ridge: float
    """Penalty."""
    explained: float
    """Share of the target's variance that leave-one-out predictions explain; negative if they are worse than the
    mean."""


class RidgeRegression:
    r"""Ridge regressions of several targets on the same inputs.

    The Gram matrix of the inputs is decomposed once, so that a further target costs ``O(n w k)`` instead of
    ``O(n w²)``. The leave-one-out residual of a row is its residual divided by :math:`1 - h`, with :math:`h` the
    diagonal of the hat matrix (Golub, Heath & Wahba 1979, "Generalized cross-validation as a method for choosing a good
    ridge parameter", Technometrics, eq. 1.4), which needs no further fit.

    Args:
        x: float ``[n, w]``. Kept, not copied.
        ridge: Penalty, as a multiple of the mean squared length of a centred column of ``x``; None chooses the penalty
            with the smallest leave-one-out error for each target.
        weights: float64 ``[n]``, not all zero; None for equal weights.

    Attributes:
        chosen: Penalty and explained variance of the last fit.
    """

    def __init__(
        self, x: NDArray[np.floating], *, ridge: float | None, weights: NDArray[np.float64] | None = None
    ) -> None:
        self._x = x
        self._weights = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
        self._total = float(self._weights.sum())
        self._centre = sum(weight @ rows for rows, weight in self._blocks()) / self._total
        weighted = np.flatnonzero(self._weights)
        if len(weighted) < x.shape[1]:
            _, singular, right = np.linalg.svd(self._scaled(weighted), full_matrices=False)
            self._values, self._axes = singular**2, right.T
        else:
            gram = np.zeros((x.shape[1], x.shape[1]))
            for start in range(0, len(weighted), _BLOCK_ROWS):
                scaled = self._scaled(weighted[start : start + _BLOCK_ROWS])
                gram += scaled.T @ scaled
            values, self._axes = np.linalg.eigh(gram)
            self._values = np.maximum(values, 0)
        self._unit = max(float(self._values.sum()) / x.shape[1], 1e-12)
        self._ridge = ridge
        self._sample = weighted[np.linspace(0, len(weighted) - 1, min(len(weighted), _SAMPLE)).astype(np.int64)]
        self._projected = self._scaled(self._sample) @ self._axes
        self._start = _FIRST
        self.chosen = Choice(ridge or _PENALTIES[_FIRST], 0.0)

    def fit(self, y: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fit one target.

        Args:
            y: float ``[n, k]``.

        Returns:
            Slope ``[w, k]`` and intercept ``[k]``.
        """
        mean = np.average(y, 0, self._weights)
        products = np.zeros((self._x.shape[1], y.shape[1]))
        start = 0
        for rows, weight in self._blocks():  # weighted residuals sum to zero, so that the inputs need no centring here
            residuals = (y[start : start + len(rows)] - mean) * weight[:, None]
            products += rows.T @ residuals
            start += len(rows)
        rotated = self._axes.T @ products
        target = (y[self._sample] - mean) * np.sqrt(self._weights[self._sample])[:, None]
        spread = max(float(np.square(target).sum()), 1e-300)
        errors: dict[float, float] = {}

        def error(ridge: float) -> float:
            if ridge not in errors:
                shrunk = 1 / (self._values + ridge * self._unit)
                left_out = target - self._projected @ (shrunk[:, None] * rotated)
                left_out /= self._slack(self._projected, self._sample, shrunk)[:, None]
                errors[ridge] = float(np.square(left_out).sum())
            return errors[ridge]

        ridge = self._ridge
        if ridge is None:
            self._start = _descend(lambda place: error(_PENALTIES[place]), self._start, len(_PENALTIES))
            ridge = _PENALTIES[self._start]
        self.chosen = Choice(ridge, 1 - error(ridge) / spread)
        slope = np.asarray(self._axes @ (rotated / (self._values + ridge * self._unit)[:, None]), np.float64)
        return slope, mean - self._centre @ slope

    def left_out(self, y: NDArray[np.floating], rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Predict some rows of a target from all other rows.

        Args:
            y: float ``[n, k]``.
            rows: int ``[m]``: rows to predict. One with zero weight gets the prediction of the fit.

        Returns:
            float64 ``[m, k]``.
        """
        slope, intercept = self.fit(y)
        shrunk = 1 / (self._values + self.chosen.ridge * self._unit)
        predicted = np.empty((len(rows), y.shape[1]))
        for start in range(0, len(rows), _BLOCK_ROWS):
            here = rows[start : start + _BLOCK_ROWS]
            fitted = self._x[here].astype(np.float64) @ slope + intercept
            slack = self._slack(self._scaled(here) @ self._axes, here, shrunk)[:, None]
            predicted[start : start + len(here)] = y[here] - (y[here] - fitted) / slack
            unweighted = self._weights[here] == 0
            predicted[start : start + len(here)][unweighted] = fitted[unweighted]
        return predicted

    def _slack(
        self, projected: NDArray[np.float64], rows: NDArray[np.integer], shrunk: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return one minus the diagonal of the hat matrix."""
        hat = np.square(projected) @ shrunk + self._weights[rows] / self._total
        slack: NDArray[np.float64] = np.maximum(1 - hat, 1e-6)
        return slack

    def _scaled(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return centred rows times the roots of their weights."""
        scaled: NDArray[np.float64] = self._x[rows].astype(np.float64) - self._centre
        scaled *= np.sqrt(self._weights[rows])[:, None]
        return scaled

    def _blocks(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Iterate over blocks of rows, in float64, with their weights."""
        for start in range(0, len(self._x), _BLOCK_ROWS):
            end = start + _BLOCK_ROWS
            yield self._x[start:end].astype(np.float64), self._weights[start:end]


def _descend(error: Callable[[int], float], place: int, n: int) -> int:
    """Return the minimum of a sequence with one minimum, found by walking downhill from ``place``."""
    for step in (1, -1):
        while 0 <= place + step < n and error(place + step) < error(place):
            place += step
    return place


def ridge_regression(
    x: NDArray[np.floating],
    y: NDArray[np.floating],
    *,
    ridge: float | None,
    weights: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit one target by weighted ridge regression with an intercept.

    Args:
        x: float ``[n, w]``.
        y: float ``[n, k]``.
        ridge: Penalty, as a multiple of the mean squared length of a centred column of ``x``; None chooses it by
            leave-one-out.
        weights: float64 ``[n]``; None for equal weights.

    Returns:
        Slope ``[w, k]`` and intercept ``[k]``.
    """
    return RidgeRegression(x, ridge=ridge, weights=weights).fit(y)
