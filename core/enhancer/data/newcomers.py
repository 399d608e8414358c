"""Items and users that only the test part of a split knows: as in life, where every week brings new ones.

Nobody drew them. A file of test interactions names items that the training file lacks; after one moment for all there
are items and users that were not there before. New items are a split's cold items, where they are enough to say
something of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.data.interactions import Interactions

ENOUGH_ITEMS = 20
"""Among fewer, half of a list of ten is right by chance."""
ENOUGH_USERS = 50
"""A mean over fewer users of training says more of them than of the items."""
_TOLD_FROM = 0.01
"""Share of the test part that people are told of unasked: a random split leaves some rare items without training."""


@dataclass(frozen=True, eq=False)
class Newcomers:
    """What of a test part is of items or users that training never met."""

    items: NDArray[np.int32]
    """int32, ascending: rows of items that training and validation hold nothing of."""
    item_pairs: int
    """Test pairs with them."""
    audience: int
    """Users of training who take to one of them in the test part."""
    only_validated: int
    """Test pairs with items that validation holds something of, and training nothing."""
    user_pairs: int
    """Test pairs of users that training holds nothing of."""
    test: int
    """All test pairs."""

    @property
    def enough(self) -> bool:
        """Whether the items are enough to measure anything by."""
        return len(self.items) >= ENOUGH_ITEMS and self.audience >= ENOUGH_USERS

    def lines(self, *, drawn: bool) -> list[str]:
        """What becomes of them, a sentence each; what is hardly any of the test part is not worth one.

        Args:
            drawn: Cold items were drawn, and so these are not the cold ones.
        """
        of = f"of {self.test:,} test interactions"
        there = f"{self.item_pairs:,} {of} are with {len(self.items):,} items that occur in the test part alone"
        unscored = "and are not scored"
        if not drawn and self.enough:
            fate = "these are the cold items of this split"
        elif drawn:
            fate = f"{unscored}: the cold items are those that [evaluation] cold_items draws"
        else:
            wanted = f"{ENOUGH_ITEMS} such items and {ENOUGH_USERS} users of training with one"
            fate = f"{unscored}: a cold panel takes {wanted}, and here are {self.audience:,} such users"
        told = [
            (self.item_pairs, f"{there}{':' if fate.startswith('these') else ''} {fate}"),
            (self.only_validated, f"{self.only_validated:,} {of} are not scored: only validation knows their items"),
            (self.user_pairs, f"{self.user_pairs:,} {of} are not scored: their users have no training interaction"),
        ]
        return [words for count, words in told if count and count >= _TOLD_FROM * self.test]


def newcomers(
    train: Interactions,
    validation: Interactions,
    test: Interactions,
    cold_items: NDArray[np.int32],
    cold_users: NDArray[np.int32],
) -> Newcomers:
    """Find them.

    Args:
        train: The parts of a split, over one vocabulary.
        validation: Likewise.
        test: Likewise.
        cold_items: Rows of items that were drawn to be held out: no newcomers.
        cold_users: Likewise of users.
    """
    n_items, n_users = len(test.item_ids), len(test.user_ids)
    trained = _marked(train.items, n_items) | _marked(cold_items, n_items)
    new = ~trained & ~_marked(validation.items, n_items)
    known_users = _marked(train.users, n_users)
    of_new = new[test.items]
    takes = of_new & known_users[test.users]
    if test.labels is not None:
        takes &= test.labels > 0
    return Newcomers(
        items=np.unique(test.items[of_new]).astype(np.int32),
        item_pairs=int(np.count_nonzero(of_new)),
        audience=len(np.unique(test.users[takes])),
        only_validated=int(np.count_nonzero(~trained[test.items] & ~of_new)),
        user_pairs=int(np.count_nonzero(~(known_users | _marked(cold_users, n_users))[test.users])),
        test=len(test),
    )


def _marked(rows: NDArray[np.int32], n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, np.bool_)
    mask[rows] = True
    return mask
