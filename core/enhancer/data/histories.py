"""Index the training interactions of each user, most recent first."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from enhancer.data.interactions import Interactions


class Touch(NamedTuple):
    """One interaction of a user."""

    item: int
    """Row number of the item."""
    rating: float | None
    timestamp: int | None


class Histories:
    """Training interactions by user, most recent first.

    Args:
        train: The training part of a split. Test interactions must not enter a prompt.

    >>> import numpy as np
    >>> from enhancer.data import Interactions
    >>> rows = lambda *n: np.array(n, np.int32)
    >>> train = Interactions(["u", "v"], ["a", "b", "c"], rows(0, 0, 1), rows(0, 1, 2), timestamps=np.array([9, 5, 7]))
    >>> [touch.item for touch in Histories(train).of(0, limit=10)]
    [0, 1]
    """

    def __init__(self, train: Interactions) -> None:
        self._train = train
        position = np.arange(len(train.users))
        if train.timestamps is None:
            order = np.lexsort((-position, train.users))
        else:
            order = np.lexsort((-position, -train.timestamps, train.users))
        self._order = order
        counts = np.bincount(train.users, minlength=len(train.user_ids))
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def of(self, user_row: int, limit: int | None) -> list[Touch]:
        """Return the latest interactions of a user, most recent first.

        They are ordered by time. Ties, and interactions without times, are ordered by position in the file.

        Args:
            user_row: Row number of the user.
            limit: Maximum number of interactions; None for all.
        """
        train = self._train
        start, end = int(self._starts[user_row]), int(self._starts[user_row + 1])
        latest = self._order[start : end if limit is None else min(end, start + limit)]
        items = train.items[latest].tolist()
        ratings = [None] * len(items) if train.ratings is None else train.ratings[latest].tolist()
        times = [None] * len(items) if train.timestamps is None else train.timestamps[latest].tolist()
        return [Touch(*values) for values in zip(items, ratings, times, strict=True)]
