"""Reconstruction of the semantic vectors of masked nodes from their neighbours.

Ren et al. 2024, "Representation Learning with Large Language Models for Recommendation" (RLMRec), the generative
variant, https://arxiv.org/abs/2310.15950.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from enhancer.contracts import Fuser, Fusion
from enhancer_plugins.training.placing.options import RegressionOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from enhancer.contracts import Placement, TrainingData, TrainingStep
    from enhancer.contracts.fuser import Judge
    from enhancer.contracts.record import Kind


class GenerateOptions(RegressionOptions):
    """``[fuser] use = "generate"``."""

    weight: float = Field(default=1e-2, ge=0)
    """Weight of the reconstruction loss, added to the backbone's loss; the authors use 0.1 or 0.01."""
    mask: float = Field(default=0.1, gt=0, lt=1)
    """Share of the nodes that a step masks."""
    temperature: float = Field(default=0.2, gt=0)
    """Temperature of InfoNCE."""
    hidden: int | None = Field(default=None, ge=1)
    """Width of the hidden layer; by default half the sum of vector and embedding length."""
    nodes_per_step: int = Field(default=256, ge=2)
    """Maximum number of nodes that a step masks."""
    learning_rate: float = Field(default=3e-3, gt=0)
    """Step size of Adam for the MLP and the mask embedding."""
    unseen_length: float | None = Field(default=None, gt=0)
    """Length of placed rows, as a multiple of the mean length of trained rows. Longer rows recommend unseen entities
    more often. By default the length of the regression's prediction: the less the vectors explain, the shorter."""


class Generate(Fuser):
    """InfoNCE loss of an MLP that predicts the vectors of masked nodes from their propagated embeddings.

    Serving needs no vectors. The MLP maps embeddings to vectors, so unseen entities are placed by ridge regression.
    """

    options_class = GenerateOptions
    options: GenerateOptions
    needs = frozenset({"embeddings", "propagation", "loss"})

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return the fusion of one run."""
        return _Reconstruction(self.options, data, dim, seed, device)


class _Reconstruction(Fusion):
    def __init__(self, options: GenerateOptions, data: TrainingData, dim: int, seed: int, device: str) -> None:
        import torch

        from enhancer_plugins.training.mlp import Mlp
        from enhancer_plugins.training.run import generator
        from enhancer_plugins.training.semantics import Semantics

        self._options = options
        self.learning_rate = options.learning_rate
        self._semantics = Semantics(data, device, options)
        random = generator(seed, "generate")
        hidden = options.hidden or (self._semantics.dim + dim) // 2
        self._mlp = Mlp((dim, hidden, self._semantics.dim), random, device)
        self._token = (torch.randn(1, dim, generator=random) * 0.1).to(device)
        known = torch.cat([self._semantics.known["user"], self._semantics.known["item"]])
        self._candidates = known.nonzero().squeeze(1).cpu()
        self._targets = torch.cat([self._semantics.vectors["user"], self._semantics.vectors["item"]])
        self._masked: torch.Tensor | None = None
        self._random = generator(seed, "masked nodes")

    def parameters(self) -> Iterable[torch.Tensor]:
        return (*self._mlp.parameters(), self._token)

    def embeddings(
        self, users: torch.Tensor, items: torch.Tensor, *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        count = min(round(self._options.mask * len(self._candidates)), self._options.nodes_per_step)
        if not training or count < 2:
            self._masked = None
            return users, items
        drawn = torch.randperm(len(self._candidates), generator=self._random)[:count]
        self._masked = self._candidates[drawn].to(users.device)
        whole = torch.cat([users, items]).index_copy(0, self._masked, self._token.expand(count, -1))
        masked_users, masked_items = torch.split(whole, [len(users), len(items)])
        return masked_users, masked_items

    def loss(self, step: TrainingStep) -> torch.Tensor | None:
        import torch

        from enhancer_plugins.training.losses.bpr import info_nce

        if self._masked is None:
            return None
        whole = torch.cat([step.user_embeddings, step.item_embeddings])
        predicted = self._mlp(whole.index_select(0, self._masked))
        own = torch.arange(len(predicted), device=predicted.device)
        targets = self._targets.index_select(0, self._masked)
        return self._options.weight * info_nce(predicted, targets, own, temperature=self._options.temperature)

    def left_out(self, kind: Kind, embeddings: NDArray[np.float32], rows: NDArray[np.integer]) -> NDArray[np.float32]:
        return self._semantics.host.left_out(kind, embeddings, rows)

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        return self._semantics.host.fitted_placement(kind, embeddings, length=self._options.unseen_length)

    def weigh(
        self, kind: Kind, embeddings: NDArray[np.float32], folds: Sequence[NDArray[np.int64]], judge: Judge
    ) -> Placement | None:
        return self._semantics.host.weighed_placement(
            kind, embeddings, folds, judge, length=self._options.unseen_length
        )

    def trust(self, kind: Kind) -> NDArray[np.float32] | None:
        return self._semantics.host.trust(kind)

    def state(self) -> dict[str, torch.Tensor]:
        return {**self._mlp.state(), "token": self._token.detach(), "random": self._random.get_state()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self._mlp.load_state(state)
        self._token.data.copy_(state["token"])
        self._random.set_state(state["random"])
