"""How offline batches are submitted: written line by line, uploaded, created; the journal knows each step.

What a kill leaves behind at any moment is picked up by the next run::

    killed while              the journal says   what the next run does
    the file is written       writing            forgets it: nothing was sent
    uploading, creating       ready              looks for the job by its token; creates it only where there is none
    waiting, collecting       out                asks how it stands; an answer already in the journal counts once
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from enhancer.errors import RequestError
from enhancer.harness.calls.cache_key import request_hash
from enhancer.harness.calls.entity_request import request_about
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
"""Beside the journal; empty unless a job is being written or collected."""
ROWS_PER_WRITE = 256
"""Rows that are written to the journal together."""
_log = logging.getLogger(__name__)
_NO_BATCHES = "does this server have a batch API? Without --batch it is asked directly"


class RequestTooLargeError(Exception):
    """One request alone is more than the file of a job may hold."""


class OverBudgetError(Exception):
    """A request does not fit under the cap at the moment."""

    def __init__(self, ceiling: float) -> None:
        super().__init__()
        self.ceiling = ceiling


@dataclass(slots=True)
class _Draft:
    """A job whose file is being written."""

    token: str
    path: Path
    file: BinaryIO
    size: int = 0
    noted: int = 0
    """Requests that the journal knows."""
    rows: list[BatchRequest] = field(default_factory=list)
    """Requests that are in the file and not yet in the journal."""

    @property
    def requests(self) -> int:
        return self.noted + len(self.rows)


class Submitter:
    """Writes and creates jobs. For one run and one event loop.

    Args:
        batches: The provider's batch API.
        journal: Remembers jobs, and keeps answers.
        llm: ``[llm]``.
        endpoint: Of the provider; jobs of others are left alone.
        budget: The cap, under which everything that is out must fit.
        spending: What each request can cost, at the price of batches.
        folder: For the files of jobs that are on their way.
        sleep: Waits between attempts.
    """

    def __init__(
        self,
        batches: BatchProvider,
        journal: Journal,
        llm: LLMConfig,
        *,
        endpoint: str,
        budget: Budget,
        spending: CostTracker,
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
        self._spending = spending
        self._most_requests = min(llm.batch_requests, batches.max_requests)
        self._most_bytes = min(llm.batch_bytes, batches.max_bytes)
        self._draft: _Draft | None = None
        self._drafted = 0.0
        self._reserved = 0.0

    # -- what was left behind ---------------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Go on with what an earlier run did not finish submitting, without ever submitting it twice."""
        for job in await asyncio.wrap_future(self._jobs.take_over(self._endpoint)):
            if job.state == "writing":
                await asyncio.wrap_future(self._jobs.forget(job.token))
            else:
                await self._submit(job, resumed=True)
        needed = self._jobs.pending_tokens()
        if self._folder.is_dir():
            for stray in self._folder.glob("*.jsonl"):
                if stray.stem not in needed:
                    stray.unlink(missing_ok=True)

    # -- submission -------------------------------------------------------------------------------------------------

    def refresh_reserved(self) -> None:
        """Count anew the most that all open jobs can cost."""
        self._reserved = self._jobs.reserved_cost()

    async def write(self, cases: Sequence[EntityTask]) -> None:
        """Write a request about these entities to the file of the next job; a full job is sent.

        Raises:
            RequestTooLargeError: No file can hold it.
            OverBudgetError: It does not fit under ``max_cost`` beside the most that open jobs can cost.
        """
        request = request_about(cases, self._llm)
        ceiling = self._spending.most(request)  # also without a cap: the run that has one may come while it is out
        if not self._budget.fits(self._reserved + self._drafted + ceiling):
            raise OverBudgetError(ceiling)
        draft = self._draft
        line = self._batches.line(
            _custom_id(draft.token if draft else "0" * 32, draft.requests if draft else 0), request
        )
        if len(line) > self._most_bytes:
            raise RequestTooLargeError
        if draft is not None and (draft.requests >= self._most_requests or draft.size + len(line) > self._most_bytes):
            await self.send()
            draft = None
        if draft is None:
            draft = await self._begin()
            line = self._batches.line(_custom_id(draft.token, 0), request)
        draft.file.write(line)
        draft.size += len(line)
        self._drafted += ceiling
        draft.rows.append(
            BatchRequest(
                hashes=tuple(case.input_hash for case in cases),
                ids=tuple(case.key.id for case in cases) if len(cases) > 1 else None,
                template=cases[0].ask.template.version,
                request=request_hash(request.messages),
                attempt=max(case.answer_count for case in cases) + 1,
                estimated_prompt_tokens=estimate_messages(request.messages),
                ceiling_usd=ceiling,
            )
        )
        if len(draft.rows) >= ROWS_PER_WRITE:
            await self._note(draft)

    async def send(self) -> None:
        """Submit what is written, if anything is."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        with draft.file:
            await self._note(draft)
            draft.file.flush()
        self._reserved += self._drafted
        self._drafted = 0.0
        await asyncio.wrap_future(self._jobs.mark_ready(draft.token))
        job = BatchJob(draft.token, self._endpoint, self._llm.model, "ready", None, None, "", draft.requests, "")
        await self._submit(job, resumed=False)

    async def close(self) -> None:
        """Leave nothing half done; what is ready is left to the next run."""
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

    async def _note(self, draft: _Draft) -> None:
        rows, draft.rows = draft.rows, []
        if rows:
            await asyncio.wrap_future(self._jobs.add_requests(draft.token, draft.noted, rows))
            draft.noted += len(rows)

    async def _submit(self, job: BatchJob, *, resumed: bool) -> None:
        """Upload and create. Before a creation is tried again, the provider is asked whether the job exists already."""
        path = self._folder / f"{job.token}.jsonl"
        status = await self._again(lambda: self._found(job)) if resumed and job.upload is not None else None
        upload = job.upload
        if status is None and upload is None:
            if not path.exists():
                _log.warning("the file of an unfinished batch job is gone: its requests are written anew")
                await asyncio.wrap_future(self._jobs.forget(job.token))
                return
            try:
                upload = await self._again(lambda: self._batches.upload(path))
            except RequestError as error:
                await self._withdraw(job)
                raise RequestError(
                    f"the file of a batch job was refused: {error.message}",
                    hint=_NO_BATCHES if error.status == HTTPStatus.NOT_FOUND else error.hint or _NO_BATCHES,
                    status=error.status,
                ) from None
            # Known before the job can exist: a later run that finds no upload need not look for the job.
            await asyncio.wrap_future(self._jobs.mark_uploaded(job.token, upload))
        if status is None:
            assert upload is not None
            status = await self._create(job, upload)
        await asyncio.wrap_future(self._jobs.mark_created(job.token, status.id, status.said))
        _log.info("batch job %s: %d requests", status.id, job.requests)
        path.unlink(missing_ok=True)

    async def _create(self, job: BatchJob, upload: str) -> JobStatus:
        attempts = 0

        async def attempt() -> JobStatus:
            nonlocal attempts
            attempts += 1
            # The last attempt may have got through, and its answer been lost.
            if attempts > 1 and (status := await self._found(job)) is not None:
                return status
            return await self._batches.create(upload, job.token)

        try:
            return await self._again(attempt)
        except RequestError as error:
            await self._withdraw(job)
            raise RequestError(
                f"a batch job was refused: {error.message}", hint=error.hint, status=error.status
            ) from None

    async def _found(self, job: BatchJob) -> JobStatus | None:
        try:
            return await self._batches.find(job.token)
        except RequestError as error:
            _log.warning("the provider does not list batch jobs, so one may be submitted twice: %s", error.message)
            return None

    async def _withdraw(self, job: BatchJob) -> None:
        await asyncio.wrap_future(self._jobs.forget(job.token))
        (self._folder / f"{job.token}.jsonl").unlink(missing_ok=True)

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        return await with_retries(call, self._llm.max_attempts, sleep=self._sleep)


def _custom_id(token: str, number: int) -> str:
    return f"{token}-{number}"
