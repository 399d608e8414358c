"""Poll batch jobs and write the results of finished jobs to the journal."""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from enhancer.errors import AuthenticationError, CircuitOpenError, DeadlineError, ProviderError, RequestError
from enhancer.harness.batches.submission import ROWS_PER_WRITE
from enhancer.harness.calls.refusals import MAX_IN_ROW, is_denial, is_refusal
from enhancer.harness.calls.retry import TRANSIENT, with_retries
from enhancer.harness.journal.batch_jobs import BatchResult
from enhancer.harness.redact import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from enhancer.contracts.batch import BatchClient, JobStatus
    from enhancer.harness.calls.cost_tracking import UsageTotals
    from enhancer.harness.journal.batch_jobs import BatchJob, Outcome
    from enhancer.harness.journal.journal import Journal

T = TypeVar("T")
A = TypeVar("A")
A_contra = TypeVar("A_contra", contravariant=True)
_log = logging.getLogger(__name__)
_CUSTOM_ID = re.compile(r"([0-9a-f]{32})-(\d{1,9})", re.ASCII)
_MAX_FAILED_POLLS = 10
"""Number of consecutive polls that may fail before the run stops; the jobs continue."""
_MIN_REFUSED = 5
"""If at least this many requests of a job are refused and none was ever answered, the settings are the cause."""


class ResultBook(Protocol[A_contra]):
    """Writes the results of batch jobs to the journal."""

    @property
    def usage(self) -> UsageTotals:
        """Tokens and cost of the answers so far."""

    async def record(self, job: BatchJob, results: Sequence[tuple[int, A_contra | ProviderError]]) -> None:
        """Write results, by the number of their request, with their costs, before they are used."""


class Collector(Generic[A]):
    """Polls batch jobs and collects their results. For one run and one event loop.

    Args:
        batches: The batch API.
        journal: Journal of jobs and answers.
        book: Writes the results.
        endpoint: Endpoint under which jobs are recorded; those of others are ignored.
        max_attempts: Attempts at each call.
        table: Table of the configuration that requests depend on, for messages.
        folder: Folder for results that are being read.
        sleep: Waits between attempts.

    Attributes:
        statuses: Last status of each open job, by token.
        queue_full: Whether the provider's queue is full. Nothing is submitted until a job has ended.
    """

    def __init__(
        self,
        batches: BatchClient[Any, A],
        journal: Journal,
        book: ResultBook[A],
        *,
        endpoint: str,
        max_attempts: int,
        table: str,
        folder: Path,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._batches = batches
        self._journal = journal
        self._jobs = journal.batch_jobs
        self._book = book
        self._endpoint = endpoint
        self._max_attempts = max_attempts
        self._table = table
        self._folder = folder
        self._sleep = sleep
        self.statuses: dict[str, JobStatus] = {}
        self.queue_full = False
        self._abandoning = False
        self._one_ended = False
        self._failed_polls = 0

    def open_jobs(self) -> list[BatchJob]:
        """Return the jobs at this endpoint that are created or about to be created."""
        return self._jobs.open_jobs(self._endpoint)

    async def poll(self) -> tuple[bool, bool]:
        """Poll each job once and collect those that have ended.

        Returns:
            Whether a job has ended, and whether the status of any job has changed.

        Raises:
            ProviderError: A job was refused, was cancelled, or had all its requests refused.
        """
        ended = changed = False
        for job in self.open_jobs():
            if job.provider_id is None:
                continue  # another process is about to create it
            try:
                status = await self._batches.poll(job.provider_id)
            except TRANSIENT as error:
                self._count_failed_poll(error)
                continue
            except RequestError as error:
                if error.status != 404:
                    raise
                raise RequestError(
                    f"the provider has no batch job {job.provider_id}: {error.message}",
                    hint="check that the API key belongs to the account that submitted it; "
                    "`enhancer generate --batch --abandon` abandons all open jobs",
                    status=404,
                ) from None
            self._failed_polls = 0
            before = self.statuses.get(job.token)
            changed = changed or before is None or (before.said, before.done) != (status.said, status.done)
            self.statuses[job.token] = status
            if status.said != job.said:
                await asyncio.wrap_future(self._jobs.set_status(job.token, status.said))
            if status.state != "running":
                await self._collect(job, status)
                ended = True
        return ended, changed

    async def abandon(self) -> int:
        """Cancel all open jobs. Jobs that the provider no longer has are closed at once.

        Returns:
            Number of jobs that will end soon, whose results must still be collected.
        """
        ending = 0
        for job in self.open_jobs():
            message = "never created"
            if job.provider_id is not None:
                try:
                    await self._with_retries(partial(self._batches.cancel, job.provider_id))
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
            await self._handle_failed_job(job, status)
            return
        tally = _ResultTally()
        try:
            tally = await self._with_retries(lambda: self._fetch(job, status))
        except RequestError as error:
            if error.status != 404:
                raise
            _log.warning("the results of batch job %s are gone: %s", status.id, error.message)
        self._book.usage.failed += tally.seen - len(tally.answered)
        outcomes: dict[str, tuple[Outcome, str]] = {
            "completed": ("missing", "the batch job ended without a result for it"),
            "expired": ("expired", "the batch job expired before it was processed"),
            "cancelled": ("withdrawn", ""),
        }
        outcome, message = outcomes[status.state]
        refusals = self._jobs.refusals(job.token)
        never_answered = not (self._book.usage.calls or self._journal.observed_usage(job.model).calls)
        denied = tally.fatal or tally.key_denied(never_answered=never_answered)
        all_refused = not tally.answered and tally.seen == job.requests and never_answered
        if denied or (all_refused and _settings_are_wrong(tally.seen, refusals)):
            await asyncio.wrap_future(self._jobs.withdraw_refusals(job.token))
            await self._close(job, status, outcome, message)
            if denied:
                raise denied
            raise RequestError(
                f"the provider refused all {tally.seen} requests of batch job {status.id}: {refusals[0]}",
                hint=f"the cause seems to be the settings, not the entities; check {self._table}",
            )
        await self._close(job, status, outcome, message)
        self.queue_full, self._one_ended = False, True
        if status.state == "cancelled" and not self._abandoning:
            raise RequestError(
                f"batch job {status.id} was cancelled at the provider; its answers are kept",
                hint="run the same command to submit the rest again",
            )

    def expect_cancelled(self) -> None:
        """Do not treat cancelled jobs as an error from here on, because this run cancels them."""
        self._abandoning = True

    async def _close(self, job: BatchJob, status: JobStatus, outcome: Outcome, message: str) -> None:
        left = await asyncio.wrap_future(self._jobs.close(job.token, outcome, message, status.said))
        self.statuses.pop(job.token, None)
        if left and outcome != "withdrawn":
            _log.warning("batch job %s: %d of %d requests returned no answer", status.id, left, job.requests)

    async def _handle_failed_job(self, job: BatchJob, status: JobStatus) -> None:
        await asyncio.wrap_future(self._jobs.close(job.token, "withdrawn", status.message, status.said))
        self.statuses.pop(job.token, None)
        message = redact(status.message) or "no reason was given"
        if status.congested and (self.open_jobs() or self._one_ended):
            self._one_ended = False
            _log.info("the provider's queue is full (%s); the rest is submitted when a job has ended", message)
            self.queue_full = bool(self.open_jobs())
            return
        hint = "set [llm] batch_requests to submit smaller jobs" if status.congested else None
        raise RequestError(f"the provider refused batch job {status.id} as a whole: {message}", hint=hint)

    async def _fetch(self, job: BatchJob, status: JobStatus) -> _ResultTally:
        """Journal the results of a job; return what they were."""
        tally = _ResultTally()
        unknown = 0
        pending: list[tuple[int, A | ProviderError]] = []
        self._folder.mkdir(parents=True, exist_ok=True)
        async for custom_id, result in self._batches.fetch(status, self._folder):
            name = _CUSTOM_ID.fullmatch(custom_id)
            if name is None or name[1] != job.token or int(name[2]) >= job.requests:
                unknown += 1
                continue
            number = int(name[2])
            tally.count(number, result)
            pending.append((number, result))
            if len(pending) >= ROWS_PER_WRITE:
                await self._book.record(job, pending)
                pending = []
        if pending:
            await self._book.record(job, pending)
        if unknown:
            _log.warning("batch job %s: %d results belong to no request", status.id, unknown)
        return tally

    async def _with_retries(self, call: Callable[[], Awaitable[T]]) -> T:
        return await with_retries(call, self._max_attempts, sleep=self._sleep)

    def _count_failed_poll(self, error: ProviderError) -> None:
        self._failed_polls += 1
        _log.info("polling a batch job failed: %s", error.message)
        if self._failed_polls >= _MAX_FAILED_POLLS:
            raise CircuitOpenError(
                f"the batch API cannot be reached: {self._failed_polls} polls failed; last error: {error.message}",
                hint="the jobs continue; run `enhancer generate --batch` when the provider answers",
            )


class _ResultTally:
    """Results of a job, by the number of their request.

    Attributes:
        seen: Number of results.
        answered: Numbers of the requests that were answered.
        fatal: First error that concerns all requests, such as a refused key.
    """

    def __init__(self) -> None:
        self.seen = 0
        self.answered: list[int] = []
        self.fatal: AuthenticationError | None = None
        self._denied: dict[int, AuthenticationError] = {}

    def count(self, number: int, result: object) -> None:
        """Count a result."""
        self.seen += 1
        if not isinstance(result, ProviderError):
            self.answered.append(number)
        elif isinstance(result, AuthenticationError):
            if is_denial(result):
                self._denied[number] = result
            else:
                self.fatal = self.fatal or result

    def key_denied(self, *, never_answered: bool) -> AuthenticationError | None:
        """Return the error of a key that may not be used, or not any more; None if single texts were denied.

        Args:
            never_answered: Whether the model has never answered, in this job or before.
        """
        if not self._denied:
            return None
        if never_answered:
            return next(iter(self._denied.values()))
        in_row = 0
        for number, was_denied in sorted([*((n, True) for n in self._denied), *((n, False) for n in self.answered)]):
            in_row = in_row + 1 if was_denied else 0
            if in_row >= MAX_IN_ROW:
                error = self._denied[number]
                return AuthenticationError(
                    f"{in_row} requests of a batch job in a row were refused, with no answer in between:"
                    f" {error.message}",
                    hint=f"{error.hint or 'check the API key'}: it may be revoked; nothing was quarantined for it",
                    status=error.status,
                )
        return None


def _settings_are_wrong(seen: int, refusals: Sequence[str]) -> bool:
    """Check whether the settings caused the refusal of a whole job of a model that has never answered."""
    return bool(refusals) and (seen >= _MIN_REFUSED or (seen > 1 and len(refusals) == 1))


def failed_result(number: int, error: ProviderError) -> BatchResult:
    """Return what the journal keeps of a request that was not answered."""
    if isinstance(error, DeadlineError):
        outcome: Outcome = "expired"
    else:
        outcome = "refused" if isinstance(error, RequestError | AuthenticationError) else "failed"
    reason = error.message if is_refusal(error) else str(error)
    return BatchResult(number, None, None, outcome, redact(reason))
