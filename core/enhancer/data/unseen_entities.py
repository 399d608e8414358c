"""Find the items and users that occur only in the test part of a split.

They were not held out on purpose: a file of test interactions may name items that the training file lacks, and a cut at
one moment in time leaves items and users that appear later. If there are enough unseen items to measure anything, they
become the cold items of the split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.data.interactions import Interactions

MIN_ITEMS = 20
"""With fewer candidate items, half of a top-10 list is right by chance."""
MIN_USERS = 50
"""A mean over fewer training users describes those users rather than the items."""
_MIN_SHARE = 0.01
"""Share of the test part from which on a note is shown. A random split leaves some rare items without training."""


@dataclass(frozen=True, eq=False)
class UnseenEntities:
    """Items and users of a test part without training interactions."""

    items: NDArray[np.int32]
    """int32, ascending: rows of items without interactions in training and validation."""
    item_pairs: int
    """Number of test pairs with these items."""
    users_with_unseen_items: int
    """Number of training users with a positive test pair among these items."""
    validation_only_pairs: int
    """Number of test pairs with items that occur in validation but not in training."""
    user_pairs: int
    """Number of test pairs of users without training interactions."""
    test_pairs: int
    """Number of all test pairs."""

    @property
    def enough(self) -> bool:
        """Whether there are enough items and users to evaluate the items."""
        return len(self.items) >= MIN_ITEMS and self.users_with_unseen_items >= MIN_USERS

    def notes(self, *, drawn: bool) -> list[str]:
        """Describe in sentences how these pairs are evaluated; counts below 1% of the test part are left out.

        Args:
            drawn: Whether cold items were drawn, in which case the unseen items are not the cold items.
        """
        total = f"of {self.test_pairs:,} test interactions"
        found = f"{self.item_pairs:,} {total} are with {len(self.items):,} items that occur in the test part alone"
        if not drawn and self.enough:
            item_note = f"{found}: these are the cold items of this split"
        elif drawn:
            item_note = f"{found} and are not scored: the cold items are those drawn by [evaluation] cold_items"
        else:
            item_note = (
                f"{found} and are not scored: a cold panel needs {MIN_ITEMS} such items and {MIN_USERS} training users"
                f" with one; there are {self.users_with_unseen_items:,} such users"
            )
        validation_note = (
            f"{self.validation_only_pairs:,} {total} are not scored: their items occur in validation, not in training"
        )
        notes = [
            (self.item_pairs, item_note),
            (self.validation_only_pairs, validation_note),
            (self.user_pairs, f"{self.user_pairs:,} {total} are not scored: their users have no training interaction"),
        ]
        return [note for count, note in notes if count and count >= _MIN_SHARE * self.test_pairs]


def find_unseen_entities(
    train: Interactions,
    validation: Interactions,
    test: Interactions,
    cold_items: NDArray[np.int32],
    cold_users: NDArray[np.int32],
) -> UnseenEntities:
    """Find the items and users that occur only in the test part.

    Args:
        train: Training part of a split.
        validation: Validation part, over the same vocabulary.
        test: Test part, over the same vocabulary.
        cold_items: Rows of items that were drawn to be held out. They are not reported.
        cold_users: Rows of users that were drawn to be held out. They are not reported.
    """
    n_items, n_users = len(test.item_ids), len(test.user_ids)
    trained = _mask(train.items, n_items) | _mask(cold_items, n_items)
    unseen = ~trained & ~_mask(validation.items, n_items)
    known_users = _mask(train.users, n_users)
    with_unseen_item = unseen[test.items]
    positive = with_unseen_item & known_users[test.users]
    if test.labels is not None:
        positive &= test.labels > 0
    return UnseenEntities(
        items=np.unique(test.items[with_unseen_item]).astype(np.int32),
        item_pairs=int(np.count_nonzero(with_unseen_item)),
        users_with_unseen_items=len(np.unique(test.users[positive])),
        validation_only_pairs=int(np.count_nonzero(~trained[test.items] & ~with_unseen_item)),
        user_pairs=int(np.count_nonzero(~(known_users | _mask(cold_users, n_users))[test.users])),
        test_pairs=len(test),
    )


def _mask(rows: NDArray[np.int32], n: int) -> NDArray[np.bool_]:
    mask = np.zeros(n, np.bool_)
    mask[rows] = True
    return mask
