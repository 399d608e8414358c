"""Regression on vectors of several views: its form, and the weight of each view, chosen by leave-one-out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import numpy as np

from enhancer.contracts import Dense
from enhancer_plugins.training.placing.kernel import (
    MOST_KERNEL_ROWS,
    GramRegression,
    KernelRegression,
    landmark_kernel,
)
from enhancer_plugins.training.placing.regression import MOST_ROWS, RidgeRegression
from enhancer_plugins.training.placing.spread import trust_factors, weight_factors
from enhancer_plugins.training.placing.systems import blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts import View
    from enhancer.contracts.fuser import Judge
    from enhancer.contracts.placement import Layer
    from enhancer_plugins.training.placing.regression import Choice

Form = Literal["kernel", "linear"]
"""Linear in similarities to trained entities, or in the vectors."""
Weighing = Literal["equal", "gate"]
"""Whether all views have the same weight, or weights that leave-one-out and validation choose."""
_SAMPLE = 512
"""Largest number of rows that weights are chosen on, spread evenly."""
_FEWEST = 8
"""Rows below which a regression is linear and views are equal."""
_FACTORS = (4.0, 0.25, 0.0)
"""Factors of a view's weight to try."""
_ROUNDS = 2
_LEAST_GAIN = 1e-3
"""Share of the target's variance that a change of weights has to explain beside, so that noise changes nothing."""
_LEAST_RISE = 5e-3
"""Share by which a change of weights has to raise the validation metric, which it must lower in no fold."""


class ViewRegression:
    """Regressions of several targets on vectors whose columns are views.

    Views are put on one scale before they are weighed: in a linear regression the columns of each have the same
    variance in all, and in a kernel the rows of each have unit length. The first target decides on the weights. With
    more than 32,768 weighted rows, or less than 8, the regression is linear.

    Args:
        x: float32 ``[n, w]``; a row may be zero in a view. Kept, not copied.
        views: Columns of each view.
        weights: float64 ``[n]``, not all zero.
        ridge: Penalty, as a multiple of the mean diagonal element of the system; None chooses it by leave-one-out.
        form: Form of the regression.
        weighing: How views are weighed.
        spread: float64 ``[n]``: how unsure each vector is. Leave-one-out errors tell how much less such rows count,
            and how much nearer to the mean they are predicted. None leaves all as they are.
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        views: Sequence[View],
        *,
        weights: NDArray[np.float64],
        ridge: float | None = None,
        form: Form = "kernel",
        weighing: Weighing = "equal",
        spread: NDArray[np.float64] | None = None,
    ) -> None:
        self._x, self._weights, self._ridge = x, weights, ridge
        self._edges = (*(view.start for view in views), x.shape[1])
        self._form, self._weighing = form, weighing
        self._inner: RidgeRegression | KernelRegression | None = None
        self._known = np.flatnonzero(weights)
        self._spread = spread
        self.trust: NDArray[np.float32] | None = None
        """float32 ``[n]``: factor of the distance from the mean of each prediction; None if it is 1 for all. Layers
        lack it."""
        self.shares: tuple[float, ...] = (1.0,) * len(views)
        """Weight of each view, of which the largest is 1."""

    @property
    def chosen(self) -> Choice:
        """Penalty and explained variance of the last fit."""
        assert self._inner is not None
        return self._inner.chosen

    def keep_penalty(self) -> None:
        """Use the penalty of the last fit for all later ones."""
        assert self._inner is not None
        self._inner.keep_penalty()
        self._ridge = self._inner.chosen.ridge

    def layers(self, y: NDArray[np.floating]) -> tuple[Layer, ...]:
        """Fit one target, float ``[n, k]``; return the layers that map vectors to it."""
        return self._decided(y).layers(y)

    def left_out(self, y: NDArray[np.floating], rows: NDArray[np.integer]) -> NDArray[np.floating]:
        """Predict some rows of a target ``[n, k]`` from all other rows, ``[m, k]`` of the dtype of ``y``."""
        found = self._decided(y).left_out(y, rows)
        if self.trust is not None:
            mean = self._mean(y).astype(y.dtype)
            found = mean + self.trust[rows, None].astype(y.dtype) * (found - mean)
        return found

    def _mean(self, y: NDArray[np.floating]) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = np.average(y[self._known], axis=0, weights=self._weights[self._known])
        return mean

    def _heed_spread(self, y: NDArray[np.floating], spread: NDArray[np.float64]) -> None:
        """Change weights, and then set the trust, by leave-one-out predictions."""
        assert self._inner is not None
        known, mean = self._known, self._mean(y)
        target = y[known] - mean
        errors = np.square(self._inner.left_out(y, known) - mean - target).mean(axis=1)
        factors = weight_factors(errors.astype(np.float64), spread[known], self._weights[known])
        self._weights = self._weights.copy()
        self._weights[known] *= factors
        self._inner = self._regression()
        predicted = self._inner.left_out(y, known) - mean
        self.trust = trust_factors(
            predicted.astype(np.float64), target.astype(np.float64), spread, known, self._weights[known]
        )

    def _decided(self, y: NDArray[np.floating]) -> RidgeRegression | KernelRegression:
        known = self._known
        if self._inner is None:
            if len(known) > MOST_KERNEL_ROWS or len(known) < _FEWEST:
                self._form = "linear"
            if self._gates:
                sample = _spread(known)
                self.shares = self._gate(sample, y[sample])
            self._inner = self._regression()
            if self._spread is not None and len(known) >= _FEWEST:
                self._heed_spread(y, self._spread)
        return self._inner

    @property
    def _gates(self) -> bool:
        return self._weighing == "gate" and len(self.shares) > 1 and len(self._known) >= _FEWEST

    def _regression(self) -> RidgeRegression | KernelRegression:
        if self._form == "kernel":
            return KernelRegression(
                self._x, edges=self._edges, shares=self.shares, ridge=self._ridge, weights=self._weights
            )
        scale = None if len(self.shares) == 1 else self._scale(self._known)
        return RidgeRegression(self._x, ridge=self._ridge, weights=self._weights, scale=scale)

    def reweigh(self, y: NDArray[np.floating], folds: Sequence[NDArray[np.int64]], judge: Judge) -> bool:
        """Change the weights of views as long as the rows of entities that a fit has not seen rank better.

        Each fold is predicted by regressions on the rows outside it, of which at most 512 are used. A change must raise
        the sum of the validation metric over folds, and lower it in none.

        Args:
            y: The target, float ``[n, k]``.
            folds: int64 ``[r]`` each: rows with a weight.
            judge: Returns the validation metric of predicted rows.

        Returns:
            Whether the weights have changed; later fits follow them. Never without ``weighing="gate"``.
        """
        self._decided(y)
        if not self._gates or len(self._known) < _FEWEST * len(folds):
            return False
        shares = self._ranked(y, folds, judge)
        if shares == self.shares:
            return False
        self.shares = shares
        self._inner = self._regression()
        return True

    def _ranked(self, y: NDArray[np.floating], folds: Sequence[NDArray[np.int64]], judge: Judge) -> tuple[float, ...]:
        """Return the weights that rank predicted rows best, found by changing one after another."""
        samples = [_spread(np.setdiff1d(self._known, fold)) for fold in folds]
        grams = [self._grams(sample, fold) for sample, fold in zip(samples, folds, strict=True)]

        def values(shares: NDArray[np.float64]) -> NDArray[np.float64]:
            found = []
            for sample, fold, (among, across) in zip(samples, folds, grams, strict=True):
                part = shares / shares.sum()
                gram = np.tensordot(part, among, 1)
                (last,) = GramRegression(gram, ridge=self._ridge, weights=self._weights[sample]).layers(y[sample])
                assert isinstance(last, Dense)
                found.append(judge(fold, last(np.tensordot(part, across, 1).astype(np.float32))))
            return np.array(found)

        shares = np.array(self.shares)
        best = values(shares)

        def better(other: NDArray[np.float64]) -> NDArray[np.float64] | None:
            found = values(other)
            rises = found.sum() > best.sum() + _LEAST_RISE * abs(best.sum())
            return found if rises and (found >= best).all() else None

        if (found := better(np.ones(len(shares)))) is not None:
            best, shares = found, np.ones(len(shares))
        for _ in range(_ROUNDS):
            before = best
            for view, factor in itertools.product(range(len(shares)), _FACTORS):
                other = shares.copy()
                other[view] *= factor
                if other.any() and not np.array_equal(other, shares) and (found := better(other)) is not None:
                    best, shares = found, other
            if best is before:
                break
        return tuple(float(share) for share in shares / shares.max())

    def _gate(self, sample: NDArray[np.int64], y: NDArray[np.floating]) -> tuple[float, ...]:
        """Return weights of the views that explain a sample well, found by changing one after another."""
        weights, (grams, _) = self._weights[sample], self._grams(sample)

        def explained(shares: NDArray[np.float64]) -> float:
            gram = np.tensordot(shares / shares.sum(), grams, 1)
            regression = GramRegression(gram, ridge=self._ridge, weights=weights)
            regression.left_out(y, np.arange(len(y)))
            return regression.chosen.explained

        shares = np.ones(len(grams))
        best = explained(shares)
        for _ in range(_ROUNDS):
            before = best
            for view, factor in itertools.product(range(len(grams)), _FACTORS):
                other = shares.copy()
                other[view] *= factor
                if other.any() and (value := explained(other)) > best + _LEAST_GAIN:
                    best, shares = value, other
            if best == before:
                break
        return tuple(float(share) for share in shares / shares.max())

    def _grams(
        self, sample: NDArray[np.int64], others: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the kernel matrix of each view, all of one scale.

        Args:
            sample: ``[m]`` rows.
            others: ``[r]`` other rows; None for none.

        Returns:
            Among the sample, float64 ``[views, m, m]``; of the others with the sample, float64 ``[views, r, m]``.
        """
        rows, further = self._x[sample], self._x[[] if others is None else others]
        found = np.empty((len(self.shares), len(rows), len(rows)))
        across = np.empty((len(self.shares), len(further), len(rows)))
        for view, (start, stop) in enumerate(itertools.pairwise(self._edges)):
            part = np.ascontiguousarray(rows[:, start:stop])
            more = np.ascontiguousarray(further[:, start:stop])
            if self._form == "kernel":
                kernel = landmark_kernel(part, np.arange(len(part)), (0, stop - start), (1.0,))
                found[view], across[view] = kernel(part), kernel(more)
                continue
            mean = part.mean(axis=0, dtype=np.float64)
            centred = part.astype(np.float64) - mean
            scale = max(float(np.square(centred).sum()) / len(part), 1e-12)
            found[view] = centred @ centred.T / scale
            across[view] = (more.astype(np.float64) - mean) @ centred.T / scale
        return found, across

    def _scale(self, known: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return a factor for each column that gives the columns of each view its weight as their variance in all."""
        rows = known[np.linspace(0, len(known) - 1, min(len(known), MOST_ROWS)).astype(np.int64)]
        total, squares = np.zeros(self._x.shape[1]), np.zeros(self._x.shape[1])
        for places in blocks(len(rows)):
            part = self._x[rows[places]].astype(np.float64)
            total += part.sum(0)
            squares += np.square(part).sum(0)
        variance = np.maximum(squares / len(rows) - np.square(total / len(rows)), 0)
        scale = np.empty(self._x.shape[1])
        for share, (start, stop) in zip(self.shares, itertools.pairwise(self._edges), strict=True):
            spread = float(variance[start:stop].sum())
            scale[start:stop] = np.sqrt(share / spread) if spread > 0 else 0
        return scale


def _spread(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return some of the rows, spread evenly."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).astype(np.int64)]
