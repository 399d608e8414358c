"""Compute and sum the cost of a remote embedder's answers, for direct requests and batch jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.harness.calls.cost_tracking import UsageTotals

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enhancer.contracts.embedder import Embeddings


def most_tokens(text: str) -> int:
    """Return the largest number of tokens that a text can have, with those around it: a token is at least one byte."""
    return len(text.encode("utf-8", "surrogatepass")) + 8


class EmbeddingCosts:
    """Costs of the answers of one embedder.

    Args:
        price: USD per million tokens; None if unknown.
        own_price: Whether the price is configured, so that it takes precedence over the cost that the server reports.
        share: Share of the price that is charged; less than 1 for batch jobs.

    Attributes:
        usage: Tokens and cost of the answers so far, and the number of requests without one.
    """

    def __init__(self, price: float | None, *, own_price: bool, share: float = 1.0) -> None:
        self._price = None if price is None else price * share
        self._own_price = own_price
        self.usage = UsageTotals()

    def most(self, texts: Iterable[str]) -> float:
        """Return the largest cost of texts in USD; 0 without a price."""
        if not self._price:
            return 0.0
        return self._price * sum(map(most_tokens, texts)) / 1e6

    def of(self, answer: Embeddings) -> float | None:
        """Return the cost of an answer in USD; None if it is unknown."""
        if self._price == 0:
            return 0.0
        if answer.cost_usd is not None and not self._own_price:
            return answer.cost_usd
        if self._price is None or answer.tokens is None:
            return None
        return self._price * answer.tokens / 1e6

    def count(self, answer: Embeddings, cost: float | None) -> None:
        """Add an answer to the totals."""
        usage = self.usage
        usage.calls += 1
        usage.uncounted += answer.tokens is None
        usage.prompt_tokens += answer.tokens or 0
        if cost is None:
            usage.unknown_cost += 1
        else:
            usage.cost_usd += cost
