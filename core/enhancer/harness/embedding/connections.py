"""Choose how texts are embedded: by a model in this process, or by a server, with its limits and its price."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Self, TypeVar

from enhancer.contracts.batch import OffersEmbeddingBatches
from enhancer.contracts.embedder import RemoteEmbedder
from enhancer.contracts.llm import Price
from enhancer.errors import ConfigError
from enhancer.harness.calls.budget import Budget
from enhancer.harness.calls.gate import Gate
from enhancer.harness.embedding.batch_texts import BatchTexts, job_endpoint
from enhancer.harness.embedding.costs import EmbeddingCosts
from enhancer.harness.embedding.local_texts import LocalTexts
from enhancer.harness.embedding.remote_texts import RemoteTexts

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from enhancer.config.schema import EmbedderConfig, LLMConfig
    from enhancer.contracts.batch import EmbeddingBatches
    from enhancer.contracts.embedder import Embedder
    from enhancer.harness.batches.submission import JobReserve
    from enhancer.harness.embedding.outcomes import Encoder, Outcome
    from enhancer.harness.journal.journal import Journal

T = TypeVar("T")
_CONCURRENCY, _TIMEOUT = 8, 60.0
_OF_SERVERS = ("price", "concurrency", "requests_per_minute", "tokens_per_minute", "timeout", "batch")


def embedding_price(embedder: Embedder, config: EmbedderConfig) -> float | None:
    """Return the price of an embedder in USD per million tokens: 0 if it costs nothing, None if it is unknown."""
    if not isinstance(embedder, RemoteEmbedder) or config.price == "free":
        return 0.0
    return embedder.price() if config.price is None else config.price


def check_price(embedder: RemoteEmbedder, config: EmbedderConfig, max_cost: float | None) -> None:
    """Refuse a limit on the cost without a price.

    Raises:
        ConfigError: There is a limit, and the price is unknown.
    """
    if max_cost is not None and embedding_price(embedder, config) is None:
        raise ConfigError(
            f"[llm] max_cost is set, but the price of the embedder's model {embedder.model!r} is unknown",
            hint='set [embedder] price in USD per million tokens, or price = "free"',
        )


def check_embedder(embedder: Embedder, config: EmbedderConfig, max_cost: float | None) -> None:
    """Check that an embedder can be called as configured. Calls no server.

    Raises:
        AuthenticationError: The API key is missing.
        ConfigError: An option has no effect, or there is a limit on the cost but no price.
    """
    if not isinstance(embedder, RemoteEmbedder):
        for name in _OF_SERVERS:
            if getattr(config, name) is not None:
                raise ConfigError(
                    f"[embedder] {name} is set, but {config.use!r} calls no server",
                    hint="it would be ignored: remove it",
                )
        return
    embedder.check()
    check_price(embedder, config, max_cost)
    embedding_batches(embedder, config)


def embedding_batches(embedder: Embedder, config: EmbedderConfig) -> EmbeddingBatches | None:
    """Return the batch API by which ``--batch`` embeds; None if it sends texts directly.

    Raises:
        ConfigError: ``[embedder] batch = true``, and there is none, or it would save nothing.
    """
    wanted, batches = config.batch, None
    if wanted is not False and isinstance(embedder, RemoteEmbedder):
        batches = embedder.batches() if isinstance(embedder, OffersEmbeddingBatches) else None
        if wanted and batches is None:
            raise ConfigError(
                f"[embedder] batch is true, but the embedder {config.use!r} has no batch API",
                hint="remove it: its texts are then embedded directly, with --batch too",
            )
        if wanted and embedding_price(embedder, config) == 0:
            raise ConfigError(
                "[embedder] batch is true, but its price is 0, so a batch job would save nothing", hint="remove it"
            )
        if batches is not None and not wanted and not (batches.known and embedding_price(embedder, config) != 0):
            batches = None
    return batches


def connect_texts(
    embedder: Embedder, config: EmbedderConfig, journal: Journal | None, budget: Budget
) -> LocalTexts | RemoteTexts:
    """Return what embeds texts in an event loop.

    Args:
        embedder: The embedder.
        config: ``[embedder]``.
        journal: Keeps paid vectors; not used if nothing is charged.
        budget: Budget of the run.

    Raises:
        AuthenticationError: The API key is missing.
        ConfigError: An option has no effect, or there is a limit on the cost but no price.
    """
    check_embedder(embedder, config, 0.0 if budget.capped else None)
    if not isinstance(embedder, RemoteEmbedder):
        return LocalTexts(embedder, config.use)
    price, timeout = embedding_price(embedder, config), config.timeout or _TIMEOUT
    concurrency = config.concurrency or _CONCURRENCY
    gate = Gate(
        min(concurrency, embedder.capacity or concurrency),
        requests_per_minute=config.requests_per_minute,
        tokens_per_minute=config.tokens_per_minute,
        patience=max(120.0, 2 * timeout),
        subject=f"the embedder {config.use!r} at {embedder.endpoint}",
    )
    return RemoteTexts(
        embedder,
        None if price == 0 else journal,
        gate,
        budget,
        price=price,
        own_price=config.price is not None,
        concurrency=concurrency,
        timeout=timeout,
        name=config.use,
    )


def connect_batch_texts(
    embedder: Embedder,
    config: EmbedderConfig,
    journal: Journal,
    llm: LLMConfig,
    *,
    reserve: JobReserve,
    folder: Path,
) -> BatchTexts | LocalTexts | RemoteTexts:
    """Return what embeds texts in a run of batch jobs: by jobs, or directly, as :func:`embedding_batches` says.

    Args:
        embedder: The embedder.
        config: ``[embedder]``.
        journal: Keeps jobs and paid vectors.
        llm: ``[llm]``, whose ``batch_*`` limits apply to all batch jobs.
        reserve: Reserves the cost of jobs in the budget of the run.
        folder: Folder for the files of jobs.

    Raises:
        AuthenticationError: The API key is missing.
        ConfigError: An option has no effect, there is a limit on the cost but no price, or jobs are open that the
            configuration does not collect.
    """
    budget = reserve.budget
    batches = embedding_batches(embedder, config)
    if not isinstance(embedder, RemoteEmbedder):
        return connect_texts(embedder, config, journal, budget)
    if batches is None:
        if isinstance(embedder, OffersEmbeddingBatches) and (
            jobs := journal.batch_jobs.open_jobs(job_endpoint(embedder, embedder.batches()))
        ):
            raise ConfigError(
                f"texts are in open batch jobs of {embedder.endpoint} ({len(jobs)}), and [embedder] batch is not true",
                hint="collect them with batch = true first, or cancel them with --batch --abandon beside it",
            )
        return connect_texts(embedder, config, journal, budget)
    check_embedder(embedder, config, 0.0 if budget.capped else None)
    price = embedding_price(embedder, config)
    costs = EmbeddingCosts(price, own_price=config.price is not None, share=1.0 - llm.batch_discount)
    return BatchTexts(
        embedder,
        batches,
        journal,
        llm,
        costs=costs,
        reserve=reserve,
        folder=folder,
        name=config.use,
    )


def embedding_budget(max_cost: float | None = None) -> Budget:
    """Return a budget of embeddings alone: with a limit in USD, or without one."""
    return Budget(max_cost, Price(0.0, 0.0))


@contextlib.contextmanager
def encoder(
    embedder: Embedder, config: EmbedderConfig | None, journal: Journal | None, budget: Budget | None = None
) -> Iterator[Encoder]:
    """Provide what embeds texts for code without an event loop.

    Args:
        embedder: The embedder.
        config: ``[embedder]``; None for the defaults.
        journal: Keeps paid vectors.
        budget: Budget to pay from; by default one without a limit.
    """
    if config is None:
        from enhancer.config.schema import EmbedderConfig as Config

        config = Config(use=type(embedder).__name__)
    budget = embedding_budget() if budget is None else budget
    texts = connect_texts(embedder, config, journal, budget)
    if isinstance(texts, LocalTexts):
        yield texts
        return
    with _LoopThread() as loop:
        try:
            yield _Waiting(texts, loop)
        finally:
            loop.run(texts.aclose())


class _Waiting:
    """Embeds texts in an event loop of another thread, and waits for them."""

    def __init__(self, texts: RemoteTexts, loop: _LoopThread) -> None:
        self._texts = texts
        self._loop = loop
        self.fingerprint = texts.fingerprint
        self.size = texts.size * texts.parallel
        self.usage = texts.usage
        self.truncated = 0

    def encode(self, texts: Sequence[str]) -> list[Outcome]:
        return self._loop.run(self._texts.embed(texts))


class _LoopThread:
    """An event loop in a thread of its own, so that a caller may have a running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="enhancer-embed", daemon=True)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and wait for it; at Ctrl-C, cancel it."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
