"""Batch jobs of requests to an LLM for notes of entities."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from enhancer.contracts.llm import Completion, Request
from enhancer.errors import ProviderError
from enhancer.harness.batches.collection import failed_result
from enhancer.harness.batches.submission import Submitter
from enhancer.harness.calls.cache_key import request_hash
from enhancer.harness.calls.entity_request import call_version, entity_request, request_ids
from enhancer.harness.calls.token_estimate import estimate_messages
from enhancer.harness.journal.batch_jobs import BatchRequest, BatchResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.batch import BatchProvider
    from enhancer.harness.answers.entity_task import EntityTask
    from enhancer.harness.calls.cost_tracking import CostTracker, UsageTotals
    from enhancer.harness.calls.thought_room import ThoughtRoom
    from enhancer.harness.journal.batch_jobs import BatchJob
    from enhancer.harness.journal.journal import Journal


class EntitySubmitter(Submitter[Request]):
    """Writes requests for notes to batch jobs.

    Args:
        batches: The batch API.
        journal: Journal of jobs and answers.
        llm: ``[llm]``.
        costs: Computes the maximum cost of a request at the price of batch jobs.
        **more: Further arguments of :class:`Submitter`.
    """

    def __init__(
        self, batches: BatchProvider, journal: Journal, llm: LLMConfig, *, costs: CostTracker, **more: Any
    ) -> None:
        super().__init__(batches, journal, llm, model=llm.model, **more)
        self._llm = llm
        self._costs = costs

    @property
    def room(self) -> ThoughtRoom:
        """Room for thought in the requests."""
        return self._costs.room

    async def write(self, tasks: Sequence[EntityTask]) -> None:
        """Write a request about these entities to the file of the next job.

        Args:
            tasks: Notes of one entity, or the same notes of several entities of one kind.

        Raises:
            RequestTooLargeError: The request exceeds the size limit of a file.
            OverBudgetError: The request does not fit under ``max_cost`` beside the maximum cost of open jobs.
        """
        request = entity_request(tasks, self._llm, self._costs.room)
        row = BatchRequest(
            hashes=tuple(task.input_hash for task in tasks),
            ids=request_ids(tasks),
            template=call_version(tasks),
            request=request_hash(request.messages),
            attempt=max(task.answer_count for task in tasks) + 1,
            estimated_prompt_tokens=estimate_messages(request.messages),
            # Recorded without a limit, too: a later run may have one.
            max_cost_usd=self._costs.max_cost(request),
        )
        await self.add(request, row)


class CompletionBook:
    """Writes completions of batch jobs to the journal.

    Args:
        journal: The journal.
        costs: Tracks the cost of answers at the price of batch jobs.
    """

    def __init__(self, journal: Journal, costs: CostTracker) -> None:
        self._jobs = journal.batch_jobs
        self._costs = costs

    @property
    def usage(self) -> UsageTotals:
        """Tokens and cost of the answers so far."""
        return self._costs.usage

    async def record(self, job: BatchJob, results: Sequence[tuple[int, Completion | ProviderError]]) -> None:
        """Write results with their costs to the journal before they are used."""
        rows = [
            failed_result(number, result)
            if isinstance(result, ProviderError)
            else BatchResult(number, *self._costs.priced(result, job.model))
            for number, result in results
        ]
        for new in await asyncio.wrap_future(self._jobs.record_results(job, rows)):
            # Open jobs are reserved in the journal, not in the budget of this run.
            self._costs.settle(new.completion, new.cost_usd, reserved=0.0, max_cost=new.max_cost_usd)
