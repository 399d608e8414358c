"""Submit batch jobs: write the file, upload it, create the job. The journal records each step.

After a kill at any moment, the next run continues::

    killed while              state in journal   what the next run does
    writing the file          writing            forgets the job: nothing was sent
    uploading, creating       ready              looks for the job by its token; creates it only if there is none
    waiting, collecting       out                polls the job; an answer already in the journal counts once
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from enhancer.contracts.batch import LostJob
from enhancer.errors import RateLimitError, RequestError
from enhancer.harness import clock
from enhancer.harness.calls.cache_key import request_hash
from enhancer.harness.calls.entity_request import call_version, entity_request, request_ids
from enhancer.harness.calls.retry import with_retries
from enhancer.harness.calls.token_estimate import estimate_messages
from enhancer.harness.journal.batch_jobs import BatchJob, BatchRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.batch import BatchProvider, JobStatus
    from enhancer.harness.answers.entity_task import EntityTask
    from enhancer.harness.calls.budget import Budget
    from enhancer.harness.calls.cost_tracking import CostTracker
    from enhancer.harness.journal.journal import Journal

T = TypeVar("T")
BATCH_FOLDER = "batches"
"""Folder beside the journal for the files of jobs; empty unless a job is being written or collected."""
ROWS_PER_WRITE = 256
"""Number of rows written to the journal at once."""
_log = logging.getLogger(__name__)
_NO_BATCHES = "check whether this server has a batch API; without --batch it is called directly"


class RequestTooLargeError(Exception):
    """A single request exceeds the size limit of a job's file."""


class _QueueFullError(Exception):
    """The provider creates no further job while those that are out run."""


class OverBudgetError(Exception):
    """A request does not fit in the budget beside the open jobs.

    Attributes:
        max_cost: Maximum cost of the request in USD.
    """

    def __init__(self, max_cost: float) -> None:
        super().__init__()
        self.max_cost = max_cost


@dataclass(slots=True)
class _Draft:
    """Job whose file is being written."""

    token: str
    path: Path
    file: BinaryIO
    size: int = 0
    journaled: int = 0
    """Number of requests in the journal."""
    rows: list[BatchRequest] = field(default_factory=list)
    """Requests in the file that are not in the journal yet."""

    @property
    def requests(self) -> int:
        return self.journaled + len(self.rows)


class Submitter:
    """Writes and creates batch jobs. For one run and one event loop.

    Args:
        batches: Batch API of the provider.
        journal: Journal of jobs and answers.
        llm: ``[llm]``.
        endpoint: Endpoint of the provider; jobs at other endpoints are ignored.
        budget: Budget in which all open jobs must fit.
        costs: Computes the maximum cost of a request at the price of batch jobs.
        folder: Folder for the files of jobs that are not created yet.
        sleep: Waits between attempts.

    Attributes:
        queue_full: Whether the provider refused to create a job while others run. The job is created by a later
            :meth:`resume`.
    """

    def __init__(
        self,
        batches: BatchProvider,
        journal: Journal,
        llm: LLMConfig,
        *,
        endpoint: str,
        budget: Budget,
        costs: CostTracker,
        folder: Path,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._batches = batches
        self._jobs = journal.batch_jobs
        self._llm = llm
        self._endpoint = endpoint
        self._budget = budget
        self._folder = folder
        self._sleep = sleep
        self._costs = costs
        self._max_requests = min(llm.batch_requests, batches.max_requests)
        self._max_bytes = min(llm.batch_bytes, batches.max_bytes)
        self.queue_full = False
        self._postponed: list[BatchJob] = []
        self._draft: _Draft | None = None
        self._draft_cost = 0.0
        self._reserved = 0.0

    # -- recovery -------------------------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Finish submissions that an earlier run began, or that were put off, without submitting a job twice."""
        self.queue_full = False
        postponed, self._postponed = self._postponed, []
        for number, job in enumerate(postponed):
            if self.queue_full:
                self._postponed += postponed[number:]
                break
            await self._submit(job, resumed=True)
        for job in await asyncio.wrap_future(self._jobs.take_over(self._endpoint)):
            if job.state == "writing":
                await asyncio.wrap_future(self._jobs.forget(job.token))
            else:
                await self._submit(job, resumed=True)
        needed = self._jobs.pending_tokens()
        if self._folder.is_dir():
            for file in self._folder.glob("*.jsonl"):
                if file.stem not in needed:
                    file.unlink(missing_ok=True)

    # -- submission -------------------------------------------------------------------------------------------------

    def refresh_reserved(self) -> None:
        """Reload the maximum cost of all open jobs."""
        self._reserved = self._jobs.reserved_cost()

    async def write(self, tasks: Sequence[EntityTask]) -> None:
        """Write a request about these entities to the file of the next job; submit the job if it is full.

        Args:
            tasks: Notes of one entity, or the same notes of several entities of one kind.

        Raises:
            RequestTooLargeError: The request exceeds the size limit of a file.
            OverBudgetError: The request does not fit under ``max_cost`` beside the maximum cost of open jobs.
        """
        request = entity_request(tasks, self._llm, self._costs.room)
        max_cost = self._costs.max_cost(request)  # recorded without a limit, too: a later run may have one
        if not self._budget.fits(self._reserved + self._draft_cost + max_cost):
            raise OverBudgetError(max_cost)
        draft = self._draft
        line = self._batches.line(
            _custom_id(draft.token if draft else "0" * 32, draft.requests if draft else 0), request
        )
        if len(line) > self._max_bytes:
            raise RequestTooLargeError
        if draft is not None and (draft.requests >= self._max_requests or draft.size + len(line) > self._max_bytes):
            await self.send()
            draft = None
        if draft is None:
            draft = await self._begin()
            line = self._batches.line(_custom_id(draft.token, 0), request)
        draft.file.write(line)
        draft.size += len(line)
        self._draft_cost += max_cost
        draft.rows.append(
            BatchRequest(
                hashes=tuple(task.input_hash for task in tasks),
                ids=request_ids(tasks),
                template=call_version(tasks),
                request=request_hash(request.messages),
                attempt=max(task.answer_count for task in tasks) + 1,
                estimated_prompt_tokens=estimate_messages(request.messages),
                max_cost_usd=max_cost,
            )
        )
        if len(draft.rows) >= ROWS_PER_WRITE:
            await self._journal_rows(draft)

    async def send(self) -> None:
        """Submit the job that is being written, if any."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        with draft.file:
            await self._journal_rows(draft)
            draft.file.flush()
        self._reserved += self._draft_cost
        self._draft_cost = 0.0
        await asyncio.wrap_future(self._jobs.mark_ready(draft.token))
        begun = clock.now()
        job = BatchJob(draft.token, self._endpoint, self._llm.model, "ready", None, None, "", draft.requests, begun)
        await self._submit(job, resumed=False)

    async def close(self) -> None:
        """Discard the job that is being written; the next run submits jobs that are ready."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.file.close()
            draft.path.unlink(missing_ok=True)
        await asyncio.wrap_future(self._jobs.release())

    async def _begin(self) -> _Draft:
        token = uuid.uuid4().hex
        self._folder.mkdir(parents=True, exist_ok=True)
        await asyncio.wrap_future(self._jobs.begin(token, self._endpoint, self._llm.model))
        path = self._folder / f"{token}.jsonl"
        self._draft = _Draft(token, path, path.open("wb"))
        return self._draft

    async def _journal_rows(self, draft: _Draft) -> None:
        rows, draft.rows = draft.rows, []
        if rows:
            await asyncio.wrap_future(self._jobs.add_requests(draft.token, draft.journaled, rows))
            draft.journaled += len(rows)

    async def _submit(self, job: BatchJob, *, resumed: bool) -> None:
        """Upload the file and create the job. Before a retry, check whether the provider already has the job."""
        path = self._folder / f"{job.token}.jsonl"
        status = await self._with_retries(lambda: self._find(job)) if resumed and job.upload is not None else None
        upload = job.upload
        if status is None and job.model != self._llm.model:
            _log.info("a batch job of the model %s was not created, and the model is another one by now", job.model)
            await self._withdraw(job)
            return
        if status is None and upload is None:
            if not path.exists():
                _log.warning("the file of an unfinished batch job is missing; its requests are written again")
                await asyncio.wrap_future(self._jobs.forget(job.token))
                return
            try:
                upload = await self._with_retries(lambda: self._batches.upload(path))
            except RequestError as error:
                await self._withdraw(job)
                raise RequestError(
                    f"the file of a batch job was refused: {error.message}",
                    hint=_NO_BATCHES if error.status == HTTPStatus.NOT_FOUND else error.hint or _NO_BATCHES,
                    status=error.status,
                ) from None
            # Recorded before the job can exist: a later run that finds no upload need not look for the job.
            await asyncio.wrap_future(self._jobs.mark_uploaded(job.token, upload))
        if status is None:
            assert upload is not None
            try:
                status = await self._create(job, upload)
            except _QueueFullError:
                self.queue_full = True
                self._postponed.append(job._replace(upload=upload))
                _log.info("the provider's queue is full; a batch job waits until others have ended")
                return
        await asyncio.wrap_future(self._jobs.mark_created(job.token, status.id, status.said))
        _log.info("batch job %s: %d requests", status.id, job.requests)
        path.unlink(missing_ok=True)

    async def _create(self, job: BatchJob, upload: str) -> JobStatus:
        attempts = 0

        async def attempt() -> JobStatus:
            nonlocal attempts
            attempts += 1
            # The previous attempt may have created the job although its response was lost.
            if attempts > 1 and (status := await self._find(job)) is not None:
                return status
            try:
                return await self._batches.create(upload, job.token)
            except RateLimitError:
                if any(other.provider_id is not None for other in self._jobs.open_jobs(self._endpoint)):
                    raise _QueueFullError from None
                raise

        try:
            return await self._with_retries(attempt)
        except RequestError as error:
            await self._withdraw(job)
            raise RequestError(
                f"a batch job was refused: {error.message}", hint=error.hint, status=error.status
            ) from None

    async def _find(self, job: BatchJob) -> JobStatus | None:
        others = self._jobs.provider_ids(self._endpoint)
        try:
            return await self._batches.find(
                job.token, LostJob(requests=job.requests, begun=job.at, others=frozenset(others))
            )
        except RequestError as error:
            _log.warning("the provider does not list batch jobs, so a job may be submitted twice: %s", error.message)
            return None

    async def _withdraw(self, job: BatchJob) -> None:
        await asyncio.wrap_future(self._jobs.forget(job.token))
        (self._folder / f"{job.token}.jsonl").unlink(missing_ok=True)

    async def _with_retries(self, call: Callable[[], Awaitable[T]]) -> T:
        return await with_retries(call, self._llm.max_attempts, sleep=self._sleep)


def _custom_id(token: str, number: int) -> str:
    return f"{token}-{number}"
