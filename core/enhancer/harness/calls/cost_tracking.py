"""What a run's calls cost: one place prices, adds up and settles them, for direct calls and for offline batches."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enhancer.harness.calls.token_estimate import upper_bound

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.contracts.llm import Completion, Price, Request
    from enhancer.harness.calls.budget import Budget

_UNBOUNDED = 16_384
"""Completion tokens that are set aside where a request sets no limit."""
_NO_COUNT = 10**9
"""Tokens that no call has."""


@dataclass(slots=True)
class UsageTotals:
    """What this run's calls came to."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    uncounted: int = 0
    """Calls whose tokens the provider did not tell."""
    unknown_cost: int = 0
    """Calls whose cost is not known."""

    @property
    def tokens(self) -> tuple[int, int] | tuple[None, None]:
        """Prompt and completion tokens of the calls that tell; unknown where there were calls and none tells."""
        if self.calls and self.uncounted == self.calls:
            return None, None
        return self.prompt_tokens, self.completion_tokens


class CostTracker:
    """Prices what comes back and settles it with the budget.

    Args:
        budget: From which calls are paid; its price counts where the provider does not tell a cost.
        own_price: A price that counts for more than what the provider tells.
        share: The part of the price that is charged; less than 1 in an offline batch.
        model: The one that both prices are of.
        price_of: Knows the prices of others: an offline batch may be collected when another model is configured.

    Attributes:
        spent: What came back so far.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        own_price: Price | None,
        share: float = 1.0,
        model: str = "",
        price_of: Callable[[str], Price | None] = lambda _: None,
    ) -> None:
        self._budget = budget
        self._own_price = own_price
        self._share = share
        self._model = model
        self._price_of = price_of
        self.usage = UsageTotals()

    def ceiling(self, request: Request) -> float:
        """The most that a request can cost; 0 where there is no cap, and so nothing to reserve."""
        return self.most(request) if self._budget.capped else 0.0

    def most(self, request: Request) -> float:
        """The most that a request can cost, cap or no cap; 0 without a price."""
        return self._share * self._budget.could_cost(upper_bound(request), request.max_tokens or _UNBOUNDED)

    def priced(self, completion: Completion, model: str | None = None) -> tuple[Completion, float | None]:
        """What can be believed of a completion, and its cost; None where that is not known.

        Args:
            completion: As the provider gave it.
            model: Who was asked, if not the model that this run asks.
        """
        completion = _believed(completion)
        own, listed = self._own_price, self._budget.price
        if model is not None and model != self._model:
            own, listed = None, self._price_of(model)
        if own is None and completion.cost_usd is not None:
            return completion, completion.cost_usd
        price = own or listed
        if price is None or completion.prompt_tokens is None or completion.completion_tokens is None:
            return completion, None
        return completion, self._share * price.cost(completion.prompt_tokens, completion.completion_tokens)

    def settle(self, completion: Completion, cost: float | None, *, reserved: float, ceiling: float) -> None:
        """Count a call that was answered.

        Args:
            completion: As :meth:`priced` gave it.
            cost: Likewise.
            reserved: What the budget holds for the call, and gets back.
            ceiling: The most that it could cost: what the cap assumes where the cost is not known.
        """
        spent = self.usage
        spent.calls += 1
        spent.uncounted += completion.prompt_tokens is None or completion.completion_tokens is None
        spent.prompt_tokens += completion.prompt_tokens or 0
        spent.completion_tokens += completion.completion_tokens or 0
        if cost is None:
            spent.unknown_cost += 1
        else:
            spent.cost_usd += cost
        self._budget.settle(reserved, ceiling if cost is None else cost)


def _believed(completion: Completion) -> Completion:
    """The completion, with what cannot be true of its tokens and cost left out: unknown is never 0."""
    prompt, answer, cost = completion.prompt_tokens, completion.completion_tokens, completion.cost_usd
    if prompt is not None and not 0 < prompt < _NO_COUNT:
        prompt = None
    if answer is not None and not (0 < answer < _NO_COUNT or (answer == 0 and not completion.text)):
        answer = None
    if cost is not None and not (math.isfinite(cost) and cost >= 0.0):
        cost = None
    if (prompt, answer, cost) == (completion.prompt_tokens, completion.completion_tokens, completion.cost_usd):
        return completion
    return replace(completion, prompt_tokens=prompt, completion_tokens=answer, cost_usd=cost)
