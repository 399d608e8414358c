"""Make one call: rate limits, budget, deadline, retries and journal."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from enhancer.errors import ConnectionFailedError, DeadlineError, ProviderError, RateLimitError, ServerError
from enhancer.harness.calls.cache_key import request_hash
from enhancer.harness.calls.cost_tracking import CostTracker
from enhancer.harness.calls.retry import TRANSIENT, is_transient, retrying
from enhancer.harness.calls.token_estimate import estimate_messages
from enhancer.harness.journal.completion_writer import PaidCall
from enhancer.harness.redact import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from enhancer.contracts.llm import Completion, LLMProvider, Price, Request
    from enhancer.harness.calls.budget import Budget
    from enhancer.harness.calls.gate import Gate, Ticket
    from enhancer.harness.calls.thought_room import ThoughtRoom
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.harness.journal.journal import Journal


class StoppedError(Exception):
    """The run is stopping and makes no further calls."""


class Caller:
    """Makes calls to an LLM. For one event loop.

    Args:
        provider: LLM provider.
        journal: Journal that stores the answers.
        gate: Rate limiter of every attempt.
        budget: Budget that pays for every attempt.
        max_attempts: Maximum number of attempts per call.
        price_override: Price that takes precedence over the cost reported by the provider.
        token_ratio: Actual tokens of the model per estimated token.
        room: Room for thought in requests, which learns from the answers.
        sleep: Waits between attempts.

    Attributes:
        usage: Tokens and cost of the answers so far.
        room: Room for thought in the next requests.
        stopping: Whether further calls are forbidden.
        idle: Tasks that only wait (for work, the rate limiter, the budget or the next attempt). They can be cancelled
            without losing an answer.
    """

    def __init__(
        self,
        provider: LLMProvider,
        journal: Journal,
        gate: Gate,
        budget: Budget,
        *,
        max_attempts: int = 6,
        price_override: Price | None = None,
        token_ratio: float = 1.0,
        room: ThoughtRoom | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._provider = provider
        self._journal = journal
        self._gate = gate
        self._budget = budget
        self._sleep = sleep
        self._retry = retrying(max_attempts, sleep=self._pause)
        self._costs = CostTracker(budget, own_price=price_override, room=room)
        self.room = self._costs.room
        self._ratio = token_ratio
        self.usage = self._costs.usage
        self.stopping = False
        self.idle: set[asyncio.Task[Any]] = set()

    async def call(
        self, request: Request, *, hashes: tuple[str, ...], ids: tuple[str, ...] | None, attempt: int, template: str
    ) -> PaidAnswer:
        """Send a request until it is answered. The answer is on disk when this method returns.

        Args:
            request: The request.
            hashes: Input hashes of the entities in the request.
            ids: Ids of these entities in a group request; None for a single entity.
            attempt: Number of this request about these entities, from 1.
            template: Version of the template, for the ledger.

        Raises:
            ProviderError: The request was refused, or all attempts failed.
            CircuitOpenError: The circuit breaker is open.
            BudgetError: The call does not fit in the budget.
            StoppedError: The run is stopping.
        """
        estimated = estimate_messages(request.messages)
        expected = estimated * self._ratio + self.room.expected_completion(request)
        max_cost = self._costs.amount_to_reserve(request)

        async def attempt_once() -> PaidAnswer:
            ticket = await self._acquire(expected, max_cost)
            # The answer is paid for, so it is journaled before it is validated.
            completion, cost = self._costs.priced(await self._send(request, ticket, max_cost, template))
            try:
                written = self._journal.record_soon(
                    PaidCall(
                        text=completion.text,
                        finish_reason=completion.finish_reason,
                        prompt_tokens=completion.prompt_tokens,
                        completion_tokens=completion.completion_tokens,
                        estimated_prompt_tokens=estimated,
                        cost_usd=cost,
                        model=request.model,
                        template=template,
                        request=request_hash(request.messages),
                        attempt=attempt,
                        hashes=hashes,
                        ids=ids,
                        reasoning_tokens=completion.reasoning_tokens,
                    )
                )
                self._costs.settle(completion, cost, reserved=max_cost, max_cost=max_cost)
                # The call is in flight until the answer is on disk, which bounds the answers that a kill can lose.
                paid = await written
            except BaseException:
                self._gate.abandoned(ticket)
                raise
            tokens = None
            if completion.prompt_tokens is not None and completion.completion_tokens is not None:
                tokens = float(completion.prompt_tokens + completion.completion_tokens)
            self._gate.succeeded(ticket, completion.headers, tokens)
            return paid

        try:
            return await attempt_once()
        except TRANSIENT as error:
            first_error: list[ProviderError] = [error]

        async def attempt_again() -> PaidAnswer:
            # A call that succeeds at once never enters the retry layer, whose first attempt repeats the first error.
            if first_error:
                raise first_error.pop()
            return await attempt_once()

        return await self._retry(attempt_again)

    async def _acquire(self, expected: float, max_cost: float) -> Ticket:
        """Wait for the rate limiter and reserve the maximum cost."""
        self._refuse_when_stopping()
        ticket = self._gate.enter_now(expected)
        if ticket is not None and self._budget.reserve_now(max_cost):
            return ticket
        with self.waiting():
            if ticket is None:
                ticket = await self._gate.enter(expected)
            try:
                await self._budget.reserve(max_cost)
            except BaseException:
                self._gate.abandoned(ticket)
                raise
        try:
            self._refuse_when_stopping()
        except StoppedError:
            self._budget.settle(max_cost, 0.0)
            self._gate.abandoned(ticket)
            raise
        return ticket

    def _refuse_when_stopping(self) -> None:
        if self.stopping:
            raise StoppedError

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark the current task as idle."""
        task = asyncio.current_task()
        assert task is not None
        self.idle.add(task)
        try:
            yield
        finally:
            self.idle.discard(task)

    async def _pause(self, seconds: float) -> None:
        with self.waiting():
            await self._sleep(seconds)

    async def _send(self, request: Request, ticket: Ticket, max_cost: float, template: str) -> Completion:
        """Return the answer of the provider. On failure, release the ticket and the reservation."""
        try:
            if self._provider.keeps_deadlines:
                return await self._provider.complete(request)
            async with asyncio.timeout(request.timeout):
                return await self._provider.complete(request)
        except TimeoutError:
            failure: ProviderError = DeadlineError(f"no answer within [llm] timeout = {request.timeout:g} seconds")
        except ProviderError as error:
            failure = error
            failure.message = redact(failure.message)
            failure.args = (failure.message,)
        except asyncio.CancelledError:
            # It may have been answered and charged, so the budget counts it as such.
            self._budget.settle(max_cost, max_cost)
            self.usage.unanswered_usd += max_cost
            self._gate.abandoned(ticket)
            raise
        except Exception as error:  # noqa: BLE001 - a bug in a provider plugin
            failure = ProviderError(redact(f"the LLM provider failed by {type(error).__name__}: {str(error)[:300]}"))
        self.usage.failed += 1
        self._journal.failures.add(request.model, template)
        charged = max_cost if may_be_charged(failure) else 0.0
        self._budget.settle(max_cost, charged)
        self.usage.unanswered_usd += charged
        if is_transient(failure):
            self._gate.failed(ticket, failure)
        else:
            self._gate.refused(ticket)
        raise failure


def may_be_charged(error: ProviderError) -> bool:
    """Return whether a failed call may still have been answered and charged."""
    if isinstance(error, RateLimitError):
        return False
    if isinstance(error, ServerError):
        # Without a status, there was a response that could not be parsed.
        return error.status is None or error.status < 400
    return isinstance(error, DeadlineError | ConnectionFailedError)
