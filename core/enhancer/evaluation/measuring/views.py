"""Derive everything an experiment reads from a split: relevant pairs, candidates, masks, and training data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from enhancer.contracts.backbone import TrainingData
from enhancer.errors import EvaluationError
from enhancer.evaluation.measuring.label_metrics import LabelledPairs
from enhancer.evaluation.measuring.metrics import PairList, restrict_to_items
from enhancer.evaluation.measuring.ranking import CSR, tie_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.features import Sides
    from enhancer.contracts.training import View

_SAMPLE_SEED = 20_080


class InteractionsLike(Protocol):
    """Interactions over a vocabulary, such as ``enhancer.data.Interactions``."""

    @property
    def users(self) -> NDArray[np.int32]:
        """int32 ``[n]``: user rows."""

    @property
    def items(self) -> NDArray[np.int32]:
        """int32 ``[n]``: item rows."""

    @property
    def ratings(self) -> NDArray[np.float32] | None:
        """float32 ``[n]``; None without ratings."""

    @property
    def user_ids(self) -> Sequence[str]:
        """User ids by row."""

    @property
    def item_ids(self) -> Sequence[str]:
        """Item ids by row."""


def labels_of(part: InteractionsLike) -> NDArray[np.float32] | None:
    """Return float32 ``[n]``: 1 for a positive interaction, 0 for a negative one; None if all are positive."""
    labels: NDArray[np.float32] | None = getattr(part, "labels", None)
    return labels


def timestamps_of(part: InteractionsLike) -> NDArray[np.int64] | None:
    """Return int64 ``[n]``: the time of each interaction; None without times."""
    timestamps: NDArray[np.int64] | None = getattr(part, "timestamps", None)
    return timestamps


def positive_pairs(part: InteractionsLike) -> PairList:
    """Return the positive interactions of a part, which are the relevant ones."""
    labels = labels_of(part)
    if labels is None:
        return PairList(part.users, part.items)
    return PairList(part.users[labels > 0], part.items[labels > 0])


class SplitLike(Protocol):
    """Train, validation and test part over one vocabulary, such as ``enhancer.data.Split``."""

    @property
    def train(self) -> InteractionsLike:
        """Interactions to train on."""

    @property
    def validation(self) -> InteractionsLike:
        """Interactions for early stopping and hyper-parameter search; may be empty."""

    @property
    def test(self) -> InteractionsLike:
        """Interactions to measure on: warm ones, and all interactions of held-out items."""

    @property
    def cold_items(self) -> NDArray[np.int32]:
        """int32: rows of items held out of training, ascending."""

    @property
    def cold_users(self) -> NDArray[np.int32]:
        """int32: rows of users held out of training, ascending."""


@dataclass(frozen=True)
class Views:
    """Pairs, candidates and masks derived from a split. Each is computed once and shared by all arms."""

    split: SplitLike

    @property
    def n_users(self) -> int:
        """Number of user rows."""
        return len(self.split.train.user_ids)

    @property
    def n_items(self) -> int:
        """Number of item rows."""
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
        """int64 ``[n_items]``: all item rows in the order that decides ties; see :func:`tie_order`."""
        return tie_order(self.n_items)

    @cached_property
    def warm_items(self) -> NDArray[np.int64]:
        """Rows of items with training interactions, in the order that decides ties."""
        return self.order[self.popularity[self.order] > 0]

    @cached_property
    def cold_items(self) -> NDArray[np.int64]:
        """Rows of items held out of training, in the order that decides ties."""
        return self.order[np.isin(self.order, self.split.cold_items)]

    @cached_property
    def warm_validation(self) -> PairList:
        """Relevant validation pairs of users and items with training interactions."""
        return self._warm(self.split.validation)

    @cached_property
    def warm_test(self) -> PairList:
        """Relevant test pairs of users and items with training interactions."""
        return self._warm(self.split.test)

    @cached_property
    def positive_train(self) -> PairList:
        """Positive training interactions."""
        return positive_pairs(self.split.train)

    @cached_property
    def labelled_validation(self) -> LabelledPairs:
        """Labelled validation pairs of users and items with training interactions."""
        return self._labelled(self.split.validation, self.popularity > 0, self.history > 0)

    @cached_property
    def labelled_test(self) -> LabelledPairs:
        """Labelled test pairs of users and items with training interactions."""
        return self._labelled(self.split.test, self.popularity > 0, self.history > 0)

    @cached_property
    def labelled_cold(self) -> LabelledPairs:
        """Labelled test pairs of warm users and held-out items."""
        cold = np.zeros(self.n_items, np.bool_)
        cold[self.split.cold_items] = True
        return self._labelled(self.split.test, cold, self.history > 0)

    @cached_property
    def labelled_cold_users(self) -> LabelledPairs:
        """Labelled test pairs of held-out users and warm items."""
        cold = np.zeros(self.n_users, np.bool_)
        cold[self.split.cold_users] = True
        return self._labelled(self.split.test, self.popularity > 0, cold)

    @cached_property
    def seen_validating(self) -> CSR:
        """Items excluded from validation rankings: the training items of each user."""
        return CSR.of((self.split.train,), self.n_users)

    @cached_property
    def seen_testing(self) -> CSR:
        """Items excluded from test rankings: the training and validation items of each user."""
        return CSR.of((self.split.train, self.split.validation), self.n_users)

    @cached_property
    def cold_test(self) -> PairList:
        """Relevant test pairs of warm users and held-out items."""
        part = restrict_to_items(positive_pairs(self.split.test), self.cold_items, self.n_items)
        keep = self.history[part.users] > 0
        return PairList(part.users[keep], part.items[keep])

    @cached_property
    def mixed_test(self) -> PairList:
        """Warm test pairs, and a sample of the test pairs of held-out items.

        A held-out item has all of its interactions in the test part, a warm item only a share of them. Without
        sampling, a model would look better the more it recommends held-out items. The sampled share equals the share
        of warm items' interactions that are in the test part. The other pairs are in :attr:`seen_mixed`.
        """
        warm, cold = self.warm_test, self.cold_test
        sampled = self._sample_like_warm(len(cold.users))
        return PairList(
            np.concatenate([warm.users, cold.users[sampled]]), np.concatenate([warm.items, cold.items[sampled]])
        )

    @cached_property
    def seen_mixed(self) -> CSR:
        """Items excluded from rankings that :attr:`mixed_test` scores.

        These are the training and validation items of each user, and the held-out items of the pairs that were not
        sampled. The pairs of warm items outside the test part are excluded, so those of held-out items must be, too: a
        model would otherwise look worse the better it knows which held-out items a user likes.
        """
        cold = self.cold_test
        left = ~self._sample_like_warm(len(cold.users))
        parts = (self.split.train, self.split.validation, PairList(cold.users[left], cold.items[left]))
        return CSR.of(parts, self.n_users)

    @cached_property
    def labelled_mixed(self) -> LabelledPairs:
        """Labelled warm test pairs, and a sample of the labelled test pairs of held-out items."""
        warm, cold = self.labelled_test, self.labelled_cold
        sampled = self._sample_like_warm(len(cold.users))
        return LabelledPairs(
            np.concatenate([warm.users, cold.users[sampled]]),
            np.concatenate([warm.items, cold.items[sampled]]),
            np.concatenate([warm.labels, cold.labels[sampled]]),
        )

    def _sample_like_warm(self, n: int) -> NDArray[np.bool_]:
        """Return a mask ``[n]`` that samples the share of warm items' interactions that are in the test part."""
        test = len(self.warm_test.users)
        total = len(self.positive_train.users) + len(self.warm_validation.users) + test
        sampled: NDArray[np.bool_] = np.random.default_rng(_SAMPLE_SEED).random(n) < test / max(total, 1)
        return sampled

    @cached_property
    def cold_user_test(self) -> PairList:
        """Relevant test pairs of held-out users and warm items."""
        part = restrict_to_items(positive_pairs(self.split.test), self.warm_items, self.n_items)
        keep = np.isin(part.users, self.split.cold_users)
        return PairList(part.users[keep], part.items[keep])

    @property
    def unscored_item_pairs(self) -> int:
        """Number of unscored test pairs whose item has no training interaction and is not held out."""
        cold = np.isin(self.split.test.items, self.split.cold_items)
        return int(np.count_nonzero((self.popularity[self.split.test.items] == 0) & ~cold))

    @property
    def unscored_user_pairs(self) -> int:
        """Number of unscored test pairs whose user has no training interaction and is not held out."""
        cold = np.isin(self.split.test.users, self.split.cold_users)
        return int(np.count_nonzero((self.history[self.split.test.users] == 0) & ~cold))

    def _warm(self, part: InteractionsLike) -> PairList:
        pairs = positive_pairs(part)
        keep = (self.popularity[pairs.items] > 0) & (self.history[pairs.users] > 0)
        return PairList(pairs.users[keep], pairs.items[keep])

    def _labelled(self, part: InteractionsLike, items: NDArray[np.bool_], users: NDArray[np.bool_]) -> LabelledPairs:
        labels = labels_of(part)
        if labels is None:
            return LabelledPairs(part.users[:0], part.items[:0], np.empty(0, np.float32))
        keep = items[part.items] & users[part.users]
        return LabelledPairs(part.users[keep], part.items[keep], labels[keep])


def training_data(
    split: SplitLike,
    user_vectors: NDArray[np.float32] | None = None,
    item_vectors: NDArray[np.float32] | None = None,
    views: Sequence[View] = (),
    *,
    item_spread: NDArray[np.float32] | None = None,
    sides: Sides | None = None,
    labelled: bool = False,
) -> TrainingData:
    """Build the training data of a backbone.

    Args:
        split: A split, of which the training part is used.
        user_vectors: float32 ``[n_users, dim]``; None for none.
        item_vectors: float32 ``[n_items, dim]``; None for none.
        views: Columns of each input in both; by default all are one view.
        item_spread: float32 ``[n_items, n_views]``: variance of samples of notes; None without samples.
        sides: Side features of users and items; None for none.
        labelled: Whether to include negative interactions, with labels. By default only positive ones are included.

    Raises:
        EvaluationError: There are no interactions to train on, or the number of vectors is not that of the entities.
    """
    train = split.train
    if not len(train.users):
        raise EvaluationError("the training part of the split is empty", hint="check [data] interactions and the split")
    for side, vectors, ids in (("user", user_vectors, train.user_ids), ("item", item_vectors, train.item_ids)):
        if vectors is not None and len(vectors) != len(ids):
            raise EvaluationError(f"{len(vectors)} {side} vectors for {len(ids)} {side}s")
    labels = labels_of(train)
    pairs, ratings, timestamps = PairList(train.users, train.items), train.ratings, timestamps_of(train)
    if labels is not None and not labelled:
        pairs = positive_pairs(train)
        ratings = None if ratings is None else ratings[labels > 0]
        timestamps = None if timestamps is None else timestamps[labels > 0]
        if not len(pairs.users):
            raise EvaluationError("no training interaction is positive", hint="check [data.columns] label")
    return TrainingData(
        n_users=len(train.user_ids),
        n_items=len(train.item_ids),
        users=pairs.users,
        items=pairs.items,
        ratings=ratings,
        timestamps=timestamps,
        user_vectors=user_vectors,
        item_vectors=item_vectors,
        views=tuple(views),
        item_spread=item_spread,
        user_features=None if sides is None else sides.users,
        item_features=None if sides is None else sides.items,
        labels=labels if labelled else None,
    )
