"""Rank candidate items per user, by blocked matrix products and partial selection, with deterministic ties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from enhancer.errors import NOT_FINITE_HINT, EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors

BLOCK_SCORES = 1 << 20
"""Number of scores held at once (4 MiB of float32): small enough for the CPU cache, large enough for a fast matrix
product."""
FEWEST_USERS = 32
"""Users that are ranked at once however many items there are: a product of fewer rows reads all items for each anew."""
_MOST_SCORES = 1 << 26
"""Number of scores (256 MiB) that even so many users may not exceed."""
_ORDER_SEED = 20_080
_STRIPES = 64
"""Number of columns in a set whose maximum is taken first; see :func:`_top_by_maxima`."""


class Pairs(Protocol):
    """Interactions as two columns of row numbers, such as ``enhancer.data.Interactions``."""

    @property
    def users(self) -> NDArray[np.int32]:
        """int32 ``[n]``: user rows."""

    @property
    def items(self) -> NDArray[np.int32]:
        """int32 ``[n]``: item rows."""


@dataclass(frozen=True, eq=False)
class CSR:
    """Items of every user: those of user u are ``indices[indptr[u]:indptr[u + 1]]``, ascending."""

    indptr: NDArray[np.int64]
    """int64 ``[n_users + 1]``."""
    indices: NDArray[np.int32]
    """int32 ``[n]``: item rows."""

    @classmethod
    def of(cls, parts: Sequence[Pairs], n_users: int) -> CSR:
        """Build from the interactions of all ``parts``."""
        indptr = np.zeros(n_users + 1, np.int64)
        for part in parts:
            indptr[1:] += np.bincount(part.users, minlength=n_users)
        np.cumsum(indptr, out=indptr)
        width = 1 + max((int(part.items.max()) for part in parts if len(part.items)), default=0)
        # Numbers of pairs are sorted in place, which takes less memory and time than sorting their positions.
        pairs, end = np.empty(indptr[-1], np.int64), 0
        for part in parts:
            begin, end = end, end + len(part.users)
            np.multiply(part.users, width, out=pairs[begin:end], dtype=np.int64)
            pairs[begin:end] += part.items
        pairs.sort()
        pairs %= width
        return cls(indptr, pairs.astype(np.int32))

    def rows(self, users: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Return the items of some users, flat: positions in ``users`` and item rows, both ``[m]``."""
        starts, lengths = self.indptr[users], self.indptr[users + 1] - self.indptr[users]
        row = np.repeat(np.arange(len(users)), lengths)
        offset = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return row, self.indices[np.repeat(starts, lengths) + offset]


def tie_order(n_items: int) -> NDArray[np.int64]:
    """Return all item rows in a random order that depends on their number alone, int64 ``[n_items]``.

    It decides ties. File order often follows popularity (it does in MovieLens-100k). With ties in file order, a model
    that gives all items the same score would look better than it is.

    >>> tie_order(5)
    array([0, 3, 4, 1, 2])
    """
    return np.random.default_rng(_ORDER_SEED).permutation(n_items)


def rank(
    factors: Factors,
    users: NDArray[np.integer],
    seen: CSR | None,
    candidates: NDArray[np.bool_] | NDArray[np.integer] | None = None,
    k: int = 10,
) -> NDArray[np.int32]:
    """Return the ``k`` highest-scoring candidate items of each user, best first.

    Among equal scores the earlier candidate is ranked first: by :func:`tie_order`, unless ``candidates`` gives another
    order.

    Args:
        factors: User and item factors. Scores are their inner products.
        users: ``[n]``: user rows to rank for.
        seen: Items to exclude, by user row; None for none.
        candidates: Items to rank: a mask ``[n_items]``, or item rows in the order that decides ties; None for all.
        k: Length of the ranking.

    Returns:
        int32 ``[n, k]``: item rows; -1 where a user has fewer than ``k`` candidates left.

    Raises:
        EvaluationError: A factor is NaN or infinite.
    """
    for side, table in (("user", factors.users), ("item", factors.items)):
        if not np.isfinite(table).all():
            row = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
            raise EvaluationError(f"the factors of {side} row {row} are not finite", hint=NOT_FINITE_HINT)
    n_items = len(factors.items)
    rows = _candidate_rows(candidates, n_items)
    column = np.full(n_items, -1, np.int64)
    column[rows] = np.arange(len(rows))
    items = np.ascontiguousarray(factors.items[rows].T)
    out = np.full((len(users), k), -1, np.int32)
    width = min(k, len(rows))
    if width == 0:
        return out
    block = max(1, BLOCK_SCORES // len(rows), min(FEWEST_USERS, _MOST_SCORES // len(rows)))
    for start in range(0, len(users), block):
        block_users = users[start : start + block]
        scores = factors.users[block_users] @ items
        if seen is not None:
            position, item = seen.rows(block_users)
            where = column[item]
            scores[position[where >= 0], where[where >= 0]] = -np.inf
        best = _top(scores, width)
        chosen = rows[best].astype(np.int32)
        chosen[np.take_along_axis(scores, best, axis=1) == -np.inf] = -1
        out[start : start + block, :width] = chosen
    return out


def _candidate_rows(candidates: NDArray[np.bool_] | NDArray[np.integer] | None, n_items: int) -> NDArray[np.int64]:
    if candidates is None:
        return tie_order(n_items)
    if candidates.dtype == np.bool_:
        order = tie_order(n_items)
        return order[candidates[order]]
    return candidates.astype(np.int64)


def _top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the columns of the ``k`` largest scores of each row, largest first; ties by lower column."""
    rows, columns = scores.shape
    stripes = min(_STRIPES, columns // (4 * k))
    if stripes > 1 and (best := _top_by_maxima(scores, k, stripes)) is not None:
        return best
    if k < columns:
        # Take all scores that reach the k-th largest value. Unlike argpartition, this keeps control of ties.
        threshold = np.partition(scores, columns - k, axis=1)[:, columns - k, None]
        reach = scores >= threshold
        if int(np.count_nonzero(reach)) > rows * k:
            reach = _trim(scores, reach, threshold, k)
        chosen = np.nonzero(reach)[1].reshape(rows, k)
    else:
        chosen = np.broadcast_to(np.arange(columns), (rows, columns))
    values = np.take_along_axis(scores, chosen, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")  # columns ascend: a stable sort keeps the lower first
    return np.take_along_axis(chosen, order, axis=1)


def _top_by_maxima(scores: NDArray[np.float32], k: int, stripes: int) -> NDArray[np.int64] | None:
    """Return the same as :func:`_top`, or None if too many scores are equal or masked.

    Columns are divided into sets of ``stripes``. The k-th largest set maximum is a lower bound of the k-th largest
    score, and few more than ``k`` scores of a row reach it. Only the maxima are partitioned, which is many times faster
    than partitioning all scores.
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
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]  # columns ascend: a stable sort keeps the lower first
    return np.take_along_axis(columns_of, order, axis=1)


def _trim(
    scores: NDArray[np.float32], reach: NDArray[np.bool_], threshold: NDArray[np.float32], k: int
) -> NDArray[np.bool_]:
    """Drop the last of the scores equal to the threshold, in rows where more than ``k`` reach it."""
    tied = np.flatnonzero(np.count_nonzero(reach, axis=1) > k)
    above = scores[tied] > threshold[tied]
    equal = reach[tied] & ~above
    room = k - np.count_nonzero(above, axis=1)
    reach[tied] = above | (equal & (np.cumsum(equal, axis=1) <= room[:, None]))
    return reach
