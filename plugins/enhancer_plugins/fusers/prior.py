"""A prior: vectors say where an embedding is to be expected, and interactions overrule them as they grow.

In the spirit of Agarwal & Chen 2009, "Regression-based Latent Factor Models" (KDD), whose factors have a regression on
features for their prior mean, here in two steps: training is that of the backbone alone, and when it is served,

    P(s) = W s + b                   ridge regression of trained embeddings on vectors, weights n / (n + max(k, 1))
    e'   = (n e + k P(s)) / (n + k)  for a node with n training interactions

with ``P(s)`` at the mean length of trained embeddings. A node with many interactions stays where it is; one without any
is where the regression says, at the length that it says (``unseen_length``).
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
    """What an item's vector is worth, in interactions (``k``); at 0 it places unseen items and does no more."""
    users: float = Field(default=0.0, ge=0)
    """What a user's vector is worth."""
    ridge: float = Field(default=0.03, gt=0)
    """Penalty of the regression, in parts of the mean variance of a column of the vectors."""
    unseen_length: float | None = Field(default=None, gt=0)
    """Length of what is placed, in mean lengths of trained rows: the longer, the more is shown of what is new, at the
    cost of the rest. By default as the regression makes it, which is about as visible as it deserves to be."""


class Prior(Fuser):
    """Draws the embeddings of nodes with few interactions towards what their vectors let expect.

    Training is that of the backbone alone, and serving carries nothing extra.
    """

    options_class = PriorOptions
    options: PriorOptions
    needs = frozenset({"served"})

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Begin a run."""
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
