"""How offline batches are collected: jobs are watched, and the results of those that have ended go to the journal."""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from enhancer.contracts.llm import Completion
from enhancer.errors import AuthenticationError, CircuitOpenError, DeadlineError, ProviderError, RequestError
from enhancer.harness.batches.submission import ROWS_PER_WRITE
from enhancer.harness.calls.retry import TRANSIENT, with_retries
from enhancer.harness.journal.batch_jobs import BatchResult
from enhancer.harness.redact import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.batch import BatchProvider, JobStatus
    from enhancer.harness.calls.cost_tracking import CostTracker
    from enhancer.harness.journal.batch_jobs import BatchJob, Outcome
    from enhancer.harness.journal.journal import Journal

T = TypeVar("T")
_log = logging.getLogger(__name__)
_CUSTOM_ID = re.compile(r"([0-9a-f]{32})-(\d{1,9})", re.ASCII)
_MOST_FAILED_LOOKS = 10
"""Looks at jobs that may fail in a row before the run stops; the jobs themselves go on."""
_ALL_REFUSED = 5
"""If so many requests of a job are refused, and none was ever answered, the settings are to blame."""


class Collector:
    """Watches jobs and collects them. For one run and one event loop.

    Args:
        batches: The provider's batch API.
        journal: Remembers jobs, and keeps answers.
        llm: ``[llm]``.
        endpoint: Of the provider; jobs of others are left alone.
        spending: Counts what answers cost, at the price of batches.
        folder: For results that are being read.
        sleep: Waits between attempts.

    Attributes:
        looks: How the jobs that are out stand, by token.
        congested: Whether the provider's queue is full: nothing new is sent until a job has ended.
    """

    def __init__(
        self,
        batches: BatchProvider,
        journal: Journal,
        llm: LLMConfig,
        *,
        endpoint: str,
        spending: CostTracker,
        folder: Path,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._batches = batches
        self._journal = journal
        self._jobs = journal.batch_jobs
        self._llm = llm
        self._endpoint = endpoint
        self._spending = spending
        self._folder = folder
        self._sleep = sleep
        self.statuses: dict[str, JobStatus] = {}
        self.queue_full = False
        self._abandoning = False
        self._one_ended = False
        self._failed_looks = 0

    def open_jobs(self) -> list[BatchJob]:
        """Jobs that are out at this endpoint, or about to be."""
        return self._jobs.open_jobs(self._endpoint)

    async def poll(self) -> tuple[bool, bool]:
        """Ask once how each job stands, and collect those that have ended.

        Returns:
            Whether a job has ended, and whether anything moved at all.

        Raises:
            ProviderError: A job was refused as a whole, or cancelled, or nothing of it was accepted.
        """
        ended = moved = False
        for job in self.open_jobs():
            if job.provider_id is None:
                continue  # another process is about to create it
            try:
                status = await self._batches.poll(job.provider_id)
            except TRANSIENT as error:
                self._count_failed_look(error)
                continue
            except RequestError as error:
                if error.status != 404:
                    raise
                raise RequestError(
                    f"the provider knows no batch job {job.provider_id}: {error.message}",
                    hint="is this the key and the account that it was submitted with? "
                    "`enhancer generate --batch --abandon` gives up what is out",
                    status=404,
                ) from None
            self._failed_looks = 0
            before = self.statuses.get(job.token)
            moved = moved or before is None or (before.said, before.done) != (status.said, status.done)
            self.statuses[job.token] = status
            if status.said != job.said:
                await asyncio.wrap_future(self._jobs.set_status(job.token, status.said))
            if status.state != "running":
                await self._collect(job, status)
                ended = True
        return ended, moved

    async def abandon(self) -> int:
        """Cancel every open job; those that the provider no longer knows are given up at once.

        Returns:
            Jobs that will end soon; their results are still to be collected.
        """
        ending = 0
        for job in self.open_jobs():
            message = "it was never created"
            if job.provider_id is not None:
                try:
                    await self._again(partial(self._batches.cancel, job.provider_id))
                except RequestError as error:
                    message = error.message
                    if error.status != 404:
                        ending += 1  # it has ended already, or is about to
                        continue
                else:
                    ending += 1
                    continue
            await asyncio.wrap_future(self._jobs.close(job.token, "withdrawn", message, "abandoned"))
        return ending

    async def _collect(self, job: BatchJob, status: JobStatus) -> None:
        if status.state == "failed":
            await self._whole_failed(job, status)
            return
        answered, seen = 0, 0
        denied: list[AuthenticationError] = []
        try:
            answered, seen, denied = await self._again(lambda: self._fetch(job, status))
        except RequestError as error:
            if error.status != 404:
                raise
            _log.warning("the results of batch job %s are gone: %s", status.id, error.message)
        outcomes: dict[str, tuple[Outcome, str]] = {
            "completed": ("missing", "the batch ended without a word about it"),
            "expired": ("expired", "the batch expired before it had its turn"),
            "cancelled": ("withdrawn", ""),
        }
        outcome, message = outcomes[status.state]
        refusals = self._jobs.refusals(job.token)
        if denied or (not answered and seen == job.requests and self._is_everybodys(job, seen, refusals)):
            await asyncio.wrap_future(self._jobs.withdraw_refusals(job.token))
            await self._close(job, status, outcome, message)
            if denied:
                raise denied[0]
            if refusals:
                raise RequestError(
                    f"the provider refused all {seen} requests of batch job {status.id}: {refusals[0]}",
                    hint="the fault seems to be in the settings, not in the entities; see [llm]",
                )
        else:
            await self._close(job, status, outcome, message)
        self.queue_full, self._one_ended = False, True
        if status.state == "cancelled" and not self._abandoning:
            raise RequestError(
                f"batch job {status.id} was cancelled at the provider; what it had answered is kept",
                hint="the same command submits the rest again",
            )

    def _is_everybodys(self, job: BatchJob, seen: int, refusals: Sequence[str]) -> bool:
        """Whether the settings are to blame for a job that was refused entirely: this model has never answered."""
        if not refusals or self._spending.usage.calls or self._journal.observed_usage(job.model).calls:
            return False
        return seen >= _ALL_REFUSED or (seen > 1 and len(refusals) == 1)

    def expect_cancelled(self) -> None:
        """Take cancelled jobs for no error from here on: we cancel them ourselves."""
        self._abandoning = True

    async def _close(self, job: BatchJob, status: JobStatus, outcome: Outcome, message: str) -> None:
        left = await asyncio.wrap_future(self._jobs.close(job.token, outcome, message, status.said))
        self.statuses.pop(job.token, None)
        if left and outcome != "withdrawn":
            _log.warning("batch job %s: %d of %d requests came back without an answer", status.id, left, job.requests)

    async def _whole_failed(self, job: BatchJob, status: JobStatus) -> None:
        await asyncio.wrap_future(self._jobs.close(job.token, "withdrawn", status.message, status.said))
        self.statuses.pop(job.token, None)
        message = redact(status.message) or "no reason was given"
        if status.congested and (self.open_jobs() or self._one_ended):
            self._one_ended = False
            _log.info("the provider's queue is full (%s): the rest is submitted when a job has ended", message)
            self.queue_full = bool(self.open_jobs())
            return
        hint = "smaller jobs may pass: set [llm] batch_requests" if status.congested else None
        raise RequestError(f"the provider refused batch job {status.id} as a whole: {message}", hint=hint)

    async def _fetch(self, job: BatchJob, status: JobStatus) -> tuple[int, int, list[AuthenticationError]]:
        """Journal the results as they come; gives the number of answers and of results, and refusals of the key."""
        answered = seen = strangers = 0
        denied: list[AuthenticationError] = []
        waiting: list[BatchResult] = []
        self._folder.mkdir(parents=True, exist_ok=True)
        async for custom_id, result in self._batches.fetch(status, self._folder):
            name = _CUSTOM_ID.fullmatch(custom_id)
            if name is None or name[1] != job.token or int(name[2]) >= job.requests:
                strangers += 1
                continue
            seen += 1
            if isinstance(result, Completion):
                answered += 1
                waiting.append(BatchResult(int(name[2]), *self._spending.priced(result, job.model)))
            else:
                outcome = _outcome_of(result)
                if isinstance(result, AuthenticationError):
                    denied.append(result) if not denied else None
                waiting.append(BatchResult(int(name[2]), None, None, outcome, redact(str(result))))
            if len(waiting) >= ROWS_PER_WRITE:
                await self._settle(job, waiting)
                waiting = []
        await self._settle(job, waiting)
        if strangers:
            _log.warning("batch job %s: %d results are of requests that were never made", status.id, strangers)
        return answered, seen, denied

    async def _settle(self, job: BatchJob, returned: Sequence[BatchResult]) -> None:
        """Write results to the journal, with what they cost, before anything looks at them."""
        for new in await asyncio.wrap_future(self._jobs.record_results(job, returned)):
            # What is out is reserved in the journal, not in this run's budget.
            self._spending.settle(new.completion, new.cost_usd, reserved=0.0, ceiling=new.ceiling_usd)

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        return await with_retries(call, self._llm.max_attempts, sleep=self._sleep)

    def _count_failed_look(self, error: ProviderError) -> None:
        self._failed_looks += 1
        _log.info("a look at a batch job failed: %s", error.message)
        if self._failed_looks >= _MOST_FAILED_LOOKS:
            raise CircuitOpenError(
                f"nothing gets through to the batch API: {self._failed_looks} looks failed; the last: {error.message}",
                hint="the jobs go on; `enhancer generate --batch` picks them up when the provider answers",
            )


def _outcome_of(error: ProviderError) -> Outcome:
    if isinstance(error, DeadlineError):
        return "expired"
    return "refused" if isinstance(error, RequestError | AuthenticationError) else "failed"
