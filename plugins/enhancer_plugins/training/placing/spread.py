"""Use of the spread of samples in a regression: vectors whose samples disagree are less sure.

Two models, both of leave-one-out predictions, so that they say nothing where the spread says nothing. The variance of
an entity's error is linear in its spread, and its weight is the inverse (weighted least squares: Aitken 1935, "On Least
Squares and Linear Combination of Observations"). The distance of a prediction from the mean is linear in the spread,
too: a vector with an error draws its prediction too far away from it (regression dilution: Fuller 1987, "Measurement
Error Models", sec. 1.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_WEIGHT = 0.05
"""Smallest factor of a weight."""
_LEAST_TRUST = 0.1
"""Smallest factor of a distance from the mean."""


def mean_spread(spread: NDArray[np.float32]) -> NDArray[np.float64] | None:
    """Return the mean spread of each entity over views; an unknown one is taken to be the mean of its view.

    Args:
        spread: float32 ``[n, views]``, NaN if unknown.

    Returns:
        float64 ``[n]``; None if all are unknown, or the same.
    """
    known = np.isfinite(spread)
    told = spread[:, known.any(axis=0)].astype(np.float64)
    if not told.size:
        return None
    found: NDArray[np.float64] = np.where(np.isnan(told), np.nanmean(told, axis=0), told).mean(axis=1)
    return None if np.ptp(found) <= np.finfo(np.float32).eps else found


def weight_factors(
    errors: NDArray[np.float64], spread: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return factors of weights by the variance that the spread of each entity lets expect.

    Args:
        errors: float64 ``[n]``: mean squared leave-one-out error of each entity.
        spread: float64 ``[n]``.
        weights: float64 ``[n]``: weights of the entities.

    Returns:
        float64 ``[n]``, at most 1; all 1 if errors do not rise with the spread.
    """
    mean = np.average(spread, weights=weights)
    centred = spread - mean
    level = np.average(errors, weights=weights)
    rise = np.average(centred * errors, weights=weights) / np.average(np.square(centred), weights=weights)
    if rise <= 0 or level <= 0:
        return np.ones(len(spread))
    expected = np.maximum(level + rise * centred, _LEAST_WEIGHT * level)
    factors: NDArray[np.float64] = np.maximum(expected.min() / expected, _LEAST_WEIGHT)
    return factors


def trust_factors(
    predicted: NDArray[np.float64],
    target: NDArray[np.float64],
    spread: NDArray[np.float64],
    rows: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> NDArray[np.float32] | None:
    """Return the factors of predictions that fit a target best, linear in the spread.

    Args:
        predicted: float64 ``[r, k]``: leave-one-out predictions of ``rows``, relative to the mean of the target.
        target: float64 ``[r, k]``: the target of these rows, relative to its mean.
        spread: float64 ``[n]``: spread of all entities.
        rows: int64 ``[r]``.
        weights: float64 ``[r]``: weights of these rows.

    Returns:
        float32 ``[n]``, 1 at the mean spread of the rows and at most 1; None if predictions do not lie too far away
        where the spread is large.
    """
    mean = np.average(spread[rows], weights=weights)
    centred = spread[rows] - mean
    squares = np.square(predicted).sum(axis=1) * weights
    products = (predicted * target).sum(axis=1) * weights
    matrix = np.array(
        [[squares.sum(), (centred * squares).sum()], [(centred * squares).sum(), (np.square(centred) * squares).sum()]]
    )
    if np.linalg.cond(matrix) > 1 / np.finfo(np.float64).eps:
        return None
    level, slope = np.linalg.solve(matrix, [products.sum(), (centred * products).sum()])
    if level <= 0 or slope >= 0:
        return None
    factors: NDArray[np.float32] = np.clip(1 + slope / level * (spread - mean), _LEAST_TRUST, 1).astype(np.float32)
    return factors
