"""Estimate what a remote embedder will be sent, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.contracts.embedder import RemoteEmbedder
from enhancer.errors import PluginError
from enhancer.harness.calls.cache_key import text_hash
from enhancer.harness.calls.token_estimate import estimate_tokens, token_ratio
from enhancer.harness.embedding.connections import check_price, embedding_price
from enhancer.harness.journal.paid_vectors import TEMPLATE, vector_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enhancer.config.schema import EmbedderConfig
    from enhancer.contracts.embedder import Embedder
    from enhancer.harness.journal.journal import Journal

_EMBEDDED_SHARE = 0.75
"""Tokens of profile and tags for each token of the JSON that they are written as."""


class EmbeddingEstimate:
    """Sums texts to embed. Those whose vector is in the journal cost nothing.

    Args:
        embedder: The embedder.
        config: ``[embedder]``; None for the defaults.
        journal: Paid vectors, and earlier calls that correct the estimate; None if there is no journal.
    """

    def __init__(self, embedder: RemoteEmbedder, config: EmbedderConfig | None, journal: Journal | None) -> None:
        self._vectors = None if journal is None else journal.vectors
        self._fingerprint = embedder.fingerprint
        self._most = embedder.max_texts
        self.price = embedder.price() if config is None else embedding_price(embedder, config)
        """USD per million tokens; None if unknown."""
        self._ratio = 1.0 if journal is None else token_ratio(journal.observed_usage(embedder.model, TEMPLATE))
        self._texts = 0
        self._tokens = 0.0

    def add(self, texts: Iterable[str]) -> None:
        """Add texts that are known, as many as fit into memory."""
        by_key = {vector_key(self._fingerprint, text_hash(text)): text for text in texts}
        paid = {} if self._vectors is None or not by_key else self._vectors.get(list(by_key))
        for key, text in by_key.items():
            if key not in paid:
                self._texts += 1
                self._tokens += estimate_tokens(text)

    def add_notes(self, notes: int, completion_tokens: float) -> None:
        """Add notes that an LLM has yet to write.

        Args:
            notes: Their number.
            completion_tokens: Expected tokens of the answers that hold them.
        """
        self._texts += notes
        self._tokens += _EMBEDDED_SHARE * completion_tokens

    @property
    def texts(self) -> int:
        """Number of texts."""
        return self._texts

    @property
    def requests(self) -> int:
        """Number of requests, each as full as it may be."""
        return -(-self._texts // self._most)

    @property
    def tokens(self) -> int:
        """Estimated tokens."""
        return round(self._tokens * self._ratio)

    @property
    def cost_usd(self) -> float | None:
        """Estimated cost in USD; None if the price is unknown."""
        if not self._texts:
            return 0.0
        return None if self.price is None else self.price * self.tokens / 1e6


def embedding_estimate(
    make: Callable[[], Embedder], config: EmbedderConfig, max_cost: float | None, journal: Journal | None
) -> EmbeddingEstimate | None:
    """Return what sums the texts for a remote embedder; None without one, or if its library is not installed.

    Raises:
        ConfigError: There is a limit on the cost, and the price is unknown.
    """
    try:
        embedder = make()
    except PluginError:
        return None
    if not isinstance(embedder, RemoteEmbedder):
        return None
    check_price(embedder, config, max_cost)
    return EmbeddingEstimate(embedder, config, journal)
