"""Rank through an approximate-nearest-neighbour index instead of the whole item matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.serving.index_file import open_index
from enhancer.serving.results import Recommendation
from enhancer.serving.rows import check_k

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enhancer.serving.ranker import Ranker


class ApproximateRanker:
    """Recommends through an index: faster than :class:`Ranker` over millions of items, and not quite exact.

    The index only selects candidate items. Their scores are exact inner products, and items added to the ranker after
    the index was built are always candidates.

    Args:
        ranker: Exact ranker of the same artifact.
        path: File that :meth:`Ranker.export_index` wrote, with ``metric="ip"``.

    Raises:
        ArtifactError: The index is missing, damaged, of another artifact or of another metric.
        ConfigError: The library of the index is not installed.
    """

    def __init__(self, ranker: Ranker, path: str | Path) -> None:
        self.ranker = ranker
        self._index = open_index(
            path, artifact_sha256=ranker.manifest["tensors"]["sha256"], artifact_folder=ranker.folder
        )

    def recommend(self, user_ids: Sequence[str], k: int = 10, *, exclude_seen: bool = True) -> list[Recommendation]:
        """Return what :meth:`Ranker.recommend` returns, restricted to the items that the index finds.

        Raises:
            DataError: An id is unknown, or ``k`` is below 1.
        """
        queries, seen = self.ranker.user_table(user_ids)
        ids, items = self.ranker.item_table()
        k = check_k(k, len(items))
        indexed = self._index.n_items
        # Ask for extra items to replace the excluded ones. Amounts are rounded up to powers of two and users with equal
        # amounts share a search, so that one long history does not widen the search of every user.
        wanted = [min(k + (len(rows) if exclude_seen else 0), indexed) for rows in seen]
        amounts = np.minimum([1 << max(n - 1, 0).bit_length() for n in wanted], indexed)
        # With places promised to new items, the index cannot know the best of them.
        shares = self.ranker.new_items
        is_new = shares.mask(len(items)) if shares.share.active else np.arange(len(items)) >= indexed
        new = np.flatnonzero(is_new)
        results: dict[int, Recommendation] = {}
        while len(results) < len(user_ids):
            amount = int(min(amounts[user] for user in range(len(user_ids)) if user not in results))
            users = np.array([user for user in np.flatnonzero(amounts == amount).tolist() if user not in results])
            for user, found in zip(users.tolist(), self._index.search(queries[users], amount), strict=True):
                candidates = np.union1d(found[found >= 0], new)
                if exclude_seen:
                    candidates = np.setdiff1d(candidates, seen[user], assume_unique=True)
                if shares.share.active and amount < indexed and np.count_nonzero(~is_new[candidates]) < k:
                    amounts[user] = min(4 * amount, indexed)  # new items took the places of trained ones
                    continue
                best, scores = shares.top_k(
                    [user_ids[user]], queries[user, None], items[candidates], k, candidates=candidates
                )
                scored = [
                    (ids[int(candidates[place])], score)
                    for place, score in zip(best[0].tolist(), scores[0].tolist(), strict=True)
                    if place >= 0
                ]
                results[user] = Recommendation(user_ids[user], scored)
        return [results[user] for user in range(len(user_ids))]

    def recall(self, user_ids: Sequence[str], k: int = 10) -> float:
        """Return the mean share of the exact top ``k`` that the index finds; 1.0 if there is nothing to find."""
        pairs = zip(self.recommend(user_ids, k), self.ranker.recommend(user_ids, k), strict=True)
        shares = [
            len({item for item, _ in near.items} & {item for item, _ in exact.items}) / len(exact.items)
            for near, exact in pairs
            if exact.items
        ]
        return float(np.mean(shares)) if shares else 1.0
