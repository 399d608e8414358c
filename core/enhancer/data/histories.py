"""What each user did, most recent first: what a user's prompt may show."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from enhancer.data.interactions import Interactions


class Touch(NamedTuple):
    """One interaction of a user."""

    item: int
    """Row number."""
    rating: float | None
    timestamp: int | None


class Histories:
    """An index over training interactions, sorted once.

    Args:
        train: The training part of a split, and nothing else: what is tested must not be seen.

    >>> import numpy as np
    >>> from enhancer.data import Interactions
    >>> rows = lambda *n: np.array(n, np.int32)
    >>> train = Interactions(["u", "v"], ["a", "b", "c"], rows(0, 0, 1), rows(0, 1, 2), timestamps=np.array([9, 5, 7]))
    >>> [touch.item for touch in Histories(train).of(0, limit=10)]
    [0, 1]
    """

    def __init__(self, train: Interactions) -> None:
        self._train = train
        place = np.arange(len(train.users))
        if train.timestamps is None:
            order = np.lexsort((-place, train.users))
        else:
            order = np.lexsort((-place, -train.timestamps, train.users))
        self._order = order
        counts = np.bincount(train.users, minlength=len(train.user_ids))
        self._starts = np.concatenate([[0], np.cumsum(counts)])

    def of(self, user_row: int, limit: int) -> list[Touch]:
        """The user's interactions, most recent first: by time, else (and in ties) by place in the file."""
        train = self._train
        start, end = int(self._starts[user_row]), int(self._starts[user_row + 1])
        at = self._order[start : min(end, start + limit)]
        items = train.items[at].tolist()
        ratings = [None] * len(items) if train.ratings is None else train.ratings[at].tolist()
        times = [None] * len(items) if train.timestamps is None else train.timestamps[at].tolist()
        return [Touch(*values) for values in zip(items, ratings, times, strict=True)]
