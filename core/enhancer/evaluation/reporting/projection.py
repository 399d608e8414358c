"""Project vectors onto a plane by t-SNE."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.diagnosing.geometry import principal_axes, unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS, _EXAGGERATED_STEPS = 400, 120
_EXAGGERATION = 8.0
"""Factor on the affinities during the first steps."""
_RATE = 50.0
"""Learning rate."""


def project_to_plane(vectors: NDArray[np.float32], *, perplexity: float = 30.0) -> NDArray[np.float64]:
    r"""Project the rows of a small table onto a plane by t-SNE (van der Maaten & Hinton 2008).

    Affinities are :math:`p_{j|i} \propto \exp(-\lVert x_i - x_j \rVert^2 / 2 \sigma_i^2)` of unit rows, with
    :math:`\sigma_i` chosen for the perplexity (eq. 1), and symmetric; those on the plane follow Student's t (eq. 4).
    The start is the first two principal axes, so the result is deterministic. Tables of at most three times as many
    rows as the perplexity are projected onto these axes alone.

    Args:
        vectors: float32 ``[n, d]``. Time and memory grow with the square of ``n``: meant for some hundred rows.
        perplexity: Effective number of neighbours.

    Returns:
        float64 ``[n, 2]``, between 0 and 1 on both axes.
    """
    n = len(vectors)
    directions = unit_rows(vectors)
    y = principal_axes(directions, 2)
    if n > 3 * perplexity:
        y = y / max(float(y[:, 0].std()), 1e-9) * 1e-2
        y += np.outer(np.arange(n), [1e-7, -1e-7])  # lets equal rows separate
        p = _affinities(directions, perplexity)
        y = _descend(p, y)
    low, high = y.min(axis=0, initial=0.0), y.max(axis=0, initial=0.0)
    scaled: NDArray[np.float64] = (y - low) / np.where(high - low > 1e-12, high - low, 1.0)
    return scaled


def _affinities(x: NDArray[np.float32], perplexity: float) -> NDArray[np.float64]:
    """Return the symmetric affinities of unit rows, ``[n, n]``."""
    squared = np.maximum(2.0 - 2.0 * (x @ x.T).astype(np.float64), 0.0)
    np.fill_diagonal(squared, np.inf)
    low, high = np.full(len(x), 1e-3), np.full(len(x), 1e5)
    for _ in range(40):  # bisection of the precision on a logarithmic scale
        beta = np.sqrt(low * high)
        p = np.exp(-(squared - squared.min(axis=1, keepdims=True)) * beta[:, None])
        p /= p.sum(axis=1, keepdims=True)
        wide = np.exp(-(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)) > perplexity
        low, high = np.where(wide, beta, low), np.where(wide, high, beta)
    joint: NDArray[np.float64] = np.maximum((p + p.T) / (2 * len(x)), 1e-12)
    return joint


def _descend(p: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Minimise the divergence by gradient descent with momentum and adaptive gains."""
    velocity, gain = np.zeros_like(y), np.ones_like(y)
    for step in range(_STEPS):
        squares = (y**2).sum(axis=1)
        student = 1.0 / (1.0 + np.maximum(squares[:, None] + squares - 2.0 * (y @ y.T), 0.0))
        np.fill_diagonal(student, 0.0)
        pull = (p * (_EXAGGERATION if step < _EXAGGERATED_STEPS else 1.0) - student / student.sum()) * student
        gradient = 4.0 * (pull.sum(axis=1)[:, None] * y - pull @ y)
        gain = np.maximum(np.where(np.sign(gradient) == np.sign(velocity), gain * 0.8, gain + 0.2), 0.01)
        velocity = (0.5 if step < _EXAGGERATED_STEPS else 0.8) * velocity - _RATE * gain * gradient
        y = y + velocity
        y = y - y.mean(axis=0)
    return y
