"""The factorisation machine as a click model: log loss over labelled interactions, and no sampled negatives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from enhancer.contracts import TrainingStep
from enhancer.errors import DataError
from enhancer_plugins.backbones.factorisation.model import FMModel
from enhancer_plugins.backbones.factorisation.row_steps import Found
from enhancer_plugins.training.model import Gradients
from enhancer_plugins.training.sampler import occurrences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enhancer.contracts import TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.backbones.factorisation.row_steps import Drawn
    from enhancer_plugins.training.model import Recipe


class Labelled(NamedTuple):
    """A step's interactions: users and items int64 ``[b]``, labels float32 ``[b]``."""

    users: torch.Tensor
    items: torch.Tensor
    labels: torch.Tensor


class LabelledSampler:
    """Every labelled interaction once an epoch, in random order. An epoch depends on seed and number alone."""

    def __init__(self, data: TrainingData, seed: int) -> None:
        assert data.labels is not None
        order = np.lexsort((data.items, data.users))  # the order of the interactions does not matter
        self._users = data.users[order].astype(np.int64)
        self._items = data.items[order].astype(np.int64)
        self._labels = data.labels[order].astype(np.float32)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._users)

    def batches(self, number: int, size: int) -> Iterator[Labelled]:
        """The interactions of epoch ``number``, ``size`` at a time; the last batch holds what is left."""
        order = np.random.default_rng([self._seed & 0xFFFFFFFFFFFFFFFF, number]).permutation(len(self))
        for start in range(0, len(self), size):
            some = order[start : start + size]
            yield Labelled(*(torch.from_numpy(each[some]) for each in (self._users, self._items, self._labels)))


class ClickModel(FMModel):
    """One run by log loss (Rendle 2010, section 3.3): the sigmoid of a score is the probability of a good interaction.

    Here all terms of the model equation are trained, those of users as well, and the global one, which begins at the
    log-odds of the training labels.
    """

    linear_sides: tuple[Kind, ...] = ("user", "item")

    def _drawn(self, recipe: Recipe, data: TrainingData, seed: int) -> dict[str, torch.Tensor]:
        labels = data.labels
        if labels is None or not 0 < float(labels.mean()) < 1:
            raise DataError(
                "all training labels are the same: there is nothing to tell apart", hint="see [data.columns] label"
            )
        share = float(labels.mean(dtype=np.float64))
        self._labelled = LabelledSampler(data, seed)
        level = torch.full((1, 1), math.log(share / (1 - share)))
        return super()._drawn(recipe, data, seed) | {"level": level}

    def batches(self, epoch: int) -> Iterator[Labelled]:
        """Labelled interactions in random order."""
        for batch in self._labelled.batches(epoch, self.batch_size):
            yield Labelled(*(column.to(self.device) for column in batch))

    def gradients(self, batch: Labelled) -> Gradients:
        """Of log loss."""
        users, items, labels = batch
        scale = self.recipe.regularisation / len(users)
        decay = {}
        if scale:
            drawn = occurrences(users, self.data.n_users) * scale
            taken = occurrences(items, self.data.n_items) * scale
            decay = self.decay(drawn.to(torch.float32), taken.to(torch.float32))
        if self.row_steps is None:
            return self.differentiated(self.loss(batch), decay)
        level = float(self.parameters["level"].detach())
        loss, by = self.row_steps.gradients(
            users.numpy(), [items.numpy()], lambda drawn: log_loss(drawn, level, labels)
        )
        return Gradients(loss, by, decay)

    def loss(self, batch: Labelled) -> torch.Tensor:
        """The mean log loss of a step with the fuser's term, without the penalty; with gradient."""
        wide = self.wide()
        users, own = self.sums("user", wide)
        items, bias = self.sums("item", wide)
        at_users, at_items = batch.users, batch.items
        scores = (users.index_select(0, at_users) * items.index_select(0, at_items)).sum(1)
        scores = scores + own.index_select(0, at_users) + bias.index_select(0, at_items)
        scores = scores + self.parameters["level"].squeeze()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, batch.labels)
        if self.adds_loss:
            good = batch.labels > 0
            further = self.fusion.loss(TrainingStep(at_users, at_items[good], at_items[~good], users, items))
            loss = loss if further is None else loss + further
        return loss


def log_loss(drawn: Drawn, level: float, labels: torch.Tensor) -> Found:
    """The mean log loss of a step, and its gradients written out.

    Args:
        drawn: With levels on both sides.
        level: The global term.
        labels: float32 ``[b]``.
    """
    assert drawn.user_levels is not None
    at_users, at_items = torch.from_numpy(drawn.at_users), torch.from_numpy(drawn.at_items[0])
    users, items = drawn.users.index_select(0, at_users), drawn.items.index_select(0, at_items)
    scores = torch.linalg.vecdot(users, items).add_(level)
    scores += drawn.user_levels.index_select(0, at_users) + drawn.item_levels.index_select(0, at_items)
    slopes = (torch.sigmoid(scores) - labels) / len(labels)
    loss = float(torch.nn.functional.binary_cross_entropy_with_logits(scores, labels))
    column = slopes.unsqueeze(1)
    return Found(
        loss,
        torch.zeros_like(drawn.users).index_add_(0, at_users, column * items),
        torch.zeros_like(drawn.items).index_add_(0, at_items, column * users),
        torch.zeros_like(drawn.user_levels).index_add_(0, at_users, slopes),
        torch.zeros_like(drawn.item_levels).index_add_(0, at_items, slopes),
    )
