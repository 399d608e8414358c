"""Factorisation machine for click-through rates: log loss over labelled interactions, without sampled negatives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from enhancer.contracts import TrainingStep
from enhancer.errors import DataError
from enhancer_plugins.backbones.factorisation.model import FMModel
from enhancer_plugins.backbones.factorisation.row_steps import LossGradients
from enhancer_plugins.training.model import Gradients
from enhancer_plugins.training.sampler import occurrences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enhancer.contracts import TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.backbones.factorisation.row_steps import DrawnScores
    from enhancer_plugins.training.model import Recipe


class Labelled(NamedTuple):
    """Labelled interactions of a step: users and items int64 ``[b]``, labels float32 ``[b]``."""

    users: torch.Tensor
    items: torch.Tensor
    labels: torch.Tensor


class LabelledSampler:
    """Every labelled interaction once per epoch, in random order that depends on the seed and the epoch alone."""

    def __init__(self, data: TrainingData, seed: int) -> None:
        assert data.labels is not None
        order = np.lexsort((data.items, data.users))  # results do not depend on the order of the data
        self._users = data.users[order].astype(np.int64)
        self._items = data.items[order].astype(np.int64)
        self._labels = data.labels[order].astype(np.float32)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._users)

    def steps(self, number: int, size: int) -> Iterator[Labelled]:
        """Iterate over the interactions of epoch ``number``, ``size`` at a time; the last step may be smaller."""
        order = np.random.default_rng([self._seed & 0xFFFFFFFFFFFFFFFF, number]).permutation(len(self))
        for start in range(0, len(self), size):
            some = order[start : start + size]
            yield Labelled(*(torch.from_numpy(each[some]) for each in (self._users, self._items, self._labels)))


class ClickModel(FMModel):
    """One run with log loss (Rendle 2010, section 3.3): the sigmoid of a score is the probability of label 1.

    All terms of the model equation are trained, including those of users and the global one. The global term, parameter
    ``level``, starts at the log-odds of the training labels.
    """

    linear_sides: tuple[Kind, ...] = ("user", "item")

    def _initial_parameters(self, recipe: Recipe, data: TrainingData, seed: int) -> dict[str, torch.Tensor]:
        labels = data.labels
        if labels is None or not 0 < float(labels.mean()) < 1:
            raise DataError("all training labels are equal, but log loss needs both", hint="check [data.columns] label")
        share = float(labels.mean(dtype=np.float64))
        self._labelled = LabelledSampler(data, seed)
        constant = torch.full((1, 1), math.log(share / (1 - share)))
        return super()._initial_parameters(recipe, data, seed) | {"level": constant}

    def steps(self, epoch: int) -> Iterator[Labelled]:
        """Iterate over the labelled interactions of each step of an epoch, on the device of the run."""
        for examples in self._labelled.steps(epoch, self.step_size):
            yield Labelled(*(column.to(self.device) for column in examples))

    def gradients(self, examples: Labelled) -> Gradients:
        """Return log loss and its gradients."""
        users, items, labels = examples
        scale = self.recipe.regularisation / len(users)
        decay = {}
        if scale:
            drawn = occurrences(users, self.data.n_users) * scale
            taken = occurrences(items, self.data.n_items) * scale
            decay = self.decay(drawn.to(torch.float32), taken.to(torch.float32))
        if self.row_steps is None:
            return self.differentiated(self.loss(examples), decay)
        constant = float(self.parameters["level"].detach())
        loss, by = self.row_steps.gradients(
            users.numpy(), [items.numpy()], lambda drawn: log_loss(drawn, constant, labels)
        )
        return Gradients(loss, by, decay)

    def loss(self, examples: Labelled) -> torch.Tensor:
        """Return the mean log loss of a step plus the fuser's term, without the penalty; with gradient."""
        wide = self.wide_columns()
        users, own = self.sums("user", wide)
        items, bias = self.sums("item", wide)
        at_users, at_items = examples.users, examples.items
        scores = (users.index_select(0, at_users) * items.index_select(0, at_items)).sum(1)
        scores = scores + own.index_select(0, at_users) + bias.index_select(0, at_items)
        scores = scores + self.parameters["level"].squeeze()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, examples.labels)
        if self.adds_loss:
            positive = examples.labels > 0
            step = TrainingStep(at_users, at_items[positive], at_items[~positive], users, items)
            further = self.fusion.loss(step)
            loss = loss if further is None else loss + further
        return loss


def log_loss(drawn: DrawnScores, constant: float, labels: torch.Tensor) -> LossGradients:
    """Return the mean log loss of a step and its explicit gradients.

    Args:
        drawn: Sums and biases of both sides.
        constant: Global term.
        labels: float32 ``[b]``.
    """
    assert drawn.user_biases is not None
    at_users, at_items = torch.from_numpy(drawn.at_users), torch.from_numpy(drawn.at_items[0])
    users, items = drawn.users.index_select(0, at_users), drawn.items.index_select(0, at_items)
    scores = torch.linalg.vecdot(users, items).add_(constant)
    scores += drawn.user_biases.index_select(0, at_users) + drawn.item_biases.index_select(0, at_items)
    slopes = (torch.sigmoid(scores) - labels) / len(labels)
    loss = float(torch.nn.functional.binary_cross_entropy_with_logits(scores, labels))
    column = slopes.unsqueeze(1)
    return LossGradients(
        loss,
        torch.zeros_like(drawn.users).index_add_(0, at_users, column * items),
        torch.zeros_like(drawn.items).index_add_(0, at_items, column * users),
        torch.zeros_like(drawn.user_biases).index_add_(0, at_users, slopes),
        torch.zeros_like(drawn.item_biases).index_add_(0, at_items, slopes),
    )
