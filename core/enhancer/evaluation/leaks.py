"""Do profiles of users show what is held out? What their vectors betray, where nothing proves what they were made from.

In a random split a user's validation and test items are drawn alike: nothing that was made from training interactions
alone can tell them apart. Profiles that are nearer to one part than to the other have seen it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.geometry import unit
from enhancer.evaluation.significance import paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.evaluation.ranking import Pairs
    from enhancer.evaluation.split import Views

LEVEL = 0.001
"""A difference is told from this p on: thousands of users make small ones plain, and an alarm stops the work."""
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Evidence:
    """How near users' vectors are to the items of each part; means of cosines, over users with both held-out parts."""

    users: int
    train: float
    validation: float
    test: float
    p: float | None
    """That validation and test differ, two-sided, paired by user."""

    @property
    def seen(self) -> str | None:
        """The part that the vectors have seen, if one is plainly nearer than the other."""
        if self.p is None or self.p >= LEVEL:
            return None
        return "validation" if self.validation > self.test else "test"

    @property
    def words(self) -> str:
        """For people."""
        parts = (("training", self.train), ("validation", self.validation), ("test", self.test))
        means = f"a mean cosine of {', '.join(f'{mean:.3f} to {name} items' for name, mean in parts)}"
        if self.seen is None:
            odds = "" if self.p is None else f", p = {self.p:.2g}"
            return f"their vectors have {means}: no part shows more than the other{odds}, which proves nothing"
        return f"their vectors have {means} (p = {self.p:.1g}): they have seen the {self.seen} part"


def evidence(users: NDArray[np.float32], items: NDArray[np.float32], views: Views) -> Evidence | None:
    """Compare how near users' vectors are to their validation and to their test items.

    Args:
        users: float32 ``[n_users, d]``, zero rows for users without a vector.
        items: float32 ``[n_items, d]``, likewise.
        views: The split.

    Returns:
        None with fewer than ten users that have vectors and warm items in both parts.
    """
    # Centred: all profiles of users resemble all profiles of items in what every profile has in common.
    directions = [unit(_centred(table)) for table in (users, items)]
    parts = (views.split.train, views.warm_validation, views.warm_test)
    sums = [_by_user(directions[0], directions[1], part) for part in parts]
    able = np.flatnonzero(users.any(axis=1) & np.logical_and.reduce([counts > 0 for _, counts in sums]))
    if len(able) < 10:
        return None
    train, validation, test = (total[able] / counts[able] for total, counts in sums)
    p = paired(validation, test).p
    return Evidence(
        users=len(able),
        train=float(train.mean()),
        validation=float(validation.mean()),
        test=float(test.mean()),
        p=None if p is None or math.isnan(p) else p,
    )


def _centred(table: NDArray[np.float32]) -> NDArray[np.float32]:
    has = table.any(axis=1)
    out = np.zeros_like(table)
    if has.any():
        out[has] = table[has] - table[has].mean(axis=0)
    return out


def _by_user(
    users: NDArray[np.float32], items: NDArray[np.float32], part: Pairs
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum of cosines and number of pairs, by user; items without a vector do not count."""
    keep = np.asarray(items.any(axis=1))[part.items]
    who, what = part.users[keep], part.items[keep]
    cosines = np.empty(len(who))
    for start in range(0, len(who), _CHUNK):
        rows = slice(start, start + _CHUNK)
        cosines[rows] = np.einsum("ij,ij->i", users[who[rows]], items[what[rows]])
    total: NDArray[np.float64] = np.bincount(who, cosines, minlength=len(users))  # type: ignore[assignment]  # weighted
    return total, np.bincount(who, minlength=len(users))
