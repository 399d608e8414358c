"""Kernel ridge regression on vectors of one or several views, in numpy.

A target is a linear combination of similarities to trained entities. Their kernel is a sum over views: an additive
model, in which a view without meaning does not blur the others (Gönen & Alpaydın 2011, "Multiple Kernel Learning
Algorithms", JMLR, eq. 2). With many entities, the combination is of similarities to some of them (Williams & Seeger
2001, "Using the Nyström Method to Speed Up Kernel Machines", NIPS, eq. 6).
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts import Dense, Kernel
from enhancer.contracts.placement import centred_units
from enhancer_plugins.training.placing.regression import PENALTIES, Regression, RidgeRegression
from enhancer_plugins.training.placing.systems import Dual, inverse_factor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.placement import Layer
    from enhancer_plugins.training.placing.regression import Choice

MOST_EXACT = 3072
"""Largest number of entities that are all landmarks."""
LANDMARKS = 2048
"""Number of landmarks if there are more entities."""
MOST_KERNEL_ROWS = 1 << 15
"""Largest number of trained entities that a kernel regression is meant for: with more, fit a linear one."""
WIDTH = 0.5
"""Variance of the kernel on unit vectors. Vectors are centred before, so that it suits any embedder."""
_JITTER = 1e-6
"""Added to the diagonal of a kernel matrix that is inverted without a penalty."""


class GramRegression(Regression):
    """Kernel regression given the kernel matrix of the rows, all of which have a weight.

    Args:
        gram: float64 ``[n, n]``.
        ridge: Penalty, as a multiple of the mean diagonal element of the centred matrix; None chooses it by
            leave-one-out.
        weights: float64 ``[n]``, positive.
    """

    first = PENALTIES.index(0.1)
    least = PENALTIES.index(0.01)
    """Below, little changes: the distance between different entities keeps the solution smooth."""

    def __init__(self, gram: NDArray[np.float64], *, ridge: float | None, weights: NDArray[np.float64]) -> None:
        super().__init__(weights, ridge)
        self._columns = len(gram)
        self._means = gram @ self._shares
        centred = gram - self._means[:, None] - self._means + self._shares @ self._means
        self._system = Dual(self._roots[:, None] * centred * self._roots, self._shares)

    def layers(self, y: NDArray[np.floating]) -> tuple[Layer, ...]:
        """Fit one target; return the layer that maps similarities to the rows to it."""
        solved = self._solved(y)
        factors = self._roots[:, None] * solved.solution  # they sum to zero: the similarities need no centring
        intercept = solved.mean - self._means @ factors
        return (Dense(factors.astype(np.float32), intercept.astype(np.float32)),)


class KernelRegression:
    """Regressions of several targets on similarities to landmarks.

    Args:
        x: float32 ``[n, w]``. Kept, not copied.
        edges: First column of each view, and at last ``w``.
        shares: Weight of each view.
        ridge: Penalty, as a multiple of the mean diagonal element of the centred kernel matrix; None chooses it by
            leave-one-out.
        weights: float64 ``[n]``, not all zero.
    """

    def __init__(
        self,
        x: NDArray[np.float32],
        *,
        edges: Sequence[int],
        shares: Sequence[float],
        ridge: float | None,
        weights: NDArray[np.float64],
    ) -> None:
        self._x, self._rows = x, np.flatnonzero(weights)
        own, n, total = weights[self._rows], len(self._rows), float(sum(shares))
        exact = n <= MOST_EXACT
        marks = self._rows if exact else self._rows[np.linspace(0, n - 1, LANDMARKS).astype(np.int64)]
        self._kernel = landmark_kernel(x, marks, edges, [share / total for share in shares])
        self._basis: NDArray[np.float64] | None = None
        self._inner: Regression
        if exact:
            self._inner = GramRegression(self._kernel(x[marks]).astype(np.float64), ridge=ridge, weights=own)
            return
        among = self._kernel(x[marks]).astype(np.float64)
        among[np.diag_indices_from(among)] += _JITTER
        self._basis = inverse_factor(among)
        features = np.empty((n, len(marks)), np.float32)
        for start in range(0, n, LANDMARKS):
            part = self._kernel(x[self._rows[start : start + LANDMARKS]])
            features[start : start + LANDMARKS] = part @ self._basis.T.astype(np.float32)
        self._inner = RidgeRegression(features, ridge=ridge, weights=own)

    @property
    def chosen(self) -> Choice:
        """Penalty and explained variance of the last fit."""
        return self._inner.chosen

    def keep_penalty(self) -> None:
        """Use the penalty of the last fit for all later ones."""
        self._inner.keep_penalty()

    def layers(self, y: NDArray[np.floating]) -> tuple[Layer, ...]:
        """Fit one target, float ``[n, k]``; return the layers that map inputs to it, with landmarks in float16."""
        (last,) = self._inner.layers(y[self._rows])
        if self._basis is not None:
            assert isinstance(last, Dense)
            last = Dense((self._basis.T @ last.weight).astype(np.float32), last.bias)
        return replace(self._kernel, landmarks=self._kernel.landmarks.astype(np.float16)), last

    def left_out(self, y: NDArray[np.floating], rows: NDArray[np.integer]) -> NDArray[np.floating]:
        """Predict some rows of a target ``[n, k]`` from all other rows, ``[m, k]`` of the dtype of ``y``.

        A row without weight gets the prediction of the fit.
        """
        place = np.full(len(y), -1)
        place[self._rows] = np.arange(len(self._rows))
        used = place[rows] >= 0
        predicted = np.empty((len(rows), y.shape[1]), y.dtype)
        predicted[used] = self._inner.left_out(y[self._rows], place[rows[used]])
        if not used.all():
            kernel, last = self.layers(y)
            predicted[~used] = last(kernel(self._x[rows[~used]]))
        return predicted


def landmark_kernel(
    x: NDArray[np.float32], marks: NDArray[np.integer], edges: Sequence[int], shares: Sequence[float]
) -> Kernel:
    """Return the kernel whose landmarks are some rows, centred by their mean in each view.

    Args:
        x: float32 ``[n, w]``.
        marks: Rows to take.
        edges: First column of each view, and at last ``w``.
        shares: Weight of each view.
    """
    landmarks, centre = x[marks].astype(np.float32), np.zeros(x.shape[1], np.float32)
    for start, stop in itertools.pairwise(edges):
        rows = landmarks[:, start:stop]
        has = rows.any(axis=1)
        if has.any():
            centre[start:stop] = rows[has].mean(axis=0, dtype=np.float64)
        landmarks[:, start:stop] = centred_units(rows, centre[start:stop])
    return Kernel(landmarks, centre, tuple(edges), tuple(shares), WIDTH)
