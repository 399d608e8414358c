"""Vectors on a plane, for people to look at: neighbours stay neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.diagnosing.geometry import principal_axes, unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS, _EXAGGERATED = 400, 120
_RATE = 100.0


def plane(vectors: NDArray[np.float32], *, perplexity: float = 20.0) -> NDArray[np.float64]:
    r"""Place the rows of a small table by t-SNE (van der Maaten & Hinton 2008), started from their two widest axes.

    Affinities are :math:`p_{j|i} \propto \exp(-\lVert x_i - x_j \rVert^2 / 2 \sigma_i^2)` of unit rows, with
    :math:`\sigma_i` chosen for the perplexity (eq. 1), symmetric; the plane's are Student's (eq. 4). No chance is at
    work: the same table gives the same plane.

    Args:
        vectors: float32 ``[n, d]``. All pairs are looked at: meant for some hundreds of rows.
        perplexity: How many neighbours count.

    Returns:
        float64 ``[n, 2]``, from 0 to 1 on either axis.
    """
    n = len(vectors)
    directions = unit(vectors)
    y = principal_axes(directions, 2)
    if n > 3 * perplexity:
        y = y / max(float(y[:, 0].std()), 1e-9) * 1e-2
        y += np.outer(np.arange(n), [1e-7, -1e-7])  # equal rows may part
        p = _affinities(directions, perplexity)
        y = _descend(p, y)
    low, high = y.min(axis=0, initial=0.0), y.max(axis=0, initial=0.0)
    scaled: NDArray[np.float64] = (y - low) / np.where(high - low > 1e-12, high - low, 1.0)
    return scaled


def _affinities(x: NDArray[np.float32], perplexity: float) -> NDArray[np.float64]:
    squared = np.maximum(2.0 - 2.0 * (x @ x.T).astype(np.float64), 0.0)
    np.fill_diagonal(squared, np.inf)
    low, high = np.full(len(x), 1e-3), np.full(len(x), 1e5)
    for _ in range(40):  # bisection of the precision, on a log scale
        beta = np.sqrt(low * high)
        p = np.exp(-(squared - squared.min(axis=1, keepdims=True)) * beta[:, None])
        p /= p.sum(axis=1, keepdims=True)
        wide = np.exp(-(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)) > perplexity
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
    together: NDArray[np.float64] = np.maximum((p + p.T) / (2 * len(x)), 1e-12)
    return together


def _descend(p: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    speed, gain = np.zeros_like(y), np.ones_like(y)
    for step in range(_STEPS):
        length = (y**2).sum(axis=1)
        near = 1.0 / (1.0 + np.maximum(length[:, None] + length - 2.0 * (y @ y.T), 0.0))
        np.fill_diagonal(near, 0.0)
        pull = (p * (8.0 if step < _EXAGGERATED else 1.0) - near / near.sum()) * near
        slope = 4.0 * (pull.sum(axis=1)[:, None] * y - pull @ y)
        gain = np.maximum(np.where(np.sign(slope) == np.sign(speed), gain * 0.8, gain + 0.2), 0.01)
        speed = (0.5 if step < _EXAGGERATED else 0.8) * speed - _RATE * gain * slope
        y = y + speed
        y = y - y.mean(axis=0)
    return y
