r"""Logistic regression on ids and side features, the part of a factorisation machine without interactions.

With :math:`y` the labels, :math:`\sigma` the logistic function and :math:`x` the side features, the model is

.. math:: P(y_{ui} = 1) = \sigma(w_0 + b_u + w^\top x_u + b_i + v^\top x_i)

Each of the four groups of weights has a normal prior with mean 0. Its precision is fitted, too, by the fixed point
:math:`\tau = \sum (1 - \tau / H_{bb}) / \sum b^2` of the marginal likelihood in Laplace's approximation, with :math:`H`
the curvature (MacKay 1992, "The Evidence Framework Applied to Classification Networks"; Tipping 2001, "Sparse Bayesian
Learning and the Relevance Vector Machine", JMLR, eq. 16). Weights are thus shrunk by as much as the labels of all
entities together suggest, without a validation part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from enhancer.contracts import SideFeatures, TrainingData
    from enhancer.contracts.record import Kind

_SWEEPS, _FITTING = 60, 30
"""Maximum number of passes over both sides, and of those that fit precisions."""
_STEADY = 0.01
"""Relative change of all precisions below which they are fitted."""
_CONVERGED = 1e-4
"""Change of the scores in a pass below which the weights are fitted."""
_PRECISIONS = 0.05, 1e4
"""Bounds of a precision."""
_CONJUGATE_STEPS = 50


@dataclass(eq=False)
class AdditiveSide:
    """Weights of one side, float64."""

    bias: NDArray[np.float64]
    """``[n]``: weight of each id; 0 without a label."""
    linear: NDArray[np.float64]
    """``[w]``: weight of each side feature; empty without any."""
    bias_precision: float = 1.0
    """Precision of the prior of the ids' weights."""
    linear_precision: float = 1.0
    """Precision of the prior of the side features' weights."""


def log_odds(share: float) -> float:
    """Return ``log(p / (1 - p))``."""
    return float(np.log(share) - np.log1p(-share))


class AdditiveFit:
    """The fitted model.

    Args:
        data: Labelled interactions, of both labels, and side features.

    Attributes:
        level: :math:`w_0`.
        sides: Weights of users and of items.
    """

    def __init__(self, data: TrainingData) -> None:
        assert data.labels is not None
        labels = data.labels.astype(np.float64)
        self.level = log_odds(float(labels.mean()))
        steps = {
            "user": _SideStep(data.users, data.n_users, labels, data.user_features),
            "item": _SideStep(data.items, data.n_items, labels, data.item_features),
        }
        self.sides: dict[Kind, AdditiveSide] = {"user": steps["user"].side, "item": steps["item"].side}
        scores = np.full(len(labels), self.level)
        fitting = True
        for sweep in range(_SWEEPS):
            fitting = fitting and sweep < _FITTING
            changes, moves = [], []
            for step in steps.values():
                old, before = np.log(step.precisions()), scores
                scores, level = step(scores, fit_precisions=fitting)
                self.level += level
                changes.append(float(np.abs(np.log(step.precisions()) - old).max()))
                moves.append(float(np.abs(scores - before).max()))
            if not fitting and max(moves) < _CONVERGED:
                break
            fitting = max(changes) > _STEADY


class _SideStep:
    """Newton steps on the weights of one side and on the level, given the scores of the other side.

    With ``g`` and ``h`` the gradient and the curvature by the sum of an entity's weights, the ids are eliminated from
    the Newton equations, which leaves a system in the side features' weights and the level that conjugate gradients
    solve.
    """

    def __init__(
        self, rows: NDArray[np.int32], n: int, labels: NDArray[np.float64], features: SideFeatures | None
    ) -> None:
        self._rows, self._n, self._labels = rows, n, labels
        self._seen = np.bincount(rows, minlength=n) > 0
        width = 0 if features is None else features.width
        entries, columns, values = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        if features is not None:
            keep = self._seen[features.rows]
            entries = features.rows[keep]
            columns, values = features.indices[keep].astype(np.int64), features.values[keep].astype(np.float64)
        self._entries = entries, columns, values
        self._known = np.bincount(columns, minlength=width) > 0
        self.side = AdditiveSide(np.zeros(n), np.zeros(width))

    def precisions(self) -> tuple[float, float]:
        """Return the precisions of both priors."""
        return self.side.bias_precision, self.side.linear_precision

    def __call__(self, scores: NDArray[np.float64], *, fit_precisions: bool) -> tuple[NDArray[np.float64], float]:
        """Take a step; return the new scores of all interactions, and the change of the level."""
        side = self.side
        chances = 1 / (1 + np.exp(-scores))
        g = _sums(self._rows, chances - self._labels, self._n)
        h = _sums(self._rows, chances * (1 - chances), self._n)
        moves = self._newton(g, h)
        bias, linear, level = self._bounded(moves)
        side.bias = side.bias + bias
        side.linear = side.linear + linear
        if fit_precisions:
            self._fit_precisions(h)
        return scores + (bias + self._times(linear) + level)[self._rows], level

    def _newton(
        self, g: NDArray[np.float64], h: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Return the Newton step of ids ``[n]``, side features ``[w]`` and level."""
        side = self.side
        slope = g + side.bias_precision * side.bias
        curvature = h + side.bias_precision
        kept = h * side.bias_precision / curvature  # curvature by the features' sum after the ids are eliminated
        by_sum = g - h * slope / curvature
        right = np.append(self._transposed(by_sum) + side.linear_precision * side.linear, by_sum.sum())
        diagonal = np.append(self._transposed(kept, squared=True) + side.linear_precision, kept.sum())

        def times(x: NDArray[np.float64]) -> NDArray[np.float64]:
            weighted = kept * (self._times(x[:-1]) + x[-1])
            return np.append(self._transposed(weighted) + side.linear_precision * x[:-1], weighted.sum())

        solved = -_conjugate_gradients(times, right, diagonal)
        self._curvature = diagonal[:-1]
        bias = -(slope + h * (self._times(solved[:-1]) + solved[-1])) / curvature
        return np.where(self._seen, bias, 0.0), solved[:-1], float(solved[-1])

    def _bounded(
        self, moves: tuple[NDArray[np.float64], NDArray[np.float64], float]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        """Scale a step so that no entity's sum moves by more than 2, where Newton's method could diverge."""
        bias, linear, level = moves
        most = float(np.abs(bias + self._times(linear) + level)[self._seen].max())
        scale = min(1.0, 2.0 / most) if most else 1.0
        return bias * scale, linear * scale, level * scale

    def _fit_precisions(self, h: NDArray[np.float64]) -> None:
        side, seen, known = self.side, self._seen, self._known
        side.bias_precision = _precision(side.bias[seen], h[seen] + side.bias_precision, side.bias_precision)
        if known.any():
            side.linear_precision = _precision(side.linear[known], self._curvature[known], side.linear_precision)

    def _times(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``X @ weights``, float64 ``[n]``."""
        rows, columns, values = self._entries
        return _sums(rows, values * weights[columns], self._n)

    def _transposed(self, by_row: NDArray[np.float64], *, squared: bool = False) -> NDArray[np.float64]:
        """Return ``X' @ by_row``, float64 ``[w]``; with squared entries of ``X`` if asked."""
        rows, columns, values = self._entries
        return _sums(columns, (values**2 if squared else values) * by_row[rows], len(self.side.linear))


def _sums(keys: NDArray[np.integer], values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return the sum of the values of each key, float64 ``[n]``."""
    return np.bincount(keys, values, n).astype(np.float64)


def _precision(weights: NDArray[np.float64], curvature: NDArray[np.float64], before: float) -> float:
    """Return the next value of the fixed point, at most three times or a third of the one before."""
    determined = float(np.sum(1 - before / curvature))
    wanted = determined / max(float(np.sum(weights**2)), 1e-12)
    return float(np.clip(np.clip(wanted, before / 3, 3 * before), *_PRECISIONS))


def _conjugate_gradients(
    times: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    right: NDArray[np.float64],
    diagonal: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Solve a positive definite system, preconditioned by its diagonal."""
    x, rest = np.zeros_like(right), right.copy()
    scaled = rest / diagonal
    direction, size = scaled.copy(), float(rest @ scaled)
    goal = 1e-16 * size
    for _ in range(_CONJUGATE_STEPS):
        if size <= goal:
            break
        image = times(direction)
        step = size / float(direction @ image)
        x += step * direction
        rest -= step * image
        scaled = rest / diagonal
        size, before = float(rest @ scaled), size
        direction = scaled + size / before * direction
    return x
