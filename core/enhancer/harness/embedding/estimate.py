"""Estimate what a remote embedder will be sent, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.contracts.embedder import RemoteEmbedder
from enhancer.errors import PluginError
from enhancer.harness.calls.cache_key import text_hash
from enhancer.harness.calls.token_estimate import estimate_tokens, token_ratio
from enhancer.harness.embedding.connections import check_price, embedding_batches, embedding_price
from enhancer.harness.journal.paid_vectors import TEMPLATE, vector_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enhancer.config.schema import EmbedderConfig, LLMConfig
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
        batch_share: Share of the price that is charged in batch jobs; None for direct requests.
    """

    def __init__(
        self,
        embedder: RemoteEmbedder,
        config: EmbedderConfig | None,
        journal: Journal | None,
        *,
        batch_share: float | None = None,
    ) -> None:
        self._journal = journal
        self._fingerprint = embedder.fingerprint
        self._most = embedder.max_texts if batch_share is None else 1
        price = embedder.price() if config is None else embedding_price(embedder, config)
        self.price = price if price is None or batch_share is None else price * batch_share
        """USD per million tokens; None if unknown."""
        self._ratio = 1.0 if journal is None else token_ratio(journal.observed_usage(embedder.model, TEMPLATE))
        self._texts = 0
        self._tokens = 0.0

    def add(self, texts: Iterable[str]) -> set[str]:
        """Add texts that are known, as many as fit into memory; return those that are in open batch jobs."""
        by_key = {vector_key(self._fingerprint, text_hash(text)): text for text in texts}
        if self._journal is not None and by_key:
            for key in self._journal.vectors.get(list(by_key)):
                del by_key[key]
        in_jobs: set[str] = set()
        if self._journal is not None and by_key:
            names = self._journal.batch_jobs.outstanding([key.hex() for key in by_key])
            in_jobs = {by_key.pop(bytes.fromhex(name)) for name in names}
        self._texts += len(by_key)
        self._tokens += sum(map(estimate_tokens, by_key.values()))
        return in_jobs

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
    make: Callable[[], Embedder],
    config: EmbedderConfig,
    llm: LLMConfig,
    journal: Journal | None,
    *,
    batch: bool = False,
) -> EmbeddingEstimate | None:
    """Return what sums the texts for a remote embedder; None without one, or if its library is not installed.

    Args:
        make: Returns the embedder.
        config: ``[embedder]``.
        llm: ``[llm]``, for its limit on the cost and the discount of batch jobs.
        journal: Paid vectors; None if there is no journal.
        batch: Whether ``--batch`` is given.

    Raises:
        ConfigError: There is a limit on the cost, and the price is unknown; or ``[embedder] batch`` cannot be kept.
    """
    try:
        embedder = make()
    except PluginError:
        return None
    if not isinstance(embedder, RemoteEmbedder):
        return None
    check_price(embedder, config, llm.max_cost)
    by_job = embedding_batches(embedder, config) is not None and batch
    return EmbeddingEstimate(embedder, config, journal, batch_share=1.0 - llm.batch_discount if by_job else None)
