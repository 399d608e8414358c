"""Compute cosines, effective rank, nearest neighbours and principal axes of vectors.

Memory is linear in the number of vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 22
"""Numbers in memory at a time, beside the vectors themselves."""
_ZERO_LENGTH = 1e-12


def unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale rows to unit length; rows of length zero stay zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > _ZERO_LENGTH, length, np.inf)).astype(np.float32)


def mean_cosine(vectors: NDArray[np.float32]) -> float:
    r"""Return the mean cosine over all pairs of different rows.

    For unit rows :math:`\sum_{i \ne j} x_i \cdot x_j = \lVert \sum_i x_i \rVert^2 - n`, which needs no pairs.

    >>> round(mean_cosine(np.array([[1, 0], [0, 1], [1, 0]], np.float32)), 4)
    0.3333

    Args:
        vectors: float32 ``[n, d]``, ``n`` at least 2, of unit length.
    """
    n = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    return float((total @ total - n) / (n * (n - 1)))


def effective_rank(vectors: NDArray[np.float32]) -> float:
    r"""Return the effective rank of the centred vectors (Roy & Vetterli 2007, eq. 2).

    :math:`\exp(-\sum_i p_i \log p_i)` with :math:`p_i = \sigma_i / \sum_j \sigma_j` of the singular values
    :math:`\sigma`.

    >>> round(effective_rank(np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)), 3)
    2.0

    Args:
        vectors: float32 ``[n, d]``.

    Returns:
        Between 1 and ``min(n - 1, d)``; 0 if all vectors are equal.
    """
    n, d = vectors.shape
    mean = vectors.mean(axis=0, dtype=np.float64)
    gram = np.zeros((d, d))
    step = max(1, _BLOCK // max(d, 1))
    for start in range(0, n, step):
        centred = vectors[start : start + step] - mean
        gram += centred.T @ centred
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0.0, None))
    values = values[values > values.max(initial=0.0) * 1e-7]
    if not values.sum() > np.sqrt(n) * 1e-6:
        return 0.0
    p = values / values.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def neighbours(vectors: NDArray[np.float32], queries: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Return the ``k`` rows with the largest cosine to each query row, nearest first, without the query itself.

    Args:
        vectors: float32 ``[n, d]``, of unit length, ``n > k``.
        queries: Row numbers, int64 ``[q]``.
        k: Number of neighbours.

    Returns:
        int64 ``[q, k]``.
    """
    out = np.empty((len(queries), k), np.int64)
    step = max(1, _BLOCK // len(vectors))
    for start in range(0, len(queries), step):
        some = queries[start : start + step]
        scores = vectors[some] @ vectors.T
        scores[np.arange(len(some)), some] = -np.inf
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        out[start : start + step] = np.take_along_axis(best, order, axis=1)
    return out


def principal_axes(vectors: NDArray[np.float32], k: int) -> NDArray[np.float64]:
    """Project the centred vectors onto their first ``k`` principal axes.

    Args:
        vectors: float32 ``[n, d]``.
        k: Number of axes.

    Returns:
        float64 ``[n, k]``. The largest component of each axis is positive; missing axes are zero.
    """
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:k]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    out = np.zeros((len(vectors), k))
    out[:, : len(axes)] = centred @ (axes * np.where(signs == 0, 1, signs)[:, None]).T
    return out
