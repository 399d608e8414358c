"""Do profiles of users show what is held out? What their vectors betray, where nothing proves what they were made from.

In a random split a user's validation and test items are drawn alike: nothing that was made from training interactions
alone can tell them apart. Profiles that are nearer to one part than to the other have seen it.

What was written from all parts is equally near to all, and so is what has seen none of them, such as a user's age. The
two differ in how near, and the mean of a user's training items is the yardstick: it is known from training alone, and
falls off from training to test items as what was written from training does. In MiniLM's vectors of Last.fm, texts that
were written from all interactions are .9 times as near to test items as the yardstick, and fall off by nothing; texts
that were written without the test part fall off by half, the yardstick by three fifths. On MovieLens-100k, age and
occupation are .01 times as near as the yardstick.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.diagnosing.geometry import unit
from enhancer.evaluation.judging.significance import paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.evaluation.measuring.ranking import Pairs
    from enhancer.evaluation.measuring.views import Views

LEVEL = 0.001
"""A difference is told from this p on: thousands of users make small ones plain, and an alarm stops the work."""
_NEAR = 0.5
"""What was written from interactions is this near to test items at least, as a share of the yardstick's nearness."""
_FALL = 0.5
"""What was written from training alone falls off by as much, as a share of the yardstick's fall."""
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
    p_test: float | None = None
    """That vectors are no nearer to their users' test items than to any others, two-sided."""
    pooled: Evidence | None = None
    """The same of the means of users' training items; None where they were not looked at."""

    @property
    def seen(self) -> str | None:
        """The part that the vectors have seen, if one is plainly nearer than the other.

        Where it is so to means of training items too, taste moved between the parts, and nothing is told.
        """
        return None if self.pooled is not None and self.pooled.seen == self._nearer else self._nearer

    @property
    def tells_all(self) -> bool:
        """Whether they say as much of test items as of training items, and far more than who a user is could tell."""
        if self.pooled is None or self.p_test is None or self.p_test >= LEVEL or self.test <= 0:
            return False
        return self.test >= _NEAR * self.pooled.test and self.fall < _FALL * self.pooled.fall

    @property
    def fall(self) -> float:
        """By how much less near test items are than training items, as a share; 0 where they are not."""
        return max(0.0, 1 - self.test / self.train) if self.train > 0 else 0.0

    @property
    def _nearer(self) -> str | None:
        if self.p is None or self.p >= LEVEL:
            return None
        return "validation" if self.validation > self.test else "test"

    @property
    def words(self) -> str:
        """For people."""
        parts = (("training", self.train), ("validation", self.validation), ("test", self.test))
        means = f"a mean cosine of {', '.join(f'{mean:.3f} to {name} items' for name, mean in parts)}"
        if self.tells_all and self.seen is None:
            odds = "as what was written from all interactions would"
            return f"their vectors have {means}: they say of the test part what they say of training, {odds}"
        if self._nearer is not None and self.seen is None:
            why = "but so are the means of training items: taste moved, which proves nothing"
            return f"their vectors have {means}: nearer to the {self._nearer} part, {why}"
        if self.seen is None:
            odds = "" if self.p is None else f", p = {self.p:.2g}"
            return f"their vectors have {means}: no part shows more than the other{odds}, which proves nothing"
        return f"their vectors have {means} (p = {self.p:.1g}): they have seen the {self.seen} part"


def evidence(
    users: NDArray[np.float32], items: NDArray[np.float32], views: Views, pooled: NDArray[np.float32] | None = None
) -> Evidence | None:
    """Compare how near users' vectors are to their validation and to their test items.

    Args:
        users: float32 ``[n_users, d]``, zero rows for users without a vector.
        items: float32 ``[n_items, d]``, likewise.
        views: The split.
        pooled: Means of the vectors of users' training items, ``[n_users, d]``: what can be known from training alone.

    Returns:
        None with fewer than ten users that have vectors and warm items in both parts.
    """
    # Centred: all profiles of users resemble all profiles of items in what every profile has in common.
    towards = unit(_centred(items))
    parts = (views.split.train, views.warm_validation, views.warm_test)
    sums = [_by_user(unit(_centred(users)), towards, part) for part in parts]
    able = np.flatnonzero(users.any(axis=1) & np.logical_and.reduce([counts > 0 for _, counts in sums]))
    if len(able) < 10:
        return None
    train, validation, test = (total[able] / counts[able] for total, counts in sums)
    found = Evidence(
        users=len(able),
        train=float(train.mean()),
        validation=float(validation.mean()),
        test=float(test.mean()),
        p=paired(validation, test).p,
        p_test=paired(test, np.zeros(len(able))).p,
    )
    if pooled is None:
        return found
    control = evidence(np.where(users.any(axis=1, keepdims=True), pooled, np.float32(0)), items, views)
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
    """Sum of cosines and number of pairs, by user; items without a vector do not count."""
    keep = np.asarray(items.any(axis=1))[part.items]
    who, what = part.users[keep], part.items[keep]
    cosines = np.empty(len(who))
    for start in range(0, len(who), _CHUNK):
        rows = slice(start, start + _CHUNK)
        cosines[rows] = np.einsum("ij,ij->i", users[who[rows]], items[what[rows]])
    total: NDArray[np.float64] = np.bincount(who, cosines, minlength=len(users))  # type: ignore[assignment]  # weighted
    return total, np.bincount(who, minlength=len(users))
