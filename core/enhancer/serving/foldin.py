"""A place for a user whom training never saw, from a few interactions: no retraining, whatever the backbone was.

The artifact itself shows how its model places users: each trained user is a pair of a history and a row. A ridge
regression learns that map once, in closed form::

    x(H) = [ sum_H v / sqrt(n),  sum_H v / n,  1 ]          W = argmin |X W - U|^2 + lambda |W|^2

where H is a history of n items and v are their rows. The first part is a LightGCN's sum over neighbours, the second
a mean; the constant carries what a model gives to everybody. Every trained user takes part twice: with the whole
history, and with a random short cut of it, so that the map also knows what little one or two interactions say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from enhancer.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RIDGE: Final = 1e-2
"""Of the mean of the diagonal. Recall@20 on MovieLens moves by at most 0.005 from a tenth of it to ten times it."""
_USERS: Final = 20_000
"""Users to learn from; they are spread evenly over the table. More make no difference that can be measured."""
_ITEMS: Final = 500
"""Items of a long history that take part."""
_CHUNK: Final = 500


class FoldIn:
    """The map from histories to rows of users, learned of an artifact's own users.

    Args:
        users: float32 ``[n, k]``.
        items: float32 ``[m, k]``.
        starts: int64 ``[n + 1]``: where each user's seen items begin.
        seen: int32: rows of seen items, user after user.
        ridge: The penalty, of the mean of the diagonal.

    Raises:
        ArtifactError: No user has a history.
    """

    def __init__(
        self,
        users: NDArray[np.float32],
        items: NDArray[np.float32],
        starts: NDArray[np.int64],
        seen: NDArray[np.int32],
        *,
        ridge: float = RIDGE,
    ) -> None:
        active = np.flatnonzero(np.diff(starts))
        if not len(active):
            raise ArtifactError(
                "the artifact cannot place new users: it says of nobody what they touched",
                hint="write it with train_users and train_items",
            )
        chosen = active[np.unique(np.linspace(0, len(active) - 1, min(len(active), _USERS)).astype(np.int64))]
        random = np.random.default_rng(0)
        width = 2 * items.shape[1] + 1
        gram, right = np.zeros((width, width)), np.zeros((width, users.shape[1]))
        for begin in range(0, len(chosen), _CHUNK):
            part = chosen[begin : begin + _CHUNK]
            whole = [_cut(seen[starts[user] : starts[user + 1]], _ITEMS, random) for user in part]
            # Lengths are spread evenly over orders of magnitude: from one item to nearly all.
            short = [_cut(one, max(int(len(one) ** random.random()), 1), random) for one in whole]
            target = users[part].astype(np.float64)
            for histories in (whole, short):
                x = _features(histories, items).astype(np.float64)
                gram += x.T @ x
                right += x.T @ target
        penalty = np.full(width, ridge * np.trace(gram) / width + 1e-12)
        penalty[-1] = 1e-9 * gram[-1, -1]  # the constant is free
        self._map: NDArray[np.float32] = np.linalg.solve(gram + np.diag(penalty), right).astype(np.float32)

    def __call__(self, histories: Sequence[NDArray[np.integer]], items: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows for users: none of the histories is empty.

        Args:
            histories: Rows of items, for each user.
            items: float32 ``[m, k]``: the item rows that they name.

        Returns:
            float32 ``[len(histories), k]``.
        """
        rows: NDArray[np.float32] = _features(histories, items) @ self._map
        return rows


def _features(histories: Sequence[NDArray[np.integer]], items: NDArray[np.float32]) -> NDArray[np.float32]:
    counts = np.array([len(one) for one in histories], dtype=np.float32)[:, None]
    sums = np.stack([items[one].sum(axis=0) for one in histories])
    return np.concatenate([sums / np.sqrt(counts), sums / counts, np.ones_like(counts)], axis=1)


def _cut(history: NDArray[np.int32], length: int, random: np.random.Generator) -> NDArray[np.int32]:
    return history if len(history) <= length else random.choice(history, length, replace=False)
