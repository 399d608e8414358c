"""Factorisation machine for click-through rates: log loss over labelled interactions, without sampled negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from enhancer.contracts import TrainingStep
from enhancer.errors import DataError
from enhancer_plugins.backbones.factorisation.additive_fit import AdditiveFit, log_odds
from enhancer_plugins.backbones.factorisation.model import FMModel
from enhancer_plugins.backbones.factorisation.row_steps import LossGradients
from enhancer_plugins.training.interactions import interaction_counts
from enhancer_plugins.training.model import Gradients
from enhancer_plugins.training.sampler import occurrences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.backbones.factorisation.row_steps import DrawnScores
    from enhancer_plugins.training.model import Recipe

_PRIOR_STRENGTHS = (10.0, 3.0, 30.0)
"""Prior strengths of the smoothed rates that are validated beside the additive fit."""


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

    All terms of the model equation are trained, including those of users and the global one, parameter ``level``.
    Training starts from the terms without interactions as :class:`.additive_fit.AdditiveFit` fits them: those of the
    ids, of the side features, and the global one. Their penalty is the prior of that fit, so that interactions are
    learned on top of them; all other parameters have the penalty of the recipe.
    """

    linear_sides: tuple[Kind, ...] = ("user", "item")

    def _initial_parameters(self, recipe: Recipe, data: TrainingData, seed: int) -> dict[str, torch.Tensor]:
        labels = data.labels
        if labels is None or not 0 < float(labels.mean()) < 1:
            raise DataError("all training labels are equal, but log loss needs both", hint="check [data.columns] label")
        self._labelled = LabelledSampler(data, seed)
        fit = AdditiveFit(data)
        initial = super()._initial_parameters(recipe, data, seed) | {"level": torch.full((1, 1), fit.level)}
        self._priors: dict[str, torch.Tensor] = {}
        counts = interaction_counts(data)
        for kind, side in fit.sides.items():
            weights = torch.from_numpy(counts[kind].astype(np.float32))
            initial[f"{kind}_bias"] = _column(side.bias)
            self._priors[f"{kind}_bias"] = side.bias_precision / weights.clamp(min=1)
            if kind in self.sparse:
                initial[f"{kind}_side_linear"] = _column(side.linear)
                weights = self.sparse[kind].draws(weights)
                self._priors[f"{kind}_side_linear"] = side.linear_precision / weights.clamp(min=1)
        return initial

    def starts(self) -> Iterator[Mapping[str, torch.Tensor]]:
        """Yield the models without interactions: the additive fit, and smoothed rates of users and items."""
        none = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        linear = {name: p.detach().clone() for name, p in self.parameters.items() if name in (*self._priors, "level")}
        yield {f"model.{name}": p for name, p in {**none, **linear}.items()}
        labels = self.data.labels
        assert labels is not None
        level = log_odds(float(labels.mean(dtype=np.float64)))
        for strength in _PRIOR_STRENGTHS:
            rates = {"level": torch.full((1, 1), level)}
            for kind, rows, n in (
                ("user", self.data.users, self.data.n_users),
                ("item", self.data.items, self.data.n_items),
            ):
                rates[f"{kind}_bias"] = _column(smoothed_log_odds(rows, labels, n, strength) - level)
            yield {f"model.{name}": p for name, p in {**none, **rates}.items()}

    def steps(self, epoch: int) -> Iterator[Labelled]:
        """Iterate over the labelled interactions of each step of an epoch, on the device of the run."""
        for examples in self._labelled.steps(epoch, self.step_size):
            yield Labelled(*(column.to(self.device) for column in examples))

    def gradients(self, examples: Labelled) -> Gradients:
        """Return log loss and its gradients."""
        users, items, labels = examples
        drawn = occurrences(users, self.data.n_users) / len(users), occurrences(items, self.data.n_items) / len(items)
        decay = self.decay(*(counts.to(torch.float32) for counts in drawn))
        if self.row_steps is None:
            return self.differentiated(self.loss(examples), decay)
        constant = float(self.parameters["level"].detach())
        loss, by = self.row_steps.gradients(
            users.numpy(), [items.numpy()], lambda drawn: log_loss(drawn, constant, labels)
        )
        return Gradients(loss, by, decay)

    def decay(self, users: torch.Tensor, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the penalty of a step: by the priors of the additive fit, and by the recipe for other parameters.

        Args:
            users: float32 ``[n_users]``: share of the step's interactions that each user has.
            items: float32 ``[n_items]``: share of the step's interactions that each item has.
        """
        shares = super().decay(users, items)
        return {
            name: share * self._priors[name].to(share) if name in self._priors else share * self.recipe.regularisation
            for name, share in shares.items()
        }

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


def smoothed_log_odds(
    rows: NDArray[np.int32], labels: NDArray[np.float32], n: int, strength: float
) -> NDArray[np.float64]:
    """Return the log-odds of each entity's share of positive labels, float64 ``[n]``.

    Args:
        rows: int32 ``[m]``: entity of each interaction.
        labels: float32 ``[m]``: 1 for a positive interaction, else 0; both must occur.
        n: Number of entities.
        strength: Number of interactions with the overall share of positive labels that are added to each entity's.
    """
    overall = float(labels.mean(dtype=np.float64))
    share = (np.bincount(rows, labels, n) + strength * overall) / (np.bincount(rows, minlength=n) + strength)
    return np.asarray(np.log(share) - np.log1p(-share), np.float64)


def _column(values: NDArray[np.float64]) -> torch.Tensor:
    """Return a float32 tensor ``[n, 1]``."""
    return torch.from_numpy(values.astype(np.float32)).unsqueeze(1)


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
