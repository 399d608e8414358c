"""What a cloud of vectors looks like: how far they point one way, how many directions they use, who is near whom.

Everything works in blocks: memory is linear in the number of vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK = 1 << 22
"""Numbers held at once beside the vectors themselves."""
_CANCELLED = 1e-12


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows at unit length; rows without a direction stay zero."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.where(length > _CANCELLED, length, np.inf)).astype(np.float32)


def mean_cosine(vectors: NDArray[np.float32]) -> float:
    r"""Mean cosine of two different rows, over all pairs.

    For unit rows :math:`\sum_{i \ne j} x_i \cdot x_j = \lVert \sum_i x_i \rVert^2 - n`, so no pair is looked at.

    >>> round(mean_cosine(np.array([[1, 0], [0, 1], [1, 0]], np.float32)), 4)
    0.3333

    Args:
        vectors: float32 ``[n, d]``, ``n`` at least 2, of unit length.
    """
    n = len(vectors)
    total = vectors.sum(axis=0, dtype=np.float64)
    return float((total @ total - n) / (n * (n - 1)))


def effective_rank(vectors: NDArray[np.float32]) -> float:
    r"""How many directions the centred vectors use (Roy & Vetterli 2007, eq. 2).

    :math:`\exp(-\sum_i p_i \log p_i)` with :math:`p_i = \sigma_i / \sum_j \sigma_j` of the singular values: the
    number of directions if all were used alike.

    >>> round(effective_rank(np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)), 3)
    2.0

    Args:
        vectors: float32 ``[n, d]``.

    Returns:
        From 1 to ``min(n - 1, d)``; 0 where all vectors are the same.
    """
    n, d = vectors.shape
    middle = vectors.mean(axis=0, dtype=np.float64)
    gram = np.zeros((d, d))
    step = max(1, _BLOCK // max(d, 1))
    for start in range(0, n, step):
        centred = vectors[start : start + step] - middle
        gram += centred.T @ centred
    values = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0.0, None))
    values = values[values > values.max(initial=0.0) * 1e-7]
    if not values.sum() > np.sqrt(n) * 1e-6:
        return 0.0
    p = values / values.sum()
    return float(np.exp(-(p * np.log(p)).sum()))


def neighbours(vectors: NDArray[np.float32], queries: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The ``k`` rows with the largest cosine to each query row, the query itself left out, nearest first.

    Args:
        vectors: float32 ``[n, d]``, of unit length, ``n > k``.
        queries: Rows, ``[q]``.
        k: How many.

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
    """Coordinates of the centred vectors on their ``k`` widest axes.

    Args:
        vectors: float32 ``[n, d]``.
        k: Axes wanted.

    Returns:
        float64 ``[n, k]``; an axis' sign is chosen so that its longest part is positive, missing axes are zero.
    """
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:k]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    out = np.zeros((len(vectors), k))
    out[:, : len(axes)] = centred @ (axes * np.where(signs == 0, 1, signs)[:, None]).T
    return out
