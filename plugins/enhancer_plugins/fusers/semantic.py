"""Embeddings computed from the semantic vectors alone, without ids.

Sheng et al. 2025, "Language Representations Can be What Recommenders Need: Findings and Potentials" (AlphaRec),
https://arxiv.org/abs/2407.05441.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from enhancer.contracts import Fuser, Fusion, Options, Placement

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData, TrainingStep
    from enhancer.contracts.record import Kind


class SemanticOptions(Options):
    """``[fuser] use = "semantic"``."""

    temperature: float = Field(default=0.15, gt=0)
    """Temperature of the softmax over cosines."""
    negatives: int = Field(default=256, ge=1)
    """Items drawn per step as negatives of all its positives."""
    hidden: int | None = Field(default=None, ge=1)
    """Width of the hidden layer; by default ``ds // 2 + 1`` for vectors of length ``ds``."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of Adam for the MLP."""
    unseen_length: float = Field(default=1.0, gt=0)
    """Length of placed rows; trained rows have length 1. Longer rows recommend unseen entities more often."""


class Semantic(Fuser):
    """An MLP of the vectors in place of embeddings, propagated and trained by a sampled softmax over cosines.

    Serving needs no vectors. The MLP also places unseen entities.
    """

    options_class = SemanticOptions
    options: SemanticOptions
    needs = frozenset({"embeddings", "ranking"})

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return the fusion of one run."""
        return _Projection(self.options, data, dim, seed, device)


class _Projection(Fusion):
    similarity = "cosine"

    def __init__(self, options: SemanticOptions, data: TrainingData, dim: int, seed: int, device: str) -> None:
        from enhancer_plugins.training.losses.softmax import SampledSoftmax
        from enhancer_plugins.training.mlp import Mlp
        from enhancer_plugins.training.run import generator
        from enhancer_plugins.training.semantics import Semantics

        self.learning_rate, self._length = options.learning_rate, options.unseen_length
        self._semantics = Semantics(data, device)
        ds = self._semantics.dim
        self._mlp = Mlp((ds, options.hidden or ds // 2 + 1, dim), generator(seed, "semantic"), device)
        self._has_vector: dict[Kind, torch.Tensor] = {
            kind: (rows != 0).any(1, keepdim=True).to(rows.dtype) for kind, rows in self._semantics.vectors.items()
        }
        self._loss = SampledSoftmax(
            data, negatives=options.negatives, temperature=options.temperature, cosine=True, seed=seed, device=device
        )

    def parameters(self) -> Iterable[torch.Tensor]:
        return self._mlp.parameters()

    def embeddings(
        self, users: torch.Tensor, items: torch.Tensor, *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        del users, items, training
        # An entity without a vector starts from zero; propagation adds its neighbours.
        made = {kind: self._mlp(rows) * self._has_vector[kind] for kind, rows in self._semantics.vectors.items()}
        return made["user"], made["item"]

    def ranking_loss(self, step: TrainingStep) -> torch.Tensor:
        return self._loss(step.user_embeddings, step.item_embeddings, step.users, step.positives)

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        del kind, embeddings
        return Placement(self._semantics.of_raw(self._mlp.layers()), norm=self._length)

    def state(self) -> dict[str, torch.Tensor]:
        return {**self._mlp.state(), "random": self._loss.random.get_state()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self._mlp.load_state(state)
        self._loss.random.set_state(state["random"])
