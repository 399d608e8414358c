"""What an experiment needs to know of a split, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from enhancer.contracts.backbone import TrainingData
from enhancer.errors import EvaluationError
from enhancer.evaluation.measuring.label_metrics import Labelled
from enhancer.evaluation.measuring.metrics import PairList, only_items
from enhancer.evaluation.measuring.ranking import CSR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.features import Sides


_ORDER_SEED = 20_080


class Part(Protocol):
    """Interactions over a vocabulary; ``enhancer.data.Interactions`` is one."""

    @property
    def users(self) -> NDArray[np.int32]:
        """int32 ``[n]``: row numbers."""

    @property
    def items(self) -> NDArray[np.int32]:
        """int32 ``[n]``: row numbers."""

    @property
    def ratings(self) -> NDArray[np.float32] | None:
        """float32 ``[n]``, where there are any."""

    @property
    def user_ids(self) -> Sequence[str]:
        """Row number to id."""

    @property
    def item_ids(self) -> Sequence[str]:
        """Row number to id."""


def labels_of(part: Part) -> NDArray[np.float32] | None:
    """float32 ``[n]``: 1 for a good interaction, 0 for another, where a part tells them apart; else all are good."""
    labels: NDArray[np.float32] | None = getattr(part, "labels", None)
    return labels


def good(part: Part) -> PairList:
    """The good interactions of a part: those that a ranking shall find."""
    labels = labels_of(part)
    if labels is None:
        return PairList(part.users, part.items)
    return PairList(part.users[labels > 0], part.items[labels > 0])


class SplitLike(Protocol):
    """Three parts over one vocabulary; ``enhancer.data.Split`` is one."""

    @property
    def train(self) -> Part:
        """What models learn from."""

    @property
    def validation(self) -> Part:
        """What early stopping watches; may be empty."""

    @property
    def test(self) -> Part:
        """What is measured: warm interactions and all interactions of held-out items."""

    @property
    def cold_items(self) -> NDArray[np.int32]:
        """int32: rows of items held out of training altogether, ascending."""

    @property
    def cold_users(self) -> NDArray[np.int32]:
        """int32: likewise for users."""


@dataclass(frozen=True)
class Views:
    """A split as the panels of an experiment see it. Everything is computed once and shared by all arms."""

    split: SplitLike

    @property
    def n_users(self) -> int:
        """User rows."""
        return len(self.split.train.user_ids)

    @property
    def n_items(self) -> int:
        """Item rows."""
        return len(self.split.train.item_ids)

    @cached_property
    def popularity(self) -> NDArray[np.int64]:
        """int64 ``[n_items]``: training interactions of each item."""
        return np.bincount(self.split.train.items, minlength=self.n_items)

    @cached_property
    def history(self) -> NDArray[np.int64]:
        """int64 ``[n_users]``: training interactions of each user."""
        return np.bincount(self.split.train.users, minlength=self.n_users)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """All item rows in a fixed random order, which decides ties.

        File order often follows popularity (it does in MovieLens-100k): with ties in file order, a model that knows
        nothing of cold items and scores them all equal would look better than it is.
        """
        return np.random.default_rng(_ORDER_SEED).permutation(self.n_items)

    @cached_property
    def warm_items(self) -> NDArray[np.int64]:
        """Items with training interactions, in the order that decides ties."""
        return self.order[self.popularity[self.order] > 0]

    @cached_property
    def cold_items(self) -> NDArray[np.int64]:
        """Items held out of training, in the order that decides ties."""
        return self.order[np.isin(self.order, self.split.cold_items)]

    @cached_property
    def warm_validation(self) -> PairList:
        """Validation pairs of users and items that training has seen."""
        return self._warm(self.split.validation)

    @cached_property
    def warm_test(self) -> PairList:
        """Test pairs of users and items that training has seen."""
        return self._warm(self.split.test)

    @cached_property
    def good_train(self) -> PairList:
        """The good interactions of training."""
        return good(self.split.train)

    @cached_property
    def labelled_validation(self) -> Labelled:
        """Validation pairs, good and bad, of users and items that training has seen."""
        return self._labelled(self.split.validation, self.popularity > 0, self.history > 0)

    @cached_property
    def labelled_test(self) -> Labelled:
        """Likewise of the test part."""
        return self._labelled(self.split.test, self.popularity > 0, self.history > 0)

    @cached_property
    def labelled_cold(self) -> Labelled:
        """Test pairs, good and bad, of warm users and held-out items."""
        cold = np.zeros(self.n_items, np.bool_)
        cold[self.split.cold_items] = True
        return self._labelled(self.split.test, cold, self.history > 0)

    @cached_property
    def labelled_cold_users(self) -> Labelled:
        """Test pairs, good and bad, of held-out users and warm items."""
        cold = np.zeros(self.n_users, np.bool_)
        cold[self.split.cold_users] = True
        return self._labelled(self.split.test, self.popularity > 0, cold)

    @cached_property
    def seen_validating(self) -> CSR:
        """What is masked when validating: training."""
        return CSR.of((self.split.train,), self.n_users)

    @cached_property
    def seen_testing(self) -> CSR:
        """What is masked when testing: training and validation."""
        return CSR.of((self.split.train, self.split.validation), self.n_users)

    @cached_property
    def cold_test(self) -> PairList:
        """Test pairs of warm users and held-out items."""
        part = only_items(good(self.split.test), self.cold_items, self.n_items)
        keep = self.history[part.users] > 0
        return PairList(part.users[keep], part.items[keep])

    @cached_property
    def mixed_test(self) -> PairList:
        """Warm test pairs, and of those of held-out items as large a share as the warm are of all that warm items have.

        A held-out item has all of its interactions in the test part, another one in five: taken together as they are,
        a model would look the better the more it recommends what is new.
        """
        warm, cold = self.warm_test, self.cold_test
        some = self._as_large_a_share(len(cold.users))
        return PairList(np.concatenate([warm.users, cold.users[some]]), np.concatenate([warm.items, cold.items[some]]))

    @cached_property
    def labelled_mixed(self) -> Labelled:
        """Likewise of test pairs, good and bad."""
        warm, cold = self.labelled_test, self.labelled_cold
        some = self._as_large_a_share(len(cold.users))
        return Labelled(
            np.concatenate([warm.users, cold.users[some]]),
            np.concatenate([warm.items, cold.items[some]]),
            np.concatenate([warm.labels, cold.labels[some]]),
        )

    def _as_large_a_share(self, n: int) -> NDArray[np.bool_]:
        """Which of ``n`` pairs are drawn: as large a share as the warm test pairs are of all that warm items have."""
        warm = len(self.warm_test.users)
        known = len(self.good_train.users) + len(self.warm_validation.users) + warm
        some: NDArray[np.bool_] = np.random.default_rng(_ORDER_SEED).random(n) < warm / max(known, 1)
        return some

    @cached_property
    def cold_user_test(self) -> PairList:
        """Test pairs of held-out users and warm items."""
        part = only_items(good(self.split.test), self.warm_items, self.n_items)
        keep = np.isin(part.users, self.split.cold_users)
        return PairList(part.users[keep], part.items[keep])

    @property
    def unreachable(self) -> int:
        """Test pairs whose item has no training interaction and is no cold one: counted, never scored."""
        cold = np.isin(self.split.test.items, self.split.cold_items)
        return int(np.count_nonzero((self.popularity[self.split.test.items] == 0) & ~cold))

    @property
    def strangers(self) -> int:
        """Test pairs of users without a training interaction, though they were not held out: counted, never scored."""
        cold = np.isin(self.split.test.users, self.split.cold_users)
        return int(np.count_nonzero((self.history[self.split.test.users] == 0) & ~cold))

    def _warm(self, part: Part) -> PairList:
        found = good(part)
        keep = (self.popularity[found.items] > 0) & (self.history[found.users] > 0)
        return PairList(found.users[keep], found.items[keep])

    def _labelled(self, part: Part, items: NDArray[np.bool_], users: NDArray[np.bool_]) -> Labelled:
        labels = labels_of(part)
        if labels is None:
            return Labelled(part.users[:0], part.items[:0], np.empty(0, np.float32))
        keep = items[part.items] & users[part.users]
        return Labelled(part.users[keep], part.items[keep], labels[keep])


def training_data(
    split: SplitLike,
    user_vectors: NDArray[np.float32] | None = None,
    item_vectors: NDArray[np.float32] | None = None,
    *,
    sides: Sides | None = None,
    labelled: bool = False,
) -> TrainingData:
    """What a backbone learns from.

    Args:
        split: Its training part.
        user_vectors: float32 ``[n_users, ds]``; None for none.
        item_vectors: float32 ``[n_items, ds]``, likewise.
        sides: Side features; None for none.
        labelled: Whether to give all interactions with their labels, where they have any, rather than the good ones.

    Raises:
        EvaluationError: There is nothing to learn from, or a table of vectors has not one row an entity.
    """
    train = split.train
    if not len(train.users):
        raise EvaluationError("the training part of the split is empty", hint="check [data] interactions and the split")
    for side, table, ids in (("user", user_vectors, train.user_ids), ("item", item_vectors, train.item_ids)):
        if table is not None and len(table) != len(ids):
            raise EvaluationError(f"{len(table)} {side} vectors for {len(ids)} {side}s")
    labels = labels_of(train)
    pairs, ratings = PairList(train.users, train.items), train.ratings
    if labels is not None and not labelled:
        pairs, ratings = good(train), None if ratings is None else ratings[labels > 0]
        if not len(pairs.users):
            raise EvaluationError("no training interaction is a good one", hint="see [data.columns] label")
    return TrainingData(
        n_users=len(train.user_ids),
        n_items=len(train.item_ids),
        users=pairs.users,
        items=pairs.items,
        ratings=ratings,
        user_vectors=user_vectors,
        item_vectors=item_vectors,
        user_features=None if sides is None else sides.users,
        item_features=None if sides is None else sides.items,
        labels=labels if labelled else None,
    )
