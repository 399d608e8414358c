"""Retrofitting of trained embeddings to semantic neighbours.

Faruqui et al. 2015, "Retrofitting Word Vectors to Semantic Lexicons", NAACL.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads it
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from enhancer.contracts import Fuser, Fusion, Options
from enhancer_plugins.training.semantic_vectors import SemanticVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts import Placement, TrainingData
    from enhancer.contracts.record import Kind


class RetrofitOptions(Options):
    """``[fuser] use = "retrofit"``."""

    searched: ClassVar[Mapping[str, float]] = {"strength": 10.0}

    neighbours: int = Field(default=10, ge=1)
    """Items with the most similar vectors that an item is averaged with."""
    strength: float = Field(default=3.0, ge=0)
    """Weight of the neighbours, in training interactions of the item."""


class Retrofit(Fuser):
    """Average of each item's embedding with those of its semantic neighbours. Nothing is trained."""

    options_class = RetrofitOptions
    options: RetrofitOptions
    needs = frozenset({"served"})  # because the fusion overrides settle()

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return the fusion of one run."""
        del dim, seed, device
        return _Retrofitting(self.options, SemanticVectors(data))


class _Retrofitting(Fusion):
    def __init__(self, options: RetrofitOptions, semantics: SemanticVectors) -> None:
        self._strength, self._semantics = options.strength, semantics
        self._items = np.flatnonzero(semantics.known["item"])
        self._neighbours = self._items[nearest(semantics.vectors["item"][self._items], options.neighbours)]

    def settle(self, kind: Kind, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(n e + strength * mean of neighbours) / (n + strength)`` for items, one step of the method."""
        if kind == "user" or not self._neighbours.size:
            return embeddings
        share = self._strength / (self._semantics.counts["item"][self._items, None] + self._strength)
        settled = embeddings.copy()
        settled[self._items] += share * (embeddings[self._neighbours].mean(axis=1) - embeddings[self._items])
        return settled

    def left_out(self, kind: Kind, embeddings: NDArray[np.float32], rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Predict embeddings of users and items by the regression without them."""
        return self._semantics.left_out(kind, embeddings, rows)

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        """Place unseen users and items by ridge regression of trained embeddings on vectors."""
        return self._semantics.fitted_placement(kind, embeddings)


def nearest(vectors: NDArray[np.float32], k: int) -> NDArray[np.intp]:
    """Return the rows of the ``k`` nearest other vectors by cosine, ``[n, k]``; fewer columns if ``n <= k``."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = np.empty((len(unit), max(min(k, len(unit) - 1), 0)), np.intp)
    for rows in np.array_split(np.arange(len(unit)), len(unit) // 1024 + 1):
        cosines = unit[rows] @ unit.T
        cosines[np.arange(len(rows)), rows] = -np.inf
        found[rows] = np.argsort(-cosines, axis=1, kind="stable")[:, : found.shape[1]]
    return found
