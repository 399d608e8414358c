"""Weighted ridge regression with an intercept and a penalty chosen by leave-one-out, in numpy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from enhancer.contracts import Dense
from enhancer_plugins.training.placing.systems import Dual, Primal, System, blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from enhancer.contracts.placement import Layer

MOST_ROWS = 1 << 17
"""Largest number of rows that a regression is fitted to; of more, as many are taken, spread evenly."""
PENALTIES = tuple(float(f"{digit}e{power}") for power in range(-4, 3) for digit in (1, 3))
"""Penalties that leave-one-out chooses from, ascending."""
_SAMPLE = 1024
"""Largest number of rows whose leave-one-out errors choose the penalty, if there are more rows than columns."""


class Choice(NamedTuple):
    """Outcome of the last fit."""

    ridge: float
    """Penalty."""
    explained: float
    """Share of the target's variance that leave-one-out predictions explain; negative if they are worse than the
    mean."""


class Regression(ABC):
    """Regressions of several targets on the same inputs. The system is factored once for each penalty that is tried.

    Args:
        weights: float64 ``[n]``, not all zero.
        ridge: Penalty, as a multiple of the mean diagonal element of the system; None chooses the one with the
            smallest leave-one-out error for each target.

    Attributes:
        chosen: Penalty and explained variance of the last fit.
    """

    first: ClassVar[int] = PENALTIES.index(1.0)
    """Index of the penalty at which a search begins."""
    least: ClassVar[int] = 0
    """Index of the smallest penalty that is tried."""

    def __init__(self, weights: NDArray[np.float64], ridge: float | None) -> None:
        rows = np.flatnonzero(weights)
        self._rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(np.int64)]
        self._ridge = ridge
        self._roots = np.sqrt(weights[self._rows])
        self._shares = weights[self._rows] / weights[self._rows].sum()
        self._start = self.first
        self.chosen = Choice(ridge or PENALTIES[self.first], 0.0)
        self._system: System
        self._columns: int
        """Number of elements of the system's trace, whose mean is the unit of penalties."""

    def keep_penalty(self) -> None:
        """Use the penalty of the last fit for all later ones."""
        self._ridge = self.chosen.ridge

    def _solved(self, y: NDArray[np.floating]) -> Solved:
        """Choose the penalty for a target ``[n, k]``, and solve for its coefficients."""
        some = y[self._rows].astype(np.float64)
        mean = self._shares @ some
        target = (some - mean) * self._roots[:, None]
        unit = max(self._system.trace / self._columns, 1e-12)
        sample = self._system.sample
        solutions: dict[float, NDArray[np.float64]] = {}
        errors: dict[float, float] = {}

        def error(ridge: float) -> float:
            if ridge not in errors:
                solutions[ridge] = self._system.solve(target, ridge * unit)
                left_out = self._system.left_out(target, solutions[ridge], ridge * unit, sample)
                errors[ridge] = float(np.square(left_out).sum())
            return errors[ridge]

        ridge = self._ridge
        if ridge is None:
            tried = self.least, len(PENALTIES)
            self._start = _descend(lambda place: error(PENALTIES[place]), self._start, *tried)
            ridge = PENALTIES[self._start]
        spread = max(float(np.square(target[sample]).sum()), 1e-300)
        self.chosen = Choice(ridge, 1 - error(ridge) / spread)
        return Solved(mean, target, solutions[ridge], ridge * unit)

    @abstractmethod
    def layers(self, y: NDArray[np.floating]) -> tuple[Layer, ...]:
        """Fit one target, float ``[n, k]``; return the layers that map inputs to it."""

    def left_out(self, y: NDArray[np.floating], rows: NDArray[np.integer]) -> NDArray[np.floating]:
        """Predict some rows of a target from all other rows.

        Args:
            y: float ``[n, k]``.
            rows: int ``[m]``: rows to predict, of those that the fit uses.

        Returns:
            ``[m, k]``, of the dtype of ``y``.
        """
        return self._left_out(self._solved(y), y, rows)

    def _left_out(self, solved: Solved, y: NDArray[np.floating], rows: NDArray[np.integer]) -> NDArray[np.floating]:
        place = self._places(len(y))[rows]
        predicted = np.empty((len(rows), y.shape[1]), y.dtype)
        for numbers in blocks(len(rows)):
            own = place[numbers]
            residuals = self._system.left_out(solved.target, solved.solution, solved.penalty, own)
            predicted[numbers] = y[rows[numbers]] - residuals / self._roots[own][:, None]
        return predicted

    def _places(self, n: int) -> NDArray[np.int64]:
        """Return the place of each of ``n`` rows among those of the fit; -1 for the others."""
        place = np.full(n, -1)
        place[self._rows] = np.arange(len(self._rows))
        return place


class Solved(NamedTuple):
    """A fit of one target."""

    mean: NDArray[np.float64]
    """float64 ``[k]``: weighted mean of the target."""
    target: NDArray[np.float64]
    """float64 ``[n, k]``: centred and weighted target."""
    solution: NDArray[np.float64]
    """Coefficients of the system."""
    penalty: float
    """Penalty, without its unit."""


class RidgeRegression(Regression):
    """Linear regression on the columns of a matrix, which is read in blocks and may be mapped from a file.

    Args:
        x: float ``[n, w]``. Kept, not copied.
        ridge: Penalty, as a multiple of the mean squared length of a centred column of ``x``; None chooses it by
            leave-one-out.
        weights: float64 ``[n]``, not all zero; None for equal weights.
        scale: float64 ``[w]``: factors of the columns; None for none.
    """

    def __init__(
        self,
        x: NDArray[np.floating],
        *,
        ridge: float | None,
        weights: NDArray[np.float64] | None = None,
        scale: NDArray[np.float64] | None = None,
    ) -> None:
        super().__init__(np.ones(len(x)) if weights is None else np.asarray(weights, np.float64), ridge)
        self._x, self._columns = x, x.shape[1]
        self._scale = np.ones(self._columns) if scale is None else scale
        self._centre = np.zeros(self._columns)
        for places in blocks(len(self._rows)):
            self._centre += self._shares[places] @ x[self._rows[places]].astype(np.float64)
        if len(self._rows) < self._columns:
            inputs = self._inputs(np.arange(len(self._rows)))
            self._system = Dual(inputs @ inputs.T, self._shares)
        else:
            self._system = Primal(self._inputs, self._shares, self._columns, most=_SAMPLE)

    def _inputs(self, places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return centred, scaled rows times the roots of their weights, by their place among the rows of the fit."""
        rows: NDArray[np.float64] = self._x[self._rows[places]].astype(np.float64)
        rows -= self._centre
        rows *= self._scale
        rows *= self._roots[places][:, None]
        return rows

    def fit(self, y: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fit one target.

        Args:
            y: float ``[n, k]``.

        Returns:
            Slope ``[w, k]`` and intercept ``[k]``.
        """
        return self._map(self._solved(y))

    def _map(self, solved: Solved) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        slope = solved.solution
        if isinstance(self._system, Dual):
            slope = self._inputs(np.arange(len(self._rows))).T @ solved.solution
        slope = slope * self._scale[:, None]
        return slope, solved.mean - self._centre @ slope

    def layers(self, y: NDArray[np.floating]) -> tuple[Layer, ...]:
        """Fit one target, float ``[n, k]``; return the layer that maps inputs to it."""
        slope, intercept = self.fit(y)
        return (Dense(slope.astype(np.float32), intercept.astype(np.float32)),)

    def left_out(self, y: NDArray[np.floating], rows: NDArray[np.integer]) -> NDArray[np.floating]:
        """Predict some rows of a target ``[n, k]`` from all other rows, ``[m, k]`` of the dtype of ``y``.

        A row that the fit does not use gets the prediction of the fit.
        """
        solved = self._solved(y)
        used = self._places(len(y))[rows] >= 0
        predicted = np.empty((len(rows), y.shape[1]), y.dtype)
        predicted[used] = self._left_out(solved, y, rows[used])
        if not used.all():
            slope, intercept = self._map(solved)
            others = np.flatnonzero(~used)
            for numbers in blocks(len(others)):
                some = others[numbers]
                predicted[some] = self._x[rows[some]].astype(np.float64) @ slope + intercept
        return predicted


def _descend(error: Callable[[int], float], place: int, first: int, stop: int) -> int:
    """Return the minimum of a sequence with one minimum, found by walking downhill from ``place``."""
    for step in (1, -1):
        while first <= place + step < stop and error(place + step) < error(place):
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
