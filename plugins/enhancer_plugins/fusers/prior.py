"""Shrinkage of served embeddings towards a regression on their vectors, as a prior that interactions outweigh.

The idea is that of Agarwal & Chen 2009, "Regression-based Latent Factor Models" (KDD), whose factors have a regression
on features as their prior mean. Here there are two steps: the backbone is trained alone, and served embeddings become

    P(s) = W s + b                   ridge regression of trained embeddings on vectors, weights n / (n + max(k, 1))
    e'   = (n e + k P(s)) / (n + k)  for an entity with n training interactions

with ``P(s)`` rescaled to the mean length of trained embeddings. An entity without interactions is placed at ``P(s)``,
at the length of the regression or at ``unseen_length``.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from enhancer.contracts import Fuser, Fusion, Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts import Placement, TrainingData
    from enhancer.contracts.record import Kind


class PriorOptions(Options):
    """``[fuser] use = "prior"``."""

    searched: ClassVar[Mapping[str, float]] = {"items": 10.0, "ridge": 10.0}

    items: float = Field(default=3.0, ge=0)
    """Weight ``k`` of an item's vector, in interactions. With 0, the fuser only places unseen items."""
    users: float = Field(default=0.0, ge=0)
    """Weight ``k`` of a user's vector, in interactions."""
    ridge: float = Field(default=0.03, gt=0)
    """Penalty of the regression, as a multiple of the mean variance of a column of the vectors."""
    unseen_length: float | None = Field(default=None, gt=0)
    """Length of placed rows, as a multiple of the mean length of trained rows. Longer rows recommend unseen entities
    more often. By default the length of the regression's prediction: the less the vectors explain, the shorter."""


class Prior(Fuser):
    """Shrinkage of the embeddings of entities with few interactions towards a regression on their vectors.

    Nothing is trained, and serving needs no vectors.
    """

    options_class = PriorOptions
    options: PriorOptions
    needs = frozenset({"served"})

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return the fusion of one run."""
        del dim, seed, device
        return _Shrinkage(self.options, data)


class _Shrinkage(Fusion):
    def __init__(self, options: PriorOptions, data: TrainingData) -> None:
        from enhancer_plugins.training.semantic_vectors import SemanticVectors

        self._ridge, self._length = options.ridge, options.unseen_length
        self._semantics = SemanticVectors(data)
        self._k: dict[Kind, float] = {"user": options.users, "item": options.items}

    def settle(self, kind: Kind, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        k, counts = self._k[kind], self._semantics.counts[kind]
        if k == 0:
            return embeddings
        expected = self._fitted(kind, embeddings[counts > 0], length=1.0)(self._semantics.vectors[kind])
        share = (self._semantics.known[kind] * k / (counts + k)).astype(np.float32)
        expected -= embeddings
        expected *= share[:, None]
        expected += embeddings
        return expected

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        return self._fitted(kind, embeddings, length=self._length)

    def _fitted(self, kind: Kind, embeddings: NDArray[np.float32], *, length: float | None) -> Placement:
        strength = max(self._k[kind], 1.0)
        return self._semantics.fitted_placement(
            kind, embeddings, ridge=self._ridge, prior_strength=strength, length=length
        )
