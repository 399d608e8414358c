"""Top-k over every candidate item: blocked matrix products, partial selection, deterministic ties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from enhancer.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors

BLOCK_SCORES = 1 << 20
"""Scores held at once (4 MiB of float32): small enough for the cache, large enough for the matrix product."""


_STRIPES = 64


class Pairs(Protocol):
    """Interactions as two columns of row numbers; ``enhancer.data.Interactions`` is one."""

    @property
    def users(self) -> NDArray[np.int32]:
        """int32 ``[n]``."""

    @property
    def items(self) -> NDArray[np.int32]:
        """int32 ``[n]``."""


@dataclass(frozen=True, eq=False)
class CSR:
    """A list of items for every user: those of user u are ``indices[indptr[u]:indptr[u + 1]]``, ascending."""

    indptr: NDArray[np.int64]
    """int64 ``[n_users + 1]``."""
    indices: NDArray[np.int32]
    """int32 ``[n]``."""

    @classmethod
    def of(cls, parts: Sequence[Pairs], n_users: int) -> CSR:
        """Gather the interactions of ``parts``."""
        empty = np.empty(0, np.int32)
        users = np.concatenate([part.users for part in parts]) if parts else empty
        items = np.concatenate([part.items for part in parts]) if parts else empty
        order = np.lexsort((items, users))
        indptr = np.zeros(n_users + 1, np.int64)
        np.cumsum(np.bincount(users, minlength=n_users), out=indptr[1:])
        return cls(indptr, items[order].astype(np.int32, copy=False))

    def rows(self, users: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The lists of some users, flat: position in ``users`` and item, both ``[m]``."""
        starts, lengths = self.indptr[users], self.indptr[users + 1] - self.indptr[users]
        row = np.repeat(np.arange(len(users)), lengths)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return row, self.indices[np.repeat(starts, lengths) + offset]


def rank(
    factors: Factors,
    users: NDArray[np.integer],
    seen: CSR | None,
    candidates: NDArray[np.bool_] | NDArray[np.integer] | None = None,
    k: int = 10,
) -> NDArray[np.int32]:
    """The best ``k`` candidate items of each user, best first.

    Of equal scores the earlier candidate wins: the lower row, unless ``candidates`` is a list of rows in another order.

    Args:
        factors: What scores.
        users: Rows to rank for, ``[n]``.
        seen: Items that are never ranked, by user row; None for none.
        candidates: Which items are ranked: a mask ``[n_items]``, or rows in the order that decides ties; None for all.
            File order often follows popularity or age, so that a model which scores everything equal would look better
            than it is: an experiment passes the rows shuffled once.
        k: How many.

    Returns:
        int32 ``[n, k]``; -1 where a user has fewer than ``k`` candidates left.

    Raises:
        EvaluationError: A factor is NaN or infinite.
    """
    for side, table in (("user", factors.users), ("item", factors.items)):
        if not np.isfinite(table).all():
            row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
            raise EvaluationError(f"the factors of {side} row {row} are not finite", hint="lower the learning rate")
    n_items = len(factors.items)
    rows = _candidate_rows(candidates, n_items)
    column = np.full(n_items, -1, np.int64)
    column[rows] = np.arange(len(rows))
    items = np.ascontiguousarray(factors.items[rows].T)
    out = np.full((len(users), k), -1, np.int32)
    width = min(k, len(rows))
    if width == 0:
        return out
    block = max(1, BLOCK_SCORES // len(rows))
    for start in range(0, len(users), block):
        some = users[start : start + block]
        scores = factors.users[some] @ items
        if seen is not None:
            who, what = seen.rows(some)
            where = column[what]
            scores[who[where >= 0], where[where >= 0]] = -np.inf
        best = _top(scores, width)
        chosen = rows[best].astype(np.int32)
        chosen[np.take_along_axis(scores, best, axis=1) == -np.inf] = -1
        out[start : start + block, :width] = chosen
    return out


def _candidate_rows(candidates: NDArray[np.bool_] | NDArray[np.integer] | None, n_items: int) -> NDArray[np.int64]:
    if candidates is None:
        return np.arange(n_items)
    if candidates.dtype == np.bool_:
        return np.flatnonzero(candidates)
    return candidates.astype(np.int64)


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Columns of the ``k`` largest scores of each row, largest first, the lower column first among equals."""
    rows, columns = scores.shape
    stripes = min(_STRIPES, columns // (4 * k))
    if stripes > 1 and (best := _sieved(scores, k, stripes)) is not None:
        return best
    if k < columns:
        # The k-th largest value, then all that reach it: unlike argpartition this leaves ties to us.
        threshold = np.partition(scores, columns - k, axis=1)[:, columns - k, None]
        reach = scores >= threshold
        if int(np.count_nonzero(reach)) > rows * k:
            reach = _trim(scores, reach, threshold, k)
        chosen = np.nonzero(reach)[1].reshape(rows, k)
    else:
        chosen = np.broadcast_to(np.arange(columns), (rows, columns))
    values = np.take_along_axis(scores, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")  # columns ascend within a row: stable keeps the lower first
    return np.take_along_axis(chosen, order, axis=1)


def _sieved(scores: NDArray[np.float32], k: int, stripes: int) -> NDArray[np.int64] | None:
    """The same by a sieve, or None where too many scores are equal (or masked) for it.

    Columns are dealt into sets of ``stripes``. At least ``k`` sets have a maximum that is no less than the k-th largest
    of all maxima, so the ``k`` best are no less either; hardly more than ``k`` scores of a row reach it. Finding the
    maxima reads the scores once, and only they are partitioned: many times quicker than partitioning the scores.
    """
    rows, columns = scores.shape
    width = columns // stripes
    peaks = scores[:, : stripes * width].reshape(rows, stripes, width).max(axis=1)
    bound = np.partition(peaks, width - k, axis=1)[:, width - k, None]
    found = np.flatnonzero(scores >= bound)
    row, column = np.divmod(found, columns)
    counts = np.bincount(row, minlength=rows)
    widest = int(counts.max(initial=0))
    if widest > 4 * k:
        return None
    place = np.arange(len(found)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.full((rows, widest), -np.inf, np.float32)
    values[row, place] = scores[row, column]
    columns_of = np.zeros((rows, widest), np.int64)
    columns_of[row, place] = column
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]  # columns ascend: stable keeps the lower first
    return np.take_along_axis(columns_of, order, axis=1)


def _trim(
    scores: NDArray[np.float32], reach: NDArray[np.bool_], threshold: NDArray[np.float32], k: int
) -> NDArray[np.bool_]:
    """Where more than ``k`` reach the threshold, drop the last of those that equal it."""
    tied = np.flatnonzero(np.count_nonzero(reach, axis=1) > k)
    above = scores[tied] > threshold[tied]
    equal = reach[tied] & ~above
    room = k - np.count_nonzero(above, axis=1)
    reach[tied] = above | (equal & (np.cumsum(equal, axis=1) <= room[:, None]))
    return reach
