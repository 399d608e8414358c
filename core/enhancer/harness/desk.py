"""The desk of offline batches: writes, submits, watches and collects them, each step remembered before the next.

What a kill leaves behind at any moment is picked up by the next run::

    killed while              the journal says   what the next run does
    the file is written       writing            forgets it: nothing was sent
    uploading, creating       ready              looks for the job by its token; creates it only where there is none
    waiting, collecting       out                asks how it stands; an answer that is written already counts once
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from enhancer.contracts.llm import Completion, Price
from enhancer.errors import AuthenticationError, CircuitOpenError, DeadlineError, ProviderError, RequestError
from enhancer.harness import caller
from enhancer.harness.asking import request_about
from enhancer.harness.caller import Spent
from enhancer.harness.jobs import Asked, Job, Returned
from enhancer.harness.key import request_hash
from enhancer.harness.redact import redact
from enhancer.harness.retry import TRANSIENT, is_transient, retrying
from enhancer.harness.tokens import estimate_messages, upper_bound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.batch import BatchProvider, JobStatus
    from enhancer.harness.budget import Budget
    from enhancer.harness.case import Case
    from enhancer.harness.jobs import Outcome
    from enhancer.harness.journal import Journal

T = TypeVar("T")
FOLDER = "batches"
"""Beside the journal; empty unless a job is being written or collected."""
_log = logging.getLogger(__name__)
_CUSTOM_ID = re.compile(r"([0-9a-f]{32})-(\d{1,9})", re.ASCII)
_WRITTEN_AT_ONCE = 256
_MOST_FAILED_LOOKS = 10
"""Looks at a job that may fail one after the other before the run stops; the job goes on all the same."""
_LONGEST_PAUSE = 120.0
_ALL_REFUSED = 5
"""Requests of a job that may be refused, before any was ever answered, until the settings are to blame."""


class TooLargeError(Exception):
    """One request alone is more than the file of a job may hold."""


class NoMoneyError(Exception):
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
    rows: list[Asked] = field(default_factory=list)
    """Requests that are in the file and not yet in the journal."""

    @property
    def requests(self) -> int:
        return self.noted + len(self.rows)


class Desk:
    """For one run and one event loop.

    Args:
        batches: The provider's batch API.
        journal: Remembers jobs, and keeps answers.
        llm: ``[llm]``.
        endpoint: Of the provider; jobs of others are left alone.
        budget: Opened at the full price.
        own_price: Prices that count for more than what the provider tells, at the full price.
        folder: For the files of jobs that are on their way.
        sleep: Waits between attempts.

    Attributes:
        spent: What came back so far.
        looks: How the jobs that are out stand, by token.
    """

    def __init__(
        self,
        batches: BatchProvider,
        journal: Journal,
        llm: LLMConfig,
        *,
        endpoint: str,
        budget: Budget,
        own_price: Price | None,
        folder: Path,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._batches = batches
        self._journal = journal
        self._jobs = journal.jobs
        self._llm = llm
        self._endpoint = endpoint
        self._budget = budget
        self._own_price = own_price
        self._folder = folder
        self._sleep = sleep
        self._share = 1.0 - llm.batch_discount
        self._most_requests = min(llm.batch_requests, batches.max_requests)
        self._most_bytes = min(llm.batch_bytes, batches.max_bytes)
        self._draft: _Draft | None = None
        self._drafted = 0.0
        self._reserved = 0.0
        self._failed_looks = 0
        self.spent = Spent()
        self.looks: dict[str, JobStatus] = {}
        self._abandoning = False
        self._one_ended = False
        self.congested = False
        """Whether the provider's queue is full: nothing new is sent until a job has ended."""

    # -- what was left behind ---------------------------------------------------------------------------------------

    async def pick_up(self) -> None:
        """Go on with what an earlier run did not finish submitting, without ever submitting it twice."""
        for job in await asyncio.wrap_future(self._jobs.adopt(self._endpoint)):
            if job.state == "writing":
                await asyncio.wrap_future(self._jobs.drop(job.token))
            else:
                await self._submit(job, resumed=True)
        needed = self._jobs.tokens()
        if self._folder.is_dir():
            for stray in self._folder.glob("*.jsonl"):
                if stray.stem not in needed:
                    stray.unlink(missing_ok=True)

    def open(self) -> list[Job]:
        """Jobs that are out at this endpoint, or about to be."""
        return [job for job in self._jobs.open() if job.endpoint == self._endpoint]

    # -- submission -------------------------------------------------------------------------------------------------

    def count_reserved(self) -> None:
        """Count anew what all that is out can cost."""
        self._reserved = self._jobs.reserved()

    async def write(self, cases: Sequence[Case]) -> None:
        """Write a request about these entities to the file of the next job; a full job is sent.

        Raises:
            TooLargeError: No file can hold it.
            NoMoneyError: It does not fit under ``max_cost`` while what is out may cost what it can.
        """
        request = request_about(cases, self._llm)
        ceiling = 0.0
        if self._budget.capped:
            ceiling = self._share * self._budget.could_cost(upper_bound(request), request.max_tokens or 0)
            if not self._budget.fits(self._reserved + self._drafted + ceiling):
                raise NoMoneyError(ceiling)
        draft = self._draft
        line = self._batches.line(
            _custom_id(draft.token if draft else "0" * 32, draft.requests if draft else 0), request
        )
        if len(line) > self._most_bytes:
            raise TooLargeError
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
            Asked(
                hashes=tuple(case.input_hash for case in cases),
                ids=tuple(case.key.id for case in cases) if len(cases) > 1 else None,
                template=cases[0].ask.template.version,
                request=request_hash(request.messages),
                attempt=max(case.heard for case in cases) + 1,
                estimated_prompt_tokens=estimate_messages(request.messages),
                ceiling_usd=ceiling,
            )
        )
        if len(draft.rows) >= _WRITTEN_AT_ONCE:
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
        await asyncio.wrap_future(self._jobs.ready(draft.token))
        job = Job(draft.token, self._endpoint, self._llm.model, "ready", None, None, "", draft.requests, "")
        await self._submit(job, resumed=False)

    async def close(self) -> None:
        """Leave nothing half done; what is ready is left to the next run."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.file.close()
            draft.path.unlink(missing_ok=True)
        await asyncio.wrap_future(self._jobs.let_go())

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
            await asyncio.wrap_future(self._jobs.add(draft.token, draft.noted, rows))
            draft.noted += len(rows)

    async def _submit(self, job: Job, *, resumed: bool) -> None:
        """Upload and create. Whether a creation got through is asked before it is tried again."""
        path = self._folder / f"{job.token}.jsonl"
        status = await self._again(lambda: self._found(job)) if resumed and job.upload is not None else None
        upload = job.upload
        if status is None and upload is None:
            if not path.exists():
                _log.warning("the file of an unfinished batch job is gone: its requests are written anew")
                await asyncio.wrap_future(self._jobs.drop(job.token))
                return
            try:
                upload = await self._again(lambda: self._batches.upload(path))
            except RequestError as error:
                await self._withdraw(job)
                raise RequestError(
                    f"the file of a batch job was refused: {error.message}",
                    hint=error.hint or "does this server have a batch API? Without --batch it is asked directly",
                    status=error.status,
                ) from None
            # Known before the job can exist: a later run that finds no upload need not look for the job.
            await asyncio.wrap_future(self._jobs.uploaded(job.token, upload))
        if status is None:
            assert upload is not None
            status = await self._create(job, upload)
        await asyncio.wrap_future(self._jobs.created(job.token, status.id, status.said))
        _log.info("batch job %s: %d requests", status.id, job.requests)
        path.unlink(missing_ok=True)

    async def _create(self, job: Job, upload: str) -> JobStatus:
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

    async def _found(self, job: Job) -> JobStatus | None:
        try:
            return await self._batches.find(job.token)
        except RequestError as error:
            _log.warning("the provider does not list batch jobs, so one may be submitted twice: %s", error.message)
            return None

    async def _withdraw(self, job: Job) -> None:
        await asyncio.wrap_future(self._jobs.drop(job.token))
        (self._folder / f"{job.token}.jsonl").unlink(missing_ok=True)

    # -- results ----------------------------------------------------------------------------------------------------

    async def look(self) -> tuple[bool, bool]:
        """Ask once how each job stands, and collect those that have ended.

        Returns:
            Whether a job has ended, and whether anything moved at all.

        Raises:
            ProviderError: A job was refused as a whole, or cancelled, or nothing of it was accepted.
        """
        ended = moved = False
        for job in self.open():
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
            before = self.looks.get(job.token)
            moved = moved or before is None or (before.said, before.done) != (status.said, status.done)
            self.looks[job.token] = status
            if status.said != job.said:
                await asyncio.wrap_future(self._jobs.told(job.token, status.said))
            if status.state != "running":
                await self._collect(job, status)
                ended = True
        return ended, moved

    async def abandon(self) -> int:
        """Have everything that is out end early; what the provider no longer knows is given up at once.

        Returns:
            Jobs that will end soon; their results are still to be collected.
        """
        ending = 0
        for job in self.open():
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

    async def _collect(self, job: Job, status: JobStatus) -> None:
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
        if denied or (not answered and seen == job.requests and self._is_everybodys(seen, refusals)):
            await asyncio.wrap_future(self._jobs.excuse(job.token))
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
        self.congested, self._one_ended = False, True
        if status.state == "cancelled" and not self._abandoning:
            raise RequestError(
                f"batch job {status.id} was cancelled at the provider; what it had answered is kept",
                hint="the same command submits the rest again",
            )

    def _is_everybodys(self, seen: int, refusals: Sequence[str]) -> bool:
        """Whether refusals of a whole job are to be blamed on the settings: this model has never answered."""
        if not refusals or self.spent.calls or self._journal.observed(self._llm.model).calls:
            return False
        return seen >= _ALL_REFUSED or (seen > 1 and len(refusals) == 1)

    def expect_cancelled(self) -> None:
        """Jobs end cancelled because we asked for it."""
        self._abandoning = True

    async def _close(self, job: Job, status: JobStatus, outcome: Outcome, message: str) -> None:
        left = await asyncio.wrap_future(self._jobs.close(job.token, outcome, message, status.said))
        self.looks.pop(job.token, None)
        if left and outcome != "withdrawn":
            _log.warning("batch job %s: %d of %d requests came back without an answer", status.id, left, job.requests)

    async def _whole_failed(self, job: Job, status: JobStatus) -> None:
        await asyncio.wrap_future(self._jobs.close(job.token, "withdrawn", status.message, status.said))
        self.looks.pop(job.token, None)
        message = redact(status.message) or "no reason was given"
        if status.congested and (self.open() or self._one_ended):
            self._one_ended = False
            _log.info("the provider's queue is full (%s): the rest is submitted when a job has ended", message)
            self.congested = bool(self.open())
            return
        hint = "smaller jobs may pass: set [llm] batch_requests" if status.congested else None
        raise RequestError(f"the provider refused batch job {status.id} as a whole: {message}", hint=hint)

    async def _fetch(self, job: Job, status: JobStatus) -> tuple[int, int, list[AuthenticationError]]:
        """Journal the results as they come; gives how many were answers, how many came, and refusals of the key."""
        answered = seen = strangers = 0
        denied: list[AuthenticationError] = []
        waiting: list[Returned] = []
        self._folder.mkdir(parents=True, exist_ok=True)
        async for custom_id, result in self._batches.fetch(status, self._folder):
            name = _CUSTOM_ID.fullmatch(custom_id)
            if name is None or name[1] != job.token or int(name[2]) >= job.requests:
                strangers += 1
                continue
            seen += 1
            if isinstance(result, Completion):
                answered += 1
                waiting.append(Returned(int(name[2]), result, self._cost(result)))
            else:
                outcome = _outcome_of(result)
                if isinstance(result, AuthenticationError):
                    denied.append(result) if not denied else None
                waiting.append(Returned(int(name[2]), None, None, outcome, redact(str(result))))
            if len(waiting) >= _WRITTEN_AT_ONCE:
                await self._settle(job, waiting)
                waiting = []
        await self._settle(job, waiting)
        if strangers:
            _log.warning("batch job %s: %d results are of requests that were never made", status.id, strangers)
        return answered, seen, denied

    async def _settle(self, job: Job, returned: Sequence[Returned]) -> None:
        """Answers are on disk, with what they cost, before anything looks at them."""
        for new in await asyncio.wrap_future(self._jobs.settle(job, returned)):
            spent = self.spent
            spent.calls += 1
            spent.prompt_tokens += new.completion.prompt_tokens or 0
            spent.completion_tokens += new.completion.completion_tokens or 0
            if new.cost_usd is None:
                spent.unknown_cost += 1
            else:
                spent.cost_usd += new.cost_usd
            # Where the provider does not tell, the cap assumes the most.
            self._budget.settle(0.0, new.ceiling_usd if new.cost_usd is None else new.cost_usd)

    def _cost(self, completion: Completion) -> float | None:
        price = self._own_price
        if price is None and completion.cost_usd is not None:
            return completion.cost_usd
        price = price or self._budget.price
        if price is None or completion.prompt_tokens is None or completion.completion_tokens is None:
            return None
        return self._share * price.cost(completion.prompt_tokens, completion.completion_tokens)

    # -- attempts ---------------------------------------------------------------------------------------------------

    async def _again(self, call: Callable[[], Awaitable[T]]) -> T:
        """Try until it works, as often as ``[llm] max_attempts`` allows."""

        async def attempt() -> T:
            try:
                return await call()
            except ProviderError as error:
                if is_transient(error) and error.retry_after:
                    await self._sleep(min(error.retry_after, _LONGEST_PAUSE))
                raise

        return await retrying(self._llm.max_attempts, sleep=self._sleep, initial=caller.BACKOFF_SECONDS)(attempt)

    def _count_failed_look(self, error: ProviderError) -> None:
        self._failed_looks += 1
        _log.info("a look at a batch job failed: %s", error.message)
        if self._failed_looks >= _MOST_FAILED_LOOKS:
            raise CircuitOpenError(
                f"nothing gets through to the batch API: {self._failed_looks} looks failed; the last: {error.message}",
                hint="the jobs go on; `enhancer generate --batch` picks them up when the provider answers",
            )


def _custom_id(token: str, number: int) -> str:
    return f"{token}-{number}"


def _outcome_of(error: ProviderError) -> Outcome:
    if isinstance(error, DeadlineError):
        return "expired"
    return "refused" if isinstance(error, RequestError | AuthenticationError) else "failed"
