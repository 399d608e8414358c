"""Embed texts by a server: rate limits, budget, deadline, retries and journal, as for calls to an LLM."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enhancer.errors import (
    AuthenticationError,
    CircuitOpenError,
    ConfigError,
    ConnectionFailedError,
    DeadlineError,
    EmbedderError,
    ProviderError,
    RequestError,
    ServerError,
)
from enhancer.harness.calls.cache_key import text_hash
from enhancer.harness.calls.caller import may_be_charged
from enhancer.harness.calls.retry import TRANSIENT, is_transient, retrying
from enhancer.harness.calls.token_estimate import estimate_tokens
from enhancer.harness.embedding.costs import EmbeddingCosts
from enhancer.harness.embedding.outcomes import IN_JOB, NoVector, Worth, usable_rows
from enhancer.harness.embedding.server_trial import PLAIN_TEXT, ServerTrial
from enhancer.harness.embedding.vector_lookup import VectorLookup
from enhancer.harness.journal.paid_vectors import TEMPLATE, PaidVectors, vector_key
from enhancer.harness.redact import redact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts.embedder import Embeddings, RemoteEmbedder
    from enhancer.harness.calls.budget import Budget
    from enhancer.harness.calls.gate import Gate, Ticket
    from enhancer.harness.embedding.outcomes import Outcome
    from enhancer.harness.journal.journal import Journal

_MAX_ATTEMPTS = 6
_ATTEMPTS_AT_PART = 2
"""Attempts at a part of a request that the server failed at."""
_MAX_REFUSED = 10
"""Texts that the server refuses in a row, with no answer between, before the run stops."""
_PER_CALL = 3
"""Requests under way for each that may be at the server: others wait for the journal or the store meanwhile."""
_SHORTEST_WAIT, _LONGEST_WAIT = 0.1, 3.0
"""Seconds to wait for a text that another process has sent."""
_HINT = "vectors and profiles that were paid for are kept: run again when it answers"
_HINT_BROKEN = f"check the log of the server, and [embedder] model and api_base; {_HINT}"


class RemoteTexts:
    """Embeds texts by a server. For one event loop.

    A text that is in the journal, or in another request at the moment, is not sent. If the server refuses a request, or
    fails at it again and again, and yet answers another one, the texts are halved until the one at fault is found.

    Args:
        embedder: Client of the server.
        journal: Keeps paid vectors, and claims of texts that are sent; None to keep none.
        gate: Rate limiter of every attempt.
        budget: Budget that pays for every attempt.
        price: USD per million tokens; None if unknown.
        own_price: Whether the price is configured, so that it takes precedence over the cost that the server reports.
        concurrency: Largest number of requests at the server.
        timeout: Seconds for a whole request.
        name: Name of the embedder, for messages.
        sleep: Waits between attempts.

    Attributes:
        usage: Tokens and cost of the answers so far, and the number of requests without one.
        truncated: 0; a server that cuts texts off does not tell.
        parallel: Number of calls of :meth:`embed` that may be in progress.
        size: Number of texts to hand over at once.
        grace: Seconds to wait for them after an interrupt.
    """

    grace = 5.0

    def __init__(
        self,
        embedder: RemoteEmbedder,
        journal: Journal | None,
        gate: Gate,
        budget: Budget,
        *,
        price: float | None,
        own_price: bool = False,
        concurrency: int,
        timeout: float = 60.0,
        name: str = "",
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._embedder = embedder
        self._journal = journal
        self._vectors = None if journal is None else journal.vectors
        self._gate = gate
        self._budget = budget
        self._price = price
        self._costs = EmbeddingCosts(price, own_price=own_price)
        # A claim costs a write. It is worth one where texts cost anything, or may be in a batch job.
        self._claims = journal is not None and bool(price or journal.batch_jobs.open_jobs())
        self._timeout = timeout
        self._name = name or type(embedder).__name__
        self._sleep = sleep
        self._worth = Worth(self._name)
        self._trial = ServerTrial(self._ask_plain, name=self._name, hint=_HINT_BROKEN, sleep=sleep)
        self._refused = 0
        self._dim: int | None = None
        self._in_flight: dict[bytes, asyncio.Future[Outcome]] = {}
        self._lookup = None if self._vectors is None else VectorLookup(self._vectors)
        self.fingerprint = embedder.fingerprint
        self.size = embedder.max_texts
        self.parallel = _PER_CALL * concurrency + 1
        self.usage = self._costs.usage
        self.truncated = 0

    async def embed(self, texts: Sequence[str]) -> list[Outcome]:
        """Return the vector of each text, float32 ``[dim]``, or why it has none. What was paid for is on disk then.

        Raises:
            EmbedderError: The server cannot be reached, or refuses whatever it is sent.
            AuthenticationError: The API key is missing or was rejected.
            BudgetError: The next request does not fit in the budget.
        """
        keys = [vector_key(self.fingerprint, text_hash(text)) for text in texts]
        futures: dict[bytes, asyncio.Future[Outcome]] = {}
        mine: dict[bytes, str] = {}
        loop = asyncio.get_running_loop()
        for key, text in zip(keys, texts, strict=True):
            if key not in futures:
                known = self._in_flight.get(key)
                if known is None:
                    known = self._in_flight[key] = loop.create_future()
                    mine[key] = text
                futures[key] = known
        try:
            await self._settle(dict(mine))
        except BaseException as error:
            for key in mine:
                if not futures[key].done():
                    futures[key].set_exception(error if isinstance(error, Exception) else _AbandonedError())
                    futures[key].exception()  # mark it as seen: nobody may be waiting
            raise
        finally:
            for key in mine:
                del self._in_flight[key]
        return [await futures[key] for key in keys]

    async def aclose(self) -> None:
        """Close the connections."""
        if self._lookup is not None:
            self._lookup.close()
        await self._embedder.aclose()

    async def _settle(self, texts: dict[bytes, str]) -> None:
        """Resolve the futures of these texts."""
        wait = _SHORTEST_WAIT
        while texts:
            ours = await self._claim(texts)
            try:
                # Read after the claim: a process that held it before has written its vector by now.
                if self._lookup is not None:
                    for key, row in (await self._lookup.get(list(texts))).items():
                        self._in_flight[key].set_result(row)
                        del texts[key]
                await self._resolve_all([(key, texts.pop(key)) for key in ours if key in texts])
            finally:
                self._unclaim(ours)
            if texts:
                self._leave_to_jobs(texts)
            if texts:  # another process is asking for these
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LONGEST_WAIT)

    async def _claim(self, texts: Mapping[bytes, str]) -> list[bytes]:
        """Claim texts, so that no two processes pay for one; return those that may be sent."""
        if self._journal is None or not self._claims:
            return list(texts)
        ours = await asyncio.wrap_future(self._journal.claim([key.hex() for key in texts]))
        return [key for key in texts if key.hex() in ours]

    def _unclaim(self, keys: Sequence[bytes]) -> None:
        if self._journal is not None and self._claims and keys:
            self._journal.unclaim([key.hex() for key in keys])

    def _leave_to_jobs(self, texts: dict[bytes, str]) -> None:
        """Resolve those of the texts that are in open batch jobs, which ``--batch`` collects."""
        if self._journal is None:
            return
        in_jobs = self._journal.batch_jobs.outstanding([key.hex() for key in texts])
        for key in [key for key in texts if key.hex() in in_jobs]:
            self._in_flight[key].set_result(IN_JOB)
            del texts[key]

    async def _resolve_all(self, texts: Sequence[tuple[bytes, str]]) -> None:
        batches = list(self._batches(texts))
        if len(batches) == 1:
            await self._resolve(batches[0])
            return
        # The others go on if one fails: what they are paid for is kept.
        for result in await asyncio.gather(*map(self._resolve, batches), return_exceptions=True):
            if result is not None:
                raise result

    def _batches(self, texts: Sequence[tuple[bytes, str]]) -> Iterator[list[tuple[bytes, str]]]:
        """Divide texts into requests."""
        most, most_tokens = self._embedder.max_texts, self._embedder.max_tokens
        batch: list[tuple[bytes, str]] = []
        tokens = 0
        for one in texts:
            more = estimate_tokens(one[1]) if most_tokens is not None else 0
            if batch and (len(batch) == most or (most_tokens is not None and tokens + more > most_tokens)):
                yield batch
                batch, tokens = [], 0
            batch.append(one)
            tokens += more
        if batch:
            yield batch

    async def _resolve(
        self, batch: Sequence[tuple[bytes, str]], attempts: int = _MAX_ATTEMPTS, *, tried: bool = False
    ) -> None:
        """Resolve the futures of the texts of one request, by several if the server does not answer it.

        Args:
            batch: Keys and texts.
            attempts: Largest number of attempts.
            tried: Whether the server has answered a plain text since it failed at these.
        """
        request = self._request(batch, tried=tried)
        try:
            outcomes = await self._call(request, attempts)
        except ProviderError as error:
            if not self._is_about_a_text(error):
                raise self._named(error) from error
            await self._try_server(request)
            if len(batch) > 1:
                half = len(batch) // 2
                await self._resolve(batch[:half], _ATTEMPTS_AT_PART, tried=True)
                await self._resolve(batch[half:], _ATTEMPTS_AT_PART, tried=True)
                return
            outcomes = [self._refusal(error)]
        for (key, _), outcome in zip(batch, outcomes, strict=True):
            self._in_flight[key].set_result(outcome)

    async def _try_server(self, request: _Request) -> None:
        """Find out whether the server works, once for each request that failed.

        Raises:
            EmbedderError: It does not.
            AuthenticationError: It rejects the API key.
        """
        if not request.tried:
            request.tried = await self._trial.run(request.answers)

    def _is_about_a_text(self, error: ProviderError) -> bool:
        """Check whether the server may answer without one of the texts."""
        if isinstance(error, AuthenticationError):
            return error.status == 403 and self._trial.answers > 0
        if isinstance(error, RequestError):
            return self._trial.answers > 0 or error.status != 404  # a wrong address or model, as a rule
        return isinstance(error, ServerError) and error.status in (None, 200, 500)

    def _refusal(self, error: ProviderError) -> NoVector:
        self._refused += 1
        if self._refused >= _MAX_REFUSED:
            raise EmbedderError(
                f"the embedder {self._name!r} refused {self._refused} texts in a row; the last time: {error.message}",
                hint=error.hint or _HINT,
            )
        return NoVector(f"the embedder {self._name!r} refused its text: {error.message}")

    def _named(self, error: ProviderError) -> Exception:
        """Return an error that names the embedder; a rejected key keeps its type, and so its exit code."""
        message = f"the embedder {self._name!r} failed: {error.message}"
        if isinstance(error, AuthenticationError):
            return AuthenticationError(message, hint=error.hint, status=error.status)
        return EmbedderError(message, hint=error.hint or _HINT)

    async def _call(self, request: _Request, attempts: int) -> list[Outcome]:
        """Send a request until it is answered. Its vectors are in the journal when this method returns."""

        async def once() -> list[Outcome]:
            try:
                return await self._send_once(request)
            except (ServerError, ConnectionFailedError):
                await self._try_server(request)
                raise

        async def again() -> list[Outcome]:
            # A request that is answered at once never enters the retry layer, whose first attempt repeats the error.
            if first:
                raise first.pop()
            return await once()

        try:
            try:
                return await once()
            except TRANSIENT as error:
                first: list[ProviderError] = [error]
            return await retrying(attempts, sleep=self._sleep)(again)
        except CircuitOpenError as error:
            raise EmbedderError(error.message, hint=_HINT) from None
        except TRANSIENT as error:
            if not self._is_about_a_text(error):
                with contextlib.suppress(CircuitOpenError):  # raised for the others; this one ends the run by itself
                    self._gate.exhausted(error)
            raise

    async def _ask_plain(self) -> None:
        """Send one plain text, once."""
        plain = (vector_key(self.fingerprint, text_hash(PLAIN_TEXT)), PLAIN_TEXT)
        request = self._request([plain], tried=True)
        await self._send_once(request, is_trial=True)

    def _request(self, batch: Sequence[tuple[bytes, str]], *, tried: bool) -> _Request:
        texts = [text for _, text in batch]
        # Where nothing is charged, the number of tokens matters to no one, and a rough one will do.
        tokens = sum(map(estimate_tokens, texts)) if self._price else sum(map(len, texts)) // 4
        most = self._costs.most(texts) if self._budget.capped else 0.0
        return _Request([key for key, _ in batch], texts, tokens, most, tried)

    async def _send_once(self, request: _Request, *, is_trial: bool = False) -> list[Outcome]:
        ticket = await self._acquire(float(request.tokens), request.most)
        while self._trial.running and not is_trial:
            self._budget.settle(request.most, 0.0)
            self._gate.abandoned(ticket)
            await self._trial.ended()
            ticket = await self._acquire(float(request.tokens), request.most)
        request.answers = self._trial.answers
        answer = await self._send(request, ticket)
        cost = self._costs.of(answer)
        self._costs.count(answer, cost)
        self._budget.settle(request.most, request.most if cost is None else cost)
        tokens = None if answer.tokens is None else float(answer.tokens)
        usable = usable_rows(answer.vectors)
        if not self._price:
            self._gate.succeeded(ticket, answer.headers, tokens)
            await self._write(request, answer, usable, cost)
            return self._worth.outcomes(answer.vectors, usable)
        try:
            # Where vectors cost, a request is in flight until they are on disk, which bounds those a kill can lose.
            await self._write(request, answer, usable, cost)
        except BaseException:
            self._gate.abandoned(ticket)
            raise
        self._gate.succeeded(ticket, answer.headers, tokens)
        return self._worth.outcomes(answer.vectors, usable)

    async def _acquire(self, tokens: float, most: float) -> Ticket:
        ticket = self._gate.enter_now(tokens)
        if ticket is None:
            ticket = await self._gate.enter(tokens)
        if not self._budget.reserve_now(most):
            try:
                await self._budget.reserve(most)
            except BaseException:
                self._gate.abandoned(ticket)
                raise
        return ticket

    async def _send(self, request: _Request, ticket: Ticket) -> Embeddings:
        """Return the answer of the server. On failure, release the ticket and the reservation."""
        most = request.most
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._embedder.embed(request.texts)
            self._check_shape(answer.vectors, len(request.texts))
        except TimeoutError:
            failure: ProviderError = DeadlineError(f"no answer within [embedder] timeout = {self._timeout:g} seconds")
        except ProviderError as error:
            failure = error
            failure.message = redact(failure.message)
            failure.args = (failure.message,)
        except asyncio.CancelledError:
            # It may have been answered and charged, so the budget counts it as such.
            self._budget.settle(most, most)
            self.usage.unanswered_usd += most
            self._gate.abandoned(ticket)
            raise
        except (EmbedderError, ConfigError):
            self._count_failed(most, most)
            self._gate.refused(ticket)
            raise
        except Exception as error:  # noqa: BLE001 - a bug in a plugin
            failure = ProviderError(redact(f"{type(error).__name__}: {str(error)[:300]}"))
        else:
            self._trial.answered()
            self._refused = 0
            return answer
        self._count_failed(most, most if may_be_charged(failure) else 0.0)
        if is_transient(failure):
            self._gate.failed(ticket, failure)
        else:
            self._gate.refused(ticket)
        raise failure

    def _count_failed(self, reserved: float, charged: float) -> None:
        """Count a request without an answer, and release what was reserved for it."""
        self._trial.failed()
        self._budget.settle(reserved, charged)
        self.usage.failed += 1
        self.usage.unanswered_usd += charged
        if self._journal is not None:
            self._journal.failures.add(self._embedder.model, TEMPLATE)

    def _check_shape(self, table: NDArray[np.float32], texts: int) -> None:
        if table.ndim != 2 or len(table) != texts:
            raise ServerError(f"{self._embedder.endpoint} sent an array of shape {list(table.shape)} for {texts} texts")
        if self._dim is None:
            self._dim = table.shape[1]
        if table.shape[1] != self._dim:
            raise EmbedderError(
                f"the embedder {self._name!r} sent vectors of {self._dim:,} numbers, and then of {table.shape[1]:,}",
                hint="the model was exchanged while it was in use: run again",
            )

    async def _write(
        self, request: _Request, answer: Embeddings, usable: NDArray[np.bool_], cost: float | None
    ) -> None:
        if self._vectors is None:
            return
        whole = bool(usable.all())
        paid = PaidVectors(
            request.keys if whole else [key for key, good in zip(request.keys, usable, strict=True) if good],
            answer.vectors if whole else answer.vectors[usable],
            len(request.keys),
            answer.tokens,
            request.tokens,
            cost,
            self._embedder.model,
        )
        await self._vectors.record_soon(paid)


@dataclass(slots=True)
class _Request:
    """Texts to send together."""

    keys: list[bytes]
    texts: list[str]
    tokens: int
    """Estimated tokens."""
    most: float
    """Largest cost in USD; 0 without a limit."""
    tried: bool
    """Whether the server has answered a plain text since it failed at this request."""
    answers: int = 0
    """Number of answers when it was sent last."""


class _AbandonedError(Exception):
    """The request that another one waits for was cancelled."""
