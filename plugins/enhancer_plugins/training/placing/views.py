"""Regression on vectors of several views: its form, and the weight of each view, chosen by leave-one-out."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import numpy as np

from enhancer_plugins.training.placing.kernel import (
    MOST_KERNEL_ROWS,
    GramRegression,
    KernelRegression,
    landmark_kernel,
)
from enhancer_plugins.training.placing.regression import MOST_ROWS, RidgeRegression
from enhancer_plugins.training.placing.systems import blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts import View
    from enhancer.contracts.placement import Layer
    from enhancer_plugins.training.placing.regression import Choice

Form = Literal["kernel", "linear"]
"""Linear in similarities to trained entities, or in the vectors."""
Weighing = Literal["equal", "gate"]
"""Whether all views have the same weight, or weights that leave-one-out chooses."""
_SAMPLE = 512
"""Largest number of rows that weights are chosen on, spread evenly."""
_FEWEST = 8
"""Rows below which a regression is linear and views are equal."""
_FACTORS = (4.0, 0.25, 0.0)
"""Factors of a view's weight to try."""
_ROUNDS = 2
_LEAST_GAIN = 1e-3
"""Share of the target's variance that a change of weights has to explain beside, so that noise changes nothing."""


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
    ) -> None:
        self._x, self._weights, self._ridge = x, weights, ridge
        self._edges = (*(view.start for view in views), x.shape[1])
        self._form, self._weighing = form, weighing
        self._inner: RidgeRegression | KernelRegression | None = None
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

    def layers(self, y: NDArray[np.floating]) -> tuple[Layer, ...]:
        """Fit one target, float ``[n, k]``; return the layers that map vectors to it."""
        return self._decided(y).layers(y)

    def left_out(self, y: NDArray[np.floating], rows: NDArray[np.integer]) -> NDArray[np.floating]:
        """Predict some rows of a target ``[n, k]`` from all other rows, ``[m, k]`` of the dtype of ``y``."""
        return self._decided(y).left_out(y, rows)

    def _decided(self, y: NDArray[np.floating]) -> RidgeRegression | KernelRegression:
        if self._inner is None:
            known = np.flatnonzero(self._weights)
            if len(known) > MOST_KERNEL_ROWS or len(known) < _FEWEST:
                self._form = "linear"
            if self._weighing == "gate" and len(self.shares) > 1 and len(known) >= _FEWEST:
                sample = known[np.linspace(0, len(known) - 1, min(len(known), _SAMPLE)).astype(np.int64)]
                self.shares = self._gate(sample, y[sample])
            if self._form == "kernel":
                self._inner = KernelRegression(
                    self._x, edges=self._edges, shares=self.shares, ridge=self._ridge, weights=self._weights
                )
            else:
                scale = None if len(self.shares) == 1 else self._scale(known)
                self._inner = RidgeRegression(self._x, ridge=self._ridge, weights=self._weights, scale=scale)
        return self._inner

    def _gate(self, sample: NDArray[np.int64], y: NDArray[np.floating]) -> tuple[float, ...]:
        """Return weights of the views that explain a sample well, found by changing one after another."""
        weights, grams = self._weights[sample], self._grams(sample)

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

    def _grams(self, sample: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the kernel matrix of each view, float64 ``[views, m, m]``, all of one scale."""
        rows = self._x[sample]
        found = np.empty((len(self.shares), len(rows), len(rows)))
        for view, (start, stop) in enumerate(itertools.pairwise(self._edges)):
            part = np.ascontiguousarray(rows[:, start:stop])
            if self._form == "kernel":
                found[view] = landmark_kernel(part, np.arange(len(part)), (0, stop - start), (1.0,))(part)
                continue
            centred = part.astype(np.float64) - part.mean(axis=0, dtype=np.float64)
            found[view] = centred @ centred.T
            found[view] /= max(float(np.trace(found[view])) / len(part), 1e-12)
        return found

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
