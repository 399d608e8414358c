"""Embed texts by offline batch jobs: submitted in one pass over the texts, and found in the journal in a later one.

::

    text ──> vector in the journal ─────────────────────> its vector
         ├─> in an open job, or of another process ─────> later
         ├─> refused, or without an answer too often ───> none
         └─> a line of the next job ────────────────────> later

Each request of a job is one text, so that a text that the server refuses costs no other its vector.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from enhancer.errors import ProviderError
from enhancer.harness.batches.collection import Collector, failed_result
from enhancer.harness.batches.submission import OverBudgetError, RequestTooLargeError, Submitter
from enhancer.harness.calls.cache_key import text_hash
from enhancer.harness.calls.token_estimate import estimate_tokens
from enhancer.harness.embedding.outcomes import IN_JOB, LaterVector, NoVector, usable_rows
from enhancer.harness.journal.batch_jobs import BatchRequest, VectorResult, permanent_failure
from enhancer.harness.journal.paid_vectors import TEMPLATE, vector_key

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.config.schema import LLMConfig
    from enhancer.contracts.batch import EmbeddingBatches
    from enhancer.contracts.embedder import Embeddings, RemoteEmbedder
    from enhancer.harness.batches.submission import JobReserve
    from enhancer.harness.calls.budget import Budget
    from enhancer.harness.calls.cost_tracking import UsageTotals
    from enhancer.harness.embedding.costs import EmbeddingCosts
    from enhancer.harness.embedding.outcomes import Outcome
    from enhancer.harness.journal.batch_jobs import BatchJob, FailedRequest
    from enhancer.harness.journal.journal import Journal

T = TypeVar("T")
_SIZE = 256
_LEFT = LaterVector("its text is left for a later run", in_job=False)


def job_endpoint(embedder: RemoteEmbedder, batches: EmbeddingBatches) -> str:
    """Return the endpoint under which an embedder's jobs are recorded, which is not that of an LLM's."""
    return batches.endpoint or f"{embedder.endpoint}/embeddings"


class BatchTexts:
    """Embeds texts by batch jobs. For one run and one event loop.

    Args:
        embedder: Client of the server.
        batches: Its batch API.
        journal: Keeps jobs, paid vectors, and claims of texts.
        llm: ``[llm]``, whose ``batch_*`` limits apply to all batch jobs.
        costs: Costs of answers at the price of batch jobs.
        reserve: Reserves the cost of the texts in the budget of the run.
        folder: Folder for the files of jobs.
        name: Name of the embedder, for messages.

    Attributes:
        submitter: Writes and creates the jobs.
        collector: Polls and collects them.
        truncated: 0; a server that cuts texts off does not tell.
        parallel: Number of calls of :meth:`embed` that may be in progress.
        size: Number of texts to hand over at once.
        grace: Seconds to wait for them after an interrupt.
        left: Texts of the current pass that are left for a later run.
        busy: Texts of the current pass that another process is asking for.
        unaffordable: Largest cost in USD of the first text of the current pass that does not fit into the budget.
    """

    grace = 5.0
    parallel = 1
    size = _SIZE
    truncated = 0

    def __init__(
        self,
        embedder: RemoteEmbedder,
        batches: EmbeddingBatches,
        journal: Journal,
        llm: LLMConfig,
        *,
        costs: EmbeddingCosts,
        reserve: JobReserve,
        folder: Path,
        name: str,
    ) -> None:
        endpoint = job_endpoint(embedder, batches)
        self._embedder = embedder
        self._journal = journal
        self._jobs = journal.batch_jobs
        self._rounds = llm.batch_rounds
        self._name = name
        self._costs = costs
        self._abandoning = False
        self._draft: str | None = None
        """Token of the job that is being written."""
        self._drafted: set[bytes] = set()
        """Keys of the texts in it."""
        self._given_up: list[str] = []
        self._reader = ThreadPoolExecutor(1, "enhancer-vectors")
        self.fingerprint = embedder.fingerprint
        self.submitter = Submitter[str](
            batches, journal, llm, endpoint=endpoint, model=embedder.model, reserve=reserve, folder=folder
        )
        self.collector = Collector(
            batches,
            journal,
            VectorBook(journal, costs, reserve.budget, model=embedder.model, name=name),
            endpoint=endpoint,
            max_attempts=llm.max_attempts,
            table="[embedder]",
            folder=folder,
        )
        self.left = self.busy = 0
        self.unaffordable: float | None = None

    @property
    def usage(self) -> UsageTotals:
        """Tokens and cost of the answers so far, and the number of requests without one."""
        return self._costs.usage

    # -- passes -----------------------------------------------------------------------------------------------------

    def begin_pass(self) -> None:
        """Begin a pass over the texts."""
        self.left = self.busy = 0
        self.unaffordable = None

    async def end_pass(self) -> None:
        """Submit the job that is being written. Texts that got no vector count from zero in the next run."""
        await self.submitter.send()
        given_up, self._given_up = self._given_up, []
        if given_up:
            await asyncio.wrap_future(self._jobs.clear_failed_requests(given_up))

    async def abandon(self) -> None:
        """Cancel all jobs, and submit nothing from here on."""
        self._abandoning = True
        self.collector.expect_cancelled()
        await self.collector.abandon()

    async def embed(self, texts: Sequence[str]) -> list[Outcome]:
        """Return the vector of each text, float32 ``[dim]``, that it comes later, or why it has none.

        Raises:
            ProviderError: A job that is full could not be submitted.
        """
        keys = [vector_key(self.fingerprint, text_hash(text)) for text in texts]
        found: dict[bytes, Outcome] = {key: IN_JOB for key in keys if self._is_drafted(key)}
        rest = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        found.update(await self._in_thread(lambda: self._journal.vectors.get(list(rest))))
        await self._decide_all({key: text for key, text in rest.items() if key not in found}, found)
        return [found[key] for key in keys]

    async def aclose(self) -> None:
        """Discard the job that is being written, and close the connections."""
        try:
            await self.submitter.close()
        finally:
            self._reader.shutdown(wait=False)
            await self._embedder.aclose()

    # -- texts ------------------------------------------------------------------------------------------------------

    async def _decide_all(self, texts: Mapping[bytes, str], found: dict[bytes, Outcome]) -> None:
        """Find the outcomes of texts that had no vector before they were claimed."""
        if not texts:
            return
        ours = await asyncio.wrap_future(self._journal.claim([key.hex() for key in texts]))
        written: set[str] = set()
        try:
            # Read after the claim: a process that held it before has written its vector by now.
            state = await self._in_thread(lambda: self._state(list(texts), ours))
            for key, text in texts.items():
                vector = state.vectors.get(key)
                found[key] = await self._decide(key, text, ours, state) if vector is None else vector
                if key.hex() in ours and found[key] is IN_JOB:
                    written.add(key.hex())
        finally:
            if others := ours - written:  # the job replaces the claims on what is in it
                self._journal.unclaim(others)

    def _state(self, keys: Sequence[bytes], ours: Collection[str]) -> _State:
        names = [key.hex() for key in keys]
        return _State(
            self._journal.vectors.get(keys),
            self._jobs.failed_requests([name for name in names if name in ours]),
            self._jobs.outstanding([name for name in names if name not in ours]),
        )

    async def _decide(self, key: bytes, text: str, ours: Collection[str], state: _State) -> Outcome:
        name = key.hex()
        if name not in ours:
            if name in state.outstanding:
                return IN_JOB
            self.busy += 1
            return _LEFT
        failure = permanent_failure(state.failed.get(name, []), self._rounds)
        if failure is not None:
            self._given_up.append(name)
            return NoVector(f"the embedder {self._name!r} made no vector of its text: {failure[0]}")
        congested = self.submitter.queue_full or self.collector.queue_full
        if self._abandoning or congested or self.unaffordable is not None:
            self.left += 1
            return _LEFT
        return await self._write(key, text)

    async def _write(self, key: bytes, text: str) -> Outcome:
        row = BatchRequest(
            hashes=(key.hex(),),
            ids=None,
            template=TEMPLATE,
            request="",
            attempt=1,
            estimated_prompt_tokens=estimate_tokens(text),
            max_cost_usd=self._costs.most([text]),  # recorded without a limit, too: a later run may have one
        )
        try:
            await self.submitter.add(text, row)
        except OverBudgetError as short:
            # Open jobs may cost less than was reserved for them: the rest is tried again once they are collected.
            self.unaffordable = short.max_cost
            self.left += 1
            return _LEFT
        except RequestTooLargeError:
            return NoVector("its text is larger than the file of a batch job may be")
        if self.submitter.writing != self._draft:
            self._draft, self._drafted = self.submitter.writing, set()
        self._drafted.add(key)
        return IN_JOB

    def _is_drafted(self, key: bytes) -> bool:
        return self.submitter.writing == self._draft and key in self._drafted

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._reader, function)


class _State(NamedTuple):
    """State of texts in the journal."""

    vectors: dict[bytes, NDArray[np.float32]]
    failed: dict[str, list[FailedRequest]]
    """Failed requests about those that this run has claimed."""
    outstanding: set[str]
    """Those of the others that are in open jobs."""


class VectorBook:
    """Writes the results of batch jobs to the journal.

    Args:
        journal: The journal.
        costs: Costs of answers at the price of batch jobs.
        budget: Budget that pays for them.
        model: Model that the price applies to.
        name: Name of the embedder, for messages.
    """

    def __init__(self, journal: Journal, costs: EmbeddingCosts, budget: Budget, *, model: str, name: str) -> None:
        self._jobs = journal.batch_jobs
        self._costs = costs
        self._budget = budget
        self._model = model
        self._name = name

    @property
    def usage(self) -> UsageTotals:
        """Tokens and cost of the answers so far."""
        return self._costs.usage

    async def record(self, job: BatchJob, results: Sequence[tuple[int, Embeddings | ProviderError]]) -> None:
        """Write results to the journal, with the cost of the answers, before they are used."""
        failed = [failed_result(number, result) for number, result in results if isinstance(result, ProviderError)]
        if failed:
            await asyncio.wrap_future(self._jobs.record_results(job, failed))
        answers = [(number, result) for number, result in results if not isinstance(result, ProviderError)]
        rows = [self._row(job, number, answer) for number, answer in answers]
        ceilings = await asyncio.wrap_future(self._jobs.record_vectors(job, rows))
        for (_, answer), row, most in zip(answers, rows, ceilings, strict=True):
            if most is not None:
                self._costs.count(answer, row.cost_usd)
                # Open jobs are reserved in the journal, not in the budget of this run.
                self._budget.settle(0.0, most if row.cost_usd is None else row.cost_usd, bound=most)

    def _row(self, job: BatchJob, number: int, answer: Embeddings) -> VectorResult:
        # The price of another model, which was configured when the job was submitted, is unknown.
        cost = self._costs.of(answer) if job.model == self._model else answer.cost_usd
        table, why = answer.vectors, ""
        if table.ndim != 2 or len(table) != 1:
            why, table = f"an array of shape {list(table.shape)}", np.empty((0, 0), np.float32)
        elif not usable_rows(table).all():
            why, table = "a vector that is zero or not finite", table[:0]
        return VectorResult(number, table, answer.tokens, cost, f"the server sent {why}" if why else "")
