"""What an experiment needs to know of a split, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from enhancer.contracts.backbone import TrainingData
from enhancer.errors import EvaluationError
from enhancer.evaluation.metrics import PairList, only_items
from enhancer.evaluation.ranking import CSR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


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
        part = only_items(self.split.test, self.cold_items, self.n_items)
        keep = self.history[part.users] > 0
        return PairList(part.users[keep], part.items[keep])

    @cached_property
    def cold_user_test(self) -> PairList:
        """Test pairs of held-out users and warm items."""
        part = only_items(self.split.test, self.warm_items, self.n_items)
        keep = np.isin(part.users, self.split.cold_users)
        return PairList(part.users[keep], part.items[keep])

    @property
    def unreachable(self) -> int:
        """Test pairs whose item has no training interaction though it was not held out: counted, never scored."""
        cold = np.isin(self.split.test.items, self.split.cold_items)
        return int(np.count_nonzero((self.popularity[self.split.test.items] == 0) & ~cold))

    @property
    def strangers(self) -> int:
        """Test pairs of users without a training interaction, though they were not held out: counted, never scored."""
        cold = np.isin(self.split.test.users, self.split.cold_users)
        return int(np.count_nonzero((self.history[self.split.test.users] == 0) & ~cold))

    def _warm(self, part: Part) -> PairList:
        keep = (self.popularity[part.items] > 0) & (self.history[part.users] > 0)
        return PairList(part.users[keep], part.items[keep])


def training_data(
    split: SplitLike,
    user_vectors: NDArray[np.float32] | None = None,
    item_vectors: NDArray[np.float32] | None = None,
) -> TrainingData:
    """What a backbone learns from.

    Raises:
        EvaluationError: There is nothing to learn from, or a table of vectors has not one row an entity.
    """
    train = split.train
    if not len(train.users):
        raise EvaluationError("the training part of the split is empty", hint="check [data] interactions and the split")
    for side, table, ids in (("user", user_vectors, train.user_ids), ("item", item_vectors, train.item_ids)):
        if table is not None and len(table) != len(ids):
            raise EvaluationError(f"{len(table)} {side} vectors for {len(ids)} {side}s")
    return TrainingData(
        n_users=len(train.user_ids),
        n_items=len(train.item_ids),
        users=train.users,
        items=train.items,
        ratings=train.ratings,
        user_vectors=user_vectors,
        item_vectors=item_vectors,
    )
