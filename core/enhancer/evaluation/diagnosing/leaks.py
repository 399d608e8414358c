"""Detect user profiles or texts that were written from held-out interactions, by their vectors.

In a random split, a user's validation and test items come from the same distribution. A vector that was made from
training interactions alone is equally near to both; a vector that is nearer to one split has seen it.

A vector made from all interactions is equally near to both as well, and so is one made from none, such as from a
user's age. Two quantities distinguish them, both relative to the mean vector of the user's training items, which is
made from training interactions alone: how near a vector is to test items, and by how much nearer it is to training
items. In MiniLM's vectors of Last.fm, texts written from all interactions are 0.9 times as near to test items as that
mean, and no nearer to training items. For texts written without the test split the similarity falls off by a half, for
the mean by three fifths. On MovieLens-100k, age and occupation are 0.01 times as near as the mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.diagnosing.geometry import unit_rows
from enhancer.evaluation.judging.significance import paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.ranking import Pairs
    from enhancer.evaluation.measuring.views import Views

SIGNIFICANCE = 0.001
"""Significance level. It is strict because with thousands of users small differences are significant, and an alarm
stops the training."""
_MIN_NEARNESS = 0.5
"""Minimum similarity to test items of vectors made from interactions, relative to that of the training mean."""
_MIN_FALL_OFF = 0.5
"""Minimum fall-off from training to test items of vectors made from training alone, relative to that of the mean."""
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class LeakEvidence:
    """Mean cosine of users' vectors with their items of each split, over users with items in all of them."""

    users: int
    train: float
    validation: float
    test: float
    p: float | None
    """Two-sided p of the difference of validation and test, paired by user."""
    p_test: float | None = None
    """Two-sided p of the mean cosine with test items differing from 0."""
    pooled: LeakEvidence | None = None
    """The same for the means of users' training items; None if they were not given."""

    @property
    def seen_split(self) -> str | None:
        """The held-out split that the vectors have seen: one that is significantly nearer than the other.

        None if the means of training items are nearer to it as well: then tastes have changed between the splits.
        """
        return None if self.pooled is not None and self.pooled.seen_split == self._nearer else self._nearer

    @property
    def seen_all(self) -> bool:
        """Whether the vectors were made from all interactions: test items are about as near as training items."""
        if self.pooled is None or self.p_test is None or self.p_test >= SIGNIFICANCE or self.test <= 0:
            return False
        return self.test >= _MIN_NEARNESS * self.pooled.test and self.fall_off < _MIN_FALL_OFF * self.pooled.fall_off

    @property
    def leaks(self) -> bool:
        """Whether the vectors have seen held-out interactions."""
        return self.seen_split is not None or self.seen_all

    @property
    def fall_off(self) -> float:
        """Relative decrease of the cosine from training to test items; 0 if it does not decrease."""
        return max(0.0, 1 - self.test / self.train) if self.train > 0 else 0.0

    @property
    def _nearer(self) -> str | None:
        if self.p is None or self.p >= SIGNIFICANCE:
            return None
        return "validation" if self.validation > self.test else "test"

    @property
    def words(self) -> str:
        """The result in words."""
        splits = (("training", self.train), ("validation", self.validation), ("test", self.test))
        means = (
            f"their vectors have a mean cosine of {', '.join(f'{mean:.3f} to {name} items' for name, mean in splits)}"
        )
        if self.seen_split is not None:
            return f"{means} (p = {self.p:.1g}): they have seen the {self.seen_split} split"
        if self.seen_all:
            return f"{means}: as near to test items as to training items, like texts written from all interactions"
        if self._nearer is not None:
            why = "but so are the means of training items, so tastes have changed, which proves nothing"
            return f"{means}: nearer to the {self._nearer} split, {why}"
        odds = "" if self.p is None else f" (p = {self.p:.2g})"
        return f"{means}: neither held-out split is nearer{odds}, which proves nothing"


def leak_evidence(
    users: NDArray[np.float32], items: NDArray[np.float32], views: Views, pooled: NDArray[np.float32] | None = None
) -> LeakEvidence | None:
    """Compare users' vectors with the vectors of their training, validation and test items.

    Args:
        users: float32 ``[n_users, d]``, with rows of zeros for users without a vector.
        items: float32 ``[n_items, d]``, with rows of zeros for items without a vector.
        views: The split.
        pooled: Means of the vectors of users' training items, float32 ``[n_users, d]``.

    Returns:
        None if fewer than ten users have a vector and warm items in all three splits.
    """
    # Centred, to remove what all profiles have in common.
    directions = unit_rows(_centred(items))
    parts = (views.split.train, views.warm_validation, views.warm_test)
    sums = [_by_user(unit_rows(_centred(users)), directions, part) for part in parts]
    able = np.flatnonzero(users.any(axis=1) & np.logical_and.reduce([counts > 0 for _, counts in sums]))
    if len(able) < 10:
        return None
    train, validation, test = (total[able] / counts[able] for total, counts in sums)
    found = LeakEvidence(
        users=len(able),
        train=float(train.mean()),
        validation=float(validation.mean()),
        test=float(test.mean()),
        p=paired(validation, test).p,
        p_test=paired(test, np.zeros(len(able))).p,
    )
    if pooled is None:
        return found
    control = leak_evidence(np.where(users.any(axis=1, keepdims=True), pooled, np.float32(0)), items, views)
    return found if control is None else replace(found, pooled=control)


def _centred(table: NDArray[np.float32]) -> NDArray[np.float32]:
    has = table.any(axis=1)
    out = np.zeros_like(table)
    if has.any():
        out[has] = table[has] - table[has].mean(axis=0)
    return out


def _by_user(
    users: NDArray[np.float32], items: NDArray[np.float32], part: Pairs
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the sum of cosines and the number of items of each user, without items that have no vector."""
    keep = np.asarray(items.any(axis=1))[part.items]
    user_rows, item_rows = part.users[keep], part.items[keep]
    cosines = np.empty(len(user_rows))
    for start in range(0, len(user_rows), _CHUNK):
        rows = slice(start, start + _CHUNK)
        cosines[rows] = np.einsum("ij,ij->i", users[user_rows[rows]], items[item_rows[rows]])
    total: NDArray[np.float64] = np.bincount(user_rows, cosines, minlength=len(users))  # type: ignore[assignment]  # weighted
    return total, np.bincount(user_rows, minlength=len(users))
