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
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from enhancer.contracts.batch import LostJob
from enhancer.errors import RateLimitError, RequestError
from enhancer.harness import clock
from enhancer.harness.calls.retry import with_retries
from enhancer.harness.journal.batch_jobs import BatchJob

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from typing import BinaryIO

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.batch import BatchClient, JobStatus
    from enhancer.harness.calls.budget import Budget
    from enhancer.harness.journal.batch_jobs import BatchJobLog, BatchRequest
    from enhancer.harness.journal.journal import Journal

T = TypeVar("T")
Q = TypeVar("Q")
BATCH_FOLDER = "batches"
"""Folder beside the journal for the files of jobs; empty unless a job is being written or collected."""
ROWS_PER_WRITE = 256
"""Number of rows written to the journal at once."""
_log = logging.getLogger(__name__)
_NO_BATCHES = (
    "check whether this server has a batch API; without --batch it is called directly, and an embedder with"
    " [embedder] batch = false"
)


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


class JobReserve:
    """Largest cost of the batch jobs that are open or being written, which must fit into the budget of a run.

    Args:
        budget: The budget.
        jobs: Log of the jobs; those at all endpoints count.
    """

    def __init__(self, budget: Budget, jobs: BatchJobLog) -> None:
        self.budget = budget
        self._jobs = jobs
        self._open = 0.0
        self._drafts = 0.0
        self.refresh()

    def refresh(self) -> None:
        """Read the largest cost of all open jobs."""
        self._open = self._jobs.reserved_cost()

    def write(self, max_cost: float) -> None:
        """Reserve the largest cost of a request that is about to be written.

        Raises:
            OverBudgetError: It does not fit.
        """
        if not self.budget.fits(self._open + self._drafts + max_cost):
            raise OverBudgetError(max_cost)
        self._drafts += max_cost

    def drop(self, max_cost: float) -> None:
        """Release the reservation of requests that are not sent."""
        self._drafts -= max_cost

    def send(self, max_cost: float) -> None:
        """Count the requests of a job as open."""
        self._drafts -= max_cost
        self._open += max_cost


@dataclass(slots=True)
class _Draft:
    """Job whose file is being written."""

    token: str
    path: Path
    file: BinaryIO
    size: int = 0
    max_cost: float = 0.0
    journaled: int = 0
    """Number of requests in the journal."""
    rows: list[BatchRequest] = field(default_factory=list)
    """Requests in the file that are not in the journal yet."""

    @property
    def requests(self) -> int:
        return self.journaled + len(self.rows)


class Submitter(Generic[Q]):
    """Writes and creates batch jobs. For one run and one event loop.

    Args:
        batches: The batch API.
        journal: Journal of jobs and answers.
        llm: ``[llm]``, whose ``batch_*`` limits apply to all batch jobs.
        endpoint: Endpoint under which jobs are recorded; those of others are ignored.
        model: Model that the requests are for.
        reserve: Reserves the cost of the requests.
        folder: Folder for the files of jobs that are not created yet.
        sleep: Waits between attempts.

    Attributes:
        queue_full: Whether the provider refused to create a job while others run. The job is created by a later
            :meth:`resume`.
    """

    def __init__(
        self,
        batches: BatchClient[Q, Any],
        journal: Journal,
        llm: LLMConfig,
        *,
        endpoint: str,
        model: str,
        reserve: JobReserve,
        folder: Path,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._batches = batches
        self._jobs = journal.batch_jobs
        self._max_attempts = llm.max_attempts
        self._endpoint = endpoint
        self._model = model
        self._reserve = reserve
        self._folder = folder
        self._sleep = sleep
        self._max_requests = min(llm.batch_requests, batches.max_requests)
        self._max_bytes = min(llm.batch_bytes, batches.max_bytes)
        self.queue_full = False
        self._postponed: list[BatchJob] = []
        self._draft: _Draft | None = None

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

    @property
    def writing(self) -> str | None:
        """Token of the job that is being written; None without one."""
        return None if self._draft is None else self._draft.token

    async def add(self, request: Q, row: BatchRequest) -> None:
        """Write a request to the file of the next job; submit the job before if it is full.

        Args:
            request: The request.
            row: The same for the journal.

        Raises:
            RequestTooLargeError: The request exceeds the size limit of a file.
            OverBudgetError: The request does not fit under ``max_cost`` beside the maximum cost of open jobs.
        """
        self._reserve.write(row.max_cost_usd)
        try:
            draft, line = await self._line(request)
        except BaseException:
            self._reserve.drop(row.max_cost_usd)
            raise
        draft.file.write(line)
        draft.size += len(line)
        draft.max_cost += row.max_cost_usd
        draft.rows.append(row)
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
        self._reserve.send(draft.max_cost)
        await asyncio.wrap_future(self._jobs.mark_ready(draft.token))
        begun = clock.now()
        job = BatchJob(draft.token, self._endpoint, self._model, "ready", None, None, "", draft.requests, begun)
        await self._submit(job, resumed=False)

    async def close(self) -> None:
        """Discard the job that is being written; the next run submits jobs that are ready."""
        draft, self._draft = self._draft, None
        if draft is not None:
            self._reserve.drop(draft.max_cost)
            draft.file.close()
            draft.path.unlink(missing_ok=True)
        await asyncio.wrap_future(self._jobs.release())

    async def _line(self, request: Q) -> tuple[_Draft, bytes]:
        """Return the job that a request goes into, and its line there."""
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
        return draft, line

    async def _begin(self) -> _Draft:
        token = uuid.uuid4().hex
        self._folder.mkdir(parents=True, exist_ok=True)
        await asyncio.wrap_future(self._jobs.begin(token, self._endpoint, self._model))
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
        if status is None and job.model != self._model:
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
        return await with_retries(call, self._max_attempts, sleep=self._sleep)


def _custom_id(token: str, number: int) -> str:
    return f"{token}-{number}"
