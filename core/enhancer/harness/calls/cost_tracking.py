"""Compute and sum the cost of calls, for direct calls and batch jobs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from enhancer.harness.answers.thought import without_thought
from enhancer.harness.calls.thought_room import ThoughtRoom
from enhancer.harness.calls.token_estimate import upper_bound

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.contracts.llm import Completion, Price, Request
    from enhancer.harness.calls.budget import Budget

_DEFAULT_COMPLETION_TOKENS = 16_384
"""Completion tokens reserved for a request without a limit."""
_MAX_PLAUSIBLE_TOKENS = 10**9
"""Token counts from here on are considered invalid."""


@dataclass(slots=True)
class UsageTotals:
    """Tokens and cost of the calls of a run."""

    calls: int = 0
    failed: int = 0
    """Number of requests without an answer: refused, failed, or out of time."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    uncounted: int = 0
    """Number of calls whose tokens the provider did not report."""
    unknown_cost: int = 0
    """Number of calls whose cost is unknown."""
    unanswered_usd: float = 0.0
    """Largest cost of the calls without an answer that may have been charged nevertheless, if there is a limit."""

    @property
    def tokens(self) -> tuple[int, int] | tuple[None, None]:
        """Prompt and completion tokens of the calls with known counts; None if there were calls but no counts."""
        if self.calls and self.uncounted == self.calls:
            return None, None
        return self.prompt_tokens, self.completion_tokens


class CostTracker:
    """Computes the cost of answers and settles it with the budget.

    Args:
        budget: Budget that pays for the calls. Its price applies if the provider reports no cost.
        own_price: Configured price, which takes precedence over the cost reported by the provider.
        share: Share of the price that is charged; less than 1 for batch jobs.
        model: Model that both prices apply to.
        price_of: Returns the price of another model: a batch job may be collected after the model was changed.
        room: Room for thought, which learns from the answers; by default that of a model of which nothing is known.

    Attributes:
        usage: Tokens and cost of the answers so far.
        room: Room for thought.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        own_price: Price | None,
        share: float = 1.0,
        model: str = "",
        price_of: Callable[[str], Price | None] = lambda _: None,
        room: ThoughtRoom | None = None,
    ) -> None:
        self._budget = budget
        self._own_price = own_price
        self._share = share
        self._model = model
        self._price_of = price_of
        self.usage = UsageTotals()
        self.room = ThoughtRoom() if room is None else room

    def amount_to_reserve(self, request: Request) -> float:
        """Return the maximum cost of a request in USD, or 0 if there is no limit to reserve from."""
        return self.max_cost(request) if self._budget.capped else 0.0

    def max_cost(self, request: Request) -> float:
        """Return the maximum cost of a request in USD, with or without a limit; 0 without a price."""
        return self._share * self._budget.call_cost(
            upper_bound(request), request.max_tokens or _DEFAULT_COMPLETION_TOKENS
        )

    def priced(self, completion: Completion, model: str | None = None) -> tuple[Completion, float | None]:
        """Return the completion with plausible counts, those of thought among them, and its cost in USD.

        The cost is None if it is unknown.

        Args:
            completion: Completion of the provider.
            model: Model that answered, if it is not the model of this run.
        """
        completion = _with_thought(_without_implausible_counts(completion))
        own, listed = self._own_price, self._budget.price
        if model is not None and model != self._model:
            own, listed = None, self._price_of(model)
        if own is None and completion.cost_usd is not None:
            return completion, completion.cost_usd
        price = own or listed
        if price is None:
            return completion, None
        if completion.prompt_tokens is None or completion.completion_tokens is None:
            if completion.total_tokens is None:
                return completion, None
            tokens = max(completion.total_tokens, completion.prompt_tokens or completion.completion_tokens or 0)
            return completion, self._share * tokens * max(price.input, price.output) / 1e6
        cost = price.cost(completion.prompt_tokens, completion.completion_tokens, completion.cached_tokens or 0)
        return completion, self._share * cost

    def settle(self, completion: Completion, cost: float | None, *, reserved: float, max_cost: float) -> None:
        """Add an answered call to the totals and settle it with the budget.

        Args:
            completion: Completion returned by :meth:`priced`.
            cost: Cost returned by :meth:`priced`.
            reserved: Amount reserved for the call, which is released.
            max_cost: Maximum cost of the call. If the cost is unknown, the budget counts it, or the cost of the answer
                if that is larger.
        """
        usage = self.usage
        usage.calls += 1
        usage.uncounted += completion.prompt_tokens is None or completion.completion_tokens is None
        usage.prompt_tokens += completion.prompt_tokens or 0
        usage.completion_tokens += completion.completion_tokens or 0
        if cost is None:
            usage.unknown_cost += 1
        else:
            usage.cost_usd += cost
        self.room.saw(completion)
        if cost is None:
            # A provider that tells only the tokens of the answer may have charged for more than were allowed.
            known = self._share * self._budget.call_cost(0, completion.completion_tokens or 0)
            cost = max(max_cost, known)
        self._budget.settle(reserved, cost, bound=max_cost)


def _without_implausible_counts(completion: Completion) -> Completion:
    """Replace impossible token counts and costs by None. An unknown count is never 0."""
    prompt, answer, cost = completion.prompt_tokens, completion.completion_tokens, completion.cost_usd
    if prompt is not None and not 0 < prompt < _MAX_PLAUSIBLE_TOKENS:
        prompt = None
    if answer is not None and not (0 < answer < _MAX_PLAUSIBLE_TOKENS or (answer == 0 and not completion.text)):
        answer = None
    if cost is not None and not (math.isfinite(cost) and cost >= 0.0):
        cost = None
    cached = completion.cached_tokens
    if cached is not None and not (prompt is not None and 0 <= cached <= prompt):
        cached = None
    total = completion.total_tokens
    if total is not None and not 0 < total < _MAX_PLAUSIBLE_TOKENS:
        total = None
    told = completion
    if (prompt, answer, cost, cached, total) == (
        told.prompt_tokens,
        told.completion_tokens,
        told.cost_usd,
        told.cached_tokens,
        told.total_tokens,
    ):
        return told
    return replace(
        told, prompt_tokens=prompt, completion_tokens=answer, cost_usd=cost, cached_tokens=cached, total_tokens=total
    )


def _with_thought(completion: Completion) -> Completion:
    """Fill in the tokens of thought as far as the provider or the text tells them."""
    answer, thought, text = completion.completion_tokens, completion.reasoning_tokens, completion.text
    if answer is None or (thought is not None and 0 < thought <= answer):
        return completion if answer is not None else replace(completion, reasoning_tokens=None)
    if thought is None:
        thought = _thought_in(text, answer, cut_off=completion.finish_reason == "length")
    if thought is None:
        return completion
    return replace(completion, reasoning_tokens=min(max(thought, 0), answer))


def _thought_in(text: str, tokens: int, *, cut_off: bool) -> int | None:
    """Return the tokens of thought in the text of an answer, by its share of the characters; None without any."""
    if not text.strip():
        # Thought that the server keeps to itself, unless the answer is a run of blanks, which is shown.
        return tokens if cut_off and len(text) < tokens else None
    rest = without_thought(text)
    if rest is None:
        return tokens
    return None if len(rest) == len(text) else round(tokens * (1 - len(rest) / len(text)))
