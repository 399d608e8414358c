"""Where an item would stand in the rankings of its validation users if it had other factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors
    from enhancer.evaluation.measuring.metrics import PairList
    from enhancer.evaluation.measuring.views import Views

_CELLS = 1 << 23
"""Largest number of scores that are kept."""


def discounted(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return the discounted gain :math:`1 / \log_2(1 + \mathrm{rank})`, without a cut-off."""
    return np.asarray(1 / np.log2(1 + np.maximum(ranks, 1)), np.float64)


class PositionsBeside:
    """Positions of items among all items with interactions, one item at a time.

    All other items keep their factors, so the difference between two scores of an item is what these alone change.
    Training items of a user are not ranked. With many users and items, ranks are estimated from a sample of the items,
    the same for all scores. Equal scores share their ranks.

    Args:
        factors: Factors of a backbone trained without vectors.
        views: The split.
        pairs: Validation pairs to rank, of users and items with training interactions.
    """

    def __init__(self, factors: Factors, views: Views, pairs: PairList) -> None:
        owners, self._row = np.unique(pairs.users, return_inverse=True)
        warm = views.warm_items
        width = min(len(warm), max(64, _CELLS // max(len(owners), 1)))
        sample = warm[:width]
        scores = factors.users[owners].astype(np.float64) @ factors.items[sample].T.astype(np.float64)
        column = np.full(len(factors.items), -1, np.int64)
        column[sample] = np.arange(width)
        position, item = views.seen_validating.rows(owners)
        known = column[item] >= 0
        own = column[pairs.items]
        self._own = np.where(own >= 0, scores[self._row, np.maximum(own, 0)], -np.inf)
        low, high = scores.min(axis=1, keepdims=True), scores.max(axis=1, keepdims=True)
        scores[position[known], column[item[known]]] = -np.inf
        self._low, self._range = low[:, 0], np.maximum(high - low, 1e-12)[:, 0]
        self._counts = np.count_nonzero(scores > -np.inf, axis=1)
        seen = np.bincount(position, minlength=len(owners))
        self._scale = (len(warm) - seen) / np.maximum(self._counts, 1)
        # All rows in one ascending sequence: a row's scores, mapped to an interval of their own.
        self._width = width
        scores = self._mapped(np.sort(scores, axis=1), np.arange(len(owners))[:, None])
        self._flat = scores.ravel()

    def gains(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the discounted gain of each pair if its item had this score.

        Args:
            scores: float64 ``[p]``.
        """
        row = self._row
        wanted = np.maximum(self._mapped(scores, row), 4.0 * row - 0.99)  # above items that are not ranked
        end = (row + 1) * self._width
        above = end - np.searchsorted(self._flat, wanted, side="right")
        level = end - np.searchsorted(self._flat, wanted, side="left") - above
        # The item's own score is among them, unless it was not sampled.
        own = self._mapped(self._own, row)
        above = above - (own > wanted)
        level = level - (own == wanted)
        ranks = 1 + self._scale[row] * (above + 0.5 * np.maximum(level, 0))
        return discounted(ranks)

    def _mapped(self, scores: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Map scores of each row monotonically to ``4 row - 1 .. 4 row + 2``; equal scores to equal numbers."""
        low, spread = self._low[rows], self._range[rows]
        return np.asarray(4.0 * rows + np.clip((scores - low) / spread, -1, 2), np.float64)


class PositionsAmong:
    """Positions of some items among one another. Equal scores share their ranks.

    With many users and items, ranks are estimated from a sample of the items, the same for all factors.

    Args:
        users: float32 ``[n_users, k]``: user factors.
        views: The split. Training items of a user are not ranked.
        pairs: Validation pairs to rank.
        at: int64 ``[p]``: row of the item of each pair.
        rows: int64 ``[n]``: item row of each row.
    """

    def __init__(
        self,
        users: NDArray[np.float32],
        views: Views,
        pairs: PairList,
        at: NDArray[np.int64],
        rows: NDArray[np.int64],
    ) -> None:
        owners, self._row = np.unique(pairs.users, return_inverse=True)
        self._users, self._at = users[owners].astype(np.float64), at
        n = len(rows)
        most = max(64, _CELLS // 8 // max(len(self._row), 1))
        self._sample = np.sort(np.random.default_rng(n).permutation(n)[:most])
        column = np.full(views.n_items, -1, np.int64)
        column[rows[self._sample]] = np.arange(len(self._sample))
        place = np.full(n, -1, np.int64)
        place[self._sample] = np.arange(len(self._sample))
        position, item = views.seen_validating.rows(owners)
        known = column[item] >= 0
        hidden = np.zeros((len(owners), len(self._sample)), np.bool_)
        hidden[position[known], column[item[known]]] = True
        self._hidden = hidden
        own = place[at]
        self._own = np.flatnonzero(own >= 0), own[own >= 0]
        self._scale = (n - 1) / max(len(self._sample) - 1, 1)

    def gains(self, items: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the discounted gain of each pair.

        Args:
            items: float ``[n, k]``: factors of all items.
        """
        scores = self._users @ items[self._sample].T
        scores[self._hidden] = np.nan
        others = scores[self._row]
        others[self._own] = np.nan  # an item is not ranked among itself
        mine = np.einsum("pk,pk->p", self._users[self._row], items[self._at])[:, None]
        ranks = 1 + self._scale * ((others > mine).sum(axis=1) + 0.5 * (others == mine).sum(axis=1))
        return discounted(ranks)
