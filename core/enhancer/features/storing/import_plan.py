"""Find out before an import what a remote embedder will be sent, and how long its vectors are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.contracts.embedder import RemoteEmbedder

if TYPE_CHECKING:
    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.store import FeatureStore


@dataclass(frozen=True)
class ImportPlan:
    """Texts that a remote embedder will be sent by an import: those whose vector is not paid for."""

    texts: int
    requests: int
    """Requests, each as full as it may be."""
    tokens: int
    """Estimated tokens."""
    cost_usd: float | None
    """Their estimated cost; None if the price is unknown."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that a plan of ``generate`` has, too."""
        return {
            "requests": 0,
            "embedding_texts": self.texts,
            "embedding_requests": self.requests,
            "embedding_tokens": self.tokens,
            "embedding_cost_usd": self.cost_usd,
            "cost_usd": self.cost_usd,
        }


class VectorLengths:
    """Tells which length the vectors of an embedder have. Asks no server for it, which may charge for that.

    Args:
        store: The store.
        embedder: The embedder.
    """

    def __init__(self, store: FeatureStore, embedder: Embedder) -> None:
        self._store = store
        self._embedder = embedder
        self._known: int | None = None

    def right(self, given: int) -> int:
        """Return the length of the vectors: the model says it, or else the store, or else the first vector.

        Args:
            given: Length of a vector that names the embedder.
        """
        if self._known is None:
            self._known = self._of_store(given) if isinstance(self._embedder, RemoteEmbedder) else self._embedder.dim
        return self._known

    def _of_store(self, given: int) -> int:
        stats = self._store.stats()
        if set(stats.embedders) == {self._embedder.fingerprint} and len(stats.dims) == 1:
            return next(iter(stats.dims))
        return given
