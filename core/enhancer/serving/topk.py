"""Find the exact top k of many inner products, in numpy.

Scores are computed in blocks that fit the processor's cache. In the first block, the k-th best of the maxima of small
groups is a score that k items reach. In later blocks it is the k-th best so far. One comparison per score discards
nearly all others, and only the rest are sorted. Ties go to the lower row number, so that equal input gives equal
output.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_BLOCK_SCORES = 1 << (19 if "1" in {os.environ.get(f"{blas}_NUM_THREADS") for blas in ("OPENBLAS", "MKL")} else 23)
"""Scores in a block. One thread is fastest with 2 MiB, which fit its cache. Threads that share a product synchronise
after every block, which is slow on busy cores; for them blocks have 32 MiB."""
_MIN_BLOCK = 512
"""Minimum items in a block."""
_GROUP = 16
"""Scores in a group of the first block."""
_LOWEST = np.finfo(np.float32).min
_MAX_QUERIES = 1024
"""Queries searched at a time."""


class StoppedError(EnhancerError):
    """A search was given up because nobody waits for it."""


def check_stop(stop: Callable[[], bool] | None) -> None:
    """Raise an error if work should stop.

    Raises:
        StoppedError: ``stop`` returns True.
    """
    if stop is not None and stop():
        raise StoppedError("nobody waits for the answer")


def top_k(
    queries: NDArray[np.float32],
    items: NDArray[np.float32],
    k: int,
    *,
    masked: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    banned: NDArray[np.int64] | None = None,
    scale: NDArray[np.float32] | None = None,
    stop: Callable[[], bool] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the ``k`` rows of ``items`` with the largest inner product, for each query.

    Args:
        queries: float32 ``[b, d]``.
        items: float32 ``[m, d]``.
        k: Number of rows; at least 1.
        masked: Query rows and item rows of the pairs to leave out, int64 ``[n]`` each.
        banned: Item rows to leave out for every query.
        scale: float32 ``[m]``: non-negative factors on the scores of items.
        stop: Called before each block; if it returns True, the search is given up.

    Returns:
        int64 ``[b, k]`` rows of ``items``, best first, and their float32 ``[b, k]`` scores. Lists with fewer
        than ``k`` rows are filled with row -1 and score minus infinity.

    Raises:
        StoppedError: ``stop`` returned True.
    """
    rows = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for start in range(0, len(queries), _MAX_QUERIES):
        end = min(start + _MAX_QUERIES, len(queries))
        masked_here = None
        if masked is not None:
            inside = (masked[0] >= start) & (masked[0] < end)
            masked_here = masked[0][inside] - start, masked[1][inside]
        search = _Search(
            np.ascontiguousarray(queries[start:end]), items, k, masked=masked_here, banned=banned, scale=scale
        )
        rows[start:end], scores[start:end] = search.run(stop)
    return rows, scores


class _Search:
    """State of one pass of some queries over the items."""

    def __init__(
        self,
        queries: NDArray[np.float32],
        items: NDArray[np.float32],
        k: int,
        *,
        masked: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
        banned: NDArray[np.int64] | None,
        scale: NDArray[np.float32] | None,
    ) -> None:
        self.queries, self.items, self.k, self.scale = queries, items, k, scale
        if banned is not None and not (banned[1:] > banned[:-1]).all():  # sorting many rows takes milliseconds
            banned = np.unique(banned)
        self.banned = banned
        self.masked = None
        if masked is not None and len(masked[0]):
            order = np.argsort(masked[1], kind="stable")
            self.masked = masked[0][order], masked[1][order]
        # Best rows of each query so far, best first.
        self.rows = np.full((len(queries), k), -1, dtype=np.int64)
        self.scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        self.pending: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]] = []
        self.n_pending = 0

    def run(self, stop: Callable[[], bool] | None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        count, total = len(self.queries), len(self.items)
        if not count or not total:
            return self.rows, self.scores
        width = max(_BLOCK_SCORES // count, _MIN_BLOCK, 4 * self.k)
        if total < 2 * width:  # a small second block would cost nearly as much as a whole one
            width = total
        buffer = np.empty((count, width), dtype=np.float32)
        for start in range(0, total, width):
            check_stop(stop)
            scores = self._scores(buffer, start, min(start + width, total))
            if start == 0:
                self._collect(scores >= self._reached(scores)[:, None], scores, start)
                self._merge()
            else:
                self._collect(scores > self.scores[:, -1:], scores, start)
        self._merge()
        return self.rows, self.scores

    def _scores(self, buffer: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
        scores = buffer.reshape(-1)[: len(self.queries) * (stop - start)].reshape(len(self.queries), stop - start)
        np.matmul(self.queries, self.items[start:stop].T, out=scores)
        if self.scale is not None:
            scores *= self.scale[start:stop]
        if self.banned is not None:
            lo, hi = np.searchsorted(self.banned, (start, stop))
            scores[:, self.banned[lo:hi] - start] = -np.inf
        if self.masked is not None:
            lo, hi = np.searchsorted(self.masked[1], (start, stop))
            scores[self.masked[0][lo:hi], self.masked[1][lo:hi] - start] = -np.inf
        return scores

    def _reached(self, scores: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a finite score that at least k items of the first block reach, for each query; or the lowest one."""
        width, k = scores.shape[1], self.k
        groups = width // _GROUP
        if groups >= 8 * k:  # so many that the best k are in different groups, nearly always
            scores = scores[:, : groups * _GROUP].reshape(len(scores), _GROUP, groups).max(axis=1)
            width = groups
        if width <= k:
            return np.full(len(scores), _LOWEST)
        return np.maximum(np.partition(scores, width - k, axis=1)[:, width - k], _LOWEST)

    def _collect(self, kept: NDArray[np.bool_], scores: NDArray[np.float32], start: int) -> None:
        places = np.flatnonzero(kept)
        if not len(places):
            return
        queries, columns = np.divmod(places, kept.shape[1])
        self.pending.append((queries, columns + start, scores.reshape(-1)[places]))
        self.n_pending += len(places)
        if self.n_pending >= self.rows.size // 2:
            self._merge()

    def _merge(self) -> None:
        """Merge the collected scores into the best rows, and keep the best k of each query."""
        if not self.pending:
            return
        touched = np.flatnonzero(np.bincount(np.concatenate([part[0] for part in self.pending])))
        held = self.rows[touched] >= 0
        queries = np.concatenate([np.repeat(touched, held.sum(axis=1)), *(part[0] for part in self.pending)])
        rows = np.concatenate([self.rows[touched][held], *(part[1] for part in self.pending)])
        scores = np.concatenate([self.scores[touched][held], *(part[2] for part in self.pending)])
        order = np.lexsort((rows, -scores, queries))
        queries, rows, scores = queries[order], rows[order], scores[order]
        rank = np.arange(len(queries)) - np.searchsorted(queries, queries)
        best = rank < self.k
        self.rows[queries[best], rank[best]] = rows[best]
        self.scores[queries[best], rank[best]] = scores[best]
        self.pending, self.n_pending = [], 0
