"""One call: through the gate, under the budget and the deadline, tried again where that can help, and journaled."""

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
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.harness.journal.journal import Journal


class StoppedError(Exception):
    """The run is stopping: no further call is made."""


class Caller:
    """Makes calls. For one event loop.

    Attributes:
        spent: What came back so far.
        stopping: Whether no further call may be made.
        idle: Tasks that only wait (for work, for permission to call, for money, between attempts): nothing is lost
            by cancelling them.
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
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Make a caller.

        Args:
            provider: Who answers.
            journal: Where answers are kept.
            gate: Through which every attempt goes.
            budget: From which every attempt is paid.
            max_attempts: Tries of one call.
            price_override: Prices that count for more than what the provider tells.
            token_ratio: Tokens that the model really counts for one estimated token.
            sleep: Waits between attempts.
        """
        self._provider = provider
        self._journal = journal
        self._gate = gate
        self._budget = budget
        self._sleep = sleep
        self._retry = retrying(max_attempts, sleep=self._nap)
        self._spending = CostTracker(budget, own_price=price_override)
        self._ratio = token_ratio
        self.usage = self._spending.usage
        self.stopping = False
        self.idle: set[asyncio.Task[Any]] = set()

    async def call(
        self, request: Request, *, hashes: tuple[str, ...], ids: tuple[str, ...] | None, attempt: int, template: str
    ) -> PaidAnswer:
        """Ask until there is an answer; it is on disk when this returns.

        Args:
            request: What is asked.
            hashes: Input hashes of the entities that it is about.
            ids: Their ids, in a batched request.
            attempt: Which request about these entities this is, from 1.
            template: Version of the template, for the ledger.

        Raises:
            ProviderError: Permanent, or transient once too often.
            CircuitOpenError: Nothing gets through.
            BudgetError: There is no money for it.
            StoppedError: The run is stopping.
        """
        estimated = estimate_messages(request.messages)
        expected = estimated * self._ratio + (request.max_tokens or 0) / 3
        ceiling = self._spending.ceiling(request)

        async def attempt_once() -> PaidAnswer:
            ticket = await self._let_in(expected, ceiling)
            # From here on it is paid: it goes to the journal before anything looks at it.
            completion, cost = self._spending.priced(await self._ask(request, ticket, ceiling))
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
                    )
                )
                self._spending.settle(completion, cost, reserved=ceiling, ceiling=ceiling)
                # Until it is on disk it counts as in flight: a kill loses no more answers than calls may be in flight.
                paid = await written
            except BaseException:
                self._gate.abandoned(ticket)
                raise
            used = None
            if completion.prompt_tokens is not None and completion.completion_tokens is not None:
                used = float(completion.prompt_tokens + completion.completion_tokens)
            self._gate.succeeded(ticket, completion.headers, used)
            return paid

        try:
            return await attempt_once()
        except TRANSIENT as error:
            first: list[ProviderError] = [error]

        async def attempt_again() -> PaidAnswer:
            # The first failure counts as the retry layer's first attempt: a call that succeeds at once never enters it.
            if first:
                raise first.pop()
            return await attempt_once()

        return await self._retry(attempt_again)

    async def _let_in(self, expected: float, ceiling: float) -> Ticket:
        """Permission to call, with its cost reserved."""
        self._refuse_when_stopping()
        ticket = self._gate.enter_now(expected)
        if ticket is not None and self._budget.reserve_now(ceiling):
            return ticket
        with self.waiting():
            if ticket is None:
                ticket = await self._gate.enter(expected)
            try:
                await self._budget.reserve(ceiling)
            except BaseException:
                self._gate.abandoned(ticket)
                raise
        try:
            self._refuse_when_stopping()
        except StoppedError:
            self._budget.settle(ceiling, 0.0)
            self._gate.abandoned(ticket)
            raise
        return ticket

    def _refuse_when_stopping(self) -> None:
        if self.stopping:
            raise StoppedError

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark the current task as one that only waits."""
        task = asyncio.current_task()
        assert task is not None
        self.idle.add(task)
        try:
            yield
        finally:
            self.idle.discard(task)

    async def _nap(self, seconds: float) -> None:
        with self.waiting():
            await self._sleep(seconds)

    async def _ask(self, request: Request, ticket: Ticket, ceiling: float) -> Completion:
        """The provider's answer; whatever else happens, the ticket and the reservation are given back."""
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
            # It may have been answered and charged: under a cap, count it so.
            self._budget.settle(ceiling, ceiling)
            self._gate.abandoned(ticket)
            raise
        except Exception as error:  # noqa: BLE001 - a provider's own bug, told as such
            failure = ProviderError(redact(f"the LLM provider failed by {type(error).__name__}: {str(error)[:300]}"))
        self._budget.settle(ceiling, ceiling if _may_be_charged(failure) else 0.0)
        if is_transient(failure):
            self._gate.failed(ticket, failure)
        else:
            self._gate.refused(ticket)
        raise failure


def _may_be_charged(error: ProviderError) -> bool:
    """Whether a call that failed may have been answered, and so charged, on the other side."""
    if isinstance(error, RateLimitError):
        return False
    if isinstance(error, ServerError):
        # Without a status there was an answer, and it could not be read.
        return error.status is None or error.status < 400
    return isinstance(error, DeadlineError | ConnectionFailedError)
