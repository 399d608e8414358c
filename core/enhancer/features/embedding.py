"""Texts become vectors and vectors become records, in batches, in one thread of their own, while calls are out."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.records import Unembedded

BATCH = 128
_WAITING = 4 * BATCH
_LINGER = 0.25
"""Seconds that a batch waits to fill up."""


class EmbeddingStage:
    """Takes records without vectors and stores them with. For one event loop.

    Args:
        embedder: Made at first use.
        store: Where the records go.
        stored: Told of each batch once it is on disk, in the event loop.
        broken: Told once if embedding or storing fails; later records are let go (their answers are in the journal).
    """

    def __init__(
        self,
        embedder: Callable[[], Embedder],
        store: FeatureStore,
        *,
        stored: Callable[[Sequence[Unembedded]], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._stored = stored
        self._broken = broken
        self._queue: asyncio.Queue[Unembedded | None] = asyncio.Queue(_WAITING)
        self._thread = ThreadPoolExecutor(1, "enhancer-embed")
        self._discard = False
        self._task = asyncio.create_task(self._run())

    async def put(self, one: Unembedded) -> None:
        """Hand over a record; waits while the stage is behind."""
        await self._queue.put(one)

    def discard(self) -> None:
        """Let go of what waits: an interrupted run ends quickly, and the next one embeds from the journal."""
        self._discard = True

    async def finish(self) -> None:
        """Wait until everything that was handed over is stored."""
        await self._queue.put(None)
        await self._task
        self._thread.shutdown()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        ended = False
        while not ended:
            batch, ended = await self._gather()
            if not batch or self._discard:
                continue
            try:
                await loop.run_in_executor(self._thread, self._embed_and_store, batch)
                self._stored(batch)
            except Exception as error:  # noqa: BLE001 - handed to whoever started the run
                self._discard = True
                self._broken(error)

    async def _gather(self) -> tuple[list[Unembedded], bool]:
        first = await self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LINGER
        while len(batch) < BATCH:
            try:
                one = self._queue.get_nowait()
            except asyncio.QueueEmpty:
                if self._discard or loop.time() >= deadline:
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        one = await self._queue.get()
                        if one is None:
                            return batch, True
                        batch.append(one)
                continue
            if one is None:
                return batch, True
            batch.append(one)
        return batch, False

    def _embed_and_store(self, batch: Sequence[Unembedded]) -> None:
        embedder = self._embedder()
        vectors = embedder.encode([one.text for one in batch])
        if vectors.shape[0] != len(batch):
            raise StoreError(f"the embedder gave {vectors.shape[0]} vectors for {len(batch)} texts")
        fingerprint = embedder.fingerprint
        for one, vector in zip(batch, vectors, strict=True):
            one.record.vector = np.ascontiguousarray(vector, np.float32)
            one.record.embedder = fingerprint
        self._store.put([one.record for one in batch])
