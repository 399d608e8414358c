"""A regression on vectors as the prior mean of embeddings, which interactions outweigh.

The model is that of Agarwal & Chen 2009, "Regression-based Latent Factor Models" (KDD), eq. 1-3: an embedding is normal
around a regression on its vector. A backbone that solves for embeddings, given those of the other side, does so under
this prior: it penalises ``s |e - P(s)|²`` in place of ``|e|²``, with

    P(s)                 regression of current embeddings on vectors, weights n / (n + max(k, 1))
    s    = 1 / (1 - R²)  R²: variance that leave-one-out predictions of embeddings without a prior explain

so that vectors without meaning change next to nothing. Any other backbone is trained alone, and its served embeddings
become

    e' = (n e + k P(s)) / (n + k)  for an entity with n training interactions

with ``P(s)`` rescaled to the mean length of trained embeddings. ``P(s)`` of a trained entity is its leave-one-out
prediction: the prior of an embedding must not depend on that embedding. An entity without interactions is placed at
``P(s)``, scaled by what is best on validation, or at ``unseen_length``.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from enhancer.contracts import Expectation, Fuser, Fusion
from enhancer_plugins.training.placing.options import RegressionOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts import Placement, TrainingData
    from enhancer.contracts.fuser import Judge
    from enhancer.contracts.record import Kind


_MOST_EXPLAINED = 0.9
"""Bound of the explained variance, so that a prior is never more than ten times as strong as the plain penalty."""


class PriorOptions(RegressionOptions):
    """``[fuser] use = "prior"``."""

    searched: ClassVar[Mapping[str, float]] = {"items": 10.0, "strength": 3.0}

    items: float = Field(default=3.0, ge=0)
    """Weight ``k`` of an item's vector, in interactions. With 0, the fuser only places unseen items."""
    users: float = Field(default=0.0, ge=0)
    """Weight ``k`` of a user's vector, in interactions. With 0, the fuser only places unseen users."""
    strength: float = Field(default=1.0, gt=0)
    """Factor of ``s``, for a backbone that solves under the prior (als)."""
    unseen_length: float | None = Field(default=None, gt=0)
    """Length of placed rows, as a multiple of the mean length of trained rows. Longer rows recommend unseen entities
    more often. By default the length of the regression's prediction, scaled by what is best on validation."""

    def in_effect(self, name: str) -> Any:
        """Return the value of an option; None for the strength of a prior that nothing has."""
        if name == "strength" and self.items == 0 and self.users == 0:
            return None
        return super().in_effect(name)


class Prior(Fuser):
    """A regression on vectors as the prior mean of embeddings.

    Nothing is trained by gradients, and serving needs no vectors.
    """

    options_class = PriorOptions
    options: PriorOptions
    needs = frozenset({"served"})

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return the fusion of one run."""
        del dim, seed, device
        return _Regression(self.options, data)


class _Regression(Fusion):
    def __init__(self, options: PriorOptions, data: TrainingData) -> None:
        from enhancer_plugins.training.semantic_vectors import SemanticVectors

        self._options = options
        self._semantics = SemanticVectors(data, options)
        self._k: dict[Kind, float] = {"user": options.users, "item": options.items}
        self._strengths: dict[Kind, float] = {}

    def settle(self, kind: Kind, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        k, counts = self._k[kind], self._semantics.counts[kind]
        known = np.flatnonzero(self._semantics.known[kind])
        if k == 0 or not len(known):
            return embeddings
        trained = embeddings[counts > 0]
        expected = self.left_out(kind, trained, known)
        length = np.linalg.norm(trained, axis=1).mean(dtype=np.float64)
        expected *= np.float32(length) / np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), np.float32(1e-12))
        settled = embeddings.copy()
        expected -= settled[known]
        expected *= (k / (counts[known] + k)).astype(np.float32)[:, None]
        settled[known] += expected
        return settled

    def expect(self, kind: Kind, embeddings: NDArray[np.float32]) -> Expectation | None:
        known = np.flatnonzero(self._semantics.known[kind])
        if self._k[kind] == 0 or not len(known):
            return None
        n = len(self._semantics.counts[kind])
        mean, strength = np.zeros((n, embeddings.shape[1]), np.float32), np.ones(n, np.float32)
        mean[known] = self.left_out(kind, embeddings, known)
        if kind not in self._strengths:
            # Later embeddings are drawn to their predictions: leave-one-out would find these ever better.
            regression = self._semantics.regression(kind, self._weight(kind))
            regression.keep_penalty()
            explained = regression.chosen.explained
            self._strengths[kind] = self._options.strength / (1 - min(max(explained, 0.0), _MOST_EXPLAINED))
        strength[known] = self._strengths[kind]
        return Expectation(mean, strength)

    def left_out(self, kind: Kind, embeddings: NDArray[np.float32], rows: NDArray[np.integer]) -> NDArray[np.float32]:
        return self._semantics.left_out(kind, embeddings, rows, prior_strength=self._weight(kind))

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        return self._semantics.fitted_placement(
            kind, embeddings, prior_strength=self._weight(kind), length=self._options.unseen_length
        )

    def weigh(
        self, kind: Kind, embeddings: NDArray[np.float32], folds: Sequence[NDArray[np.int64]], judge: Judge
    ) -> Placement | None:
        return self._semantics.weighed_placement(
            kind,
            embeddings,
            folds,
            judge,
            prior_strength=self._weight(kind),
            length=self._options.unseen_length,
        )

    def trust(self, kind: Kind) -> NDArray[np.float32] | None:
        return self._semantics.trust(kind, prior_strength=self._weight(kind))

    def _weight(self, kind: Kind) -> float:
        return max(self._k[kind], 1.0)
