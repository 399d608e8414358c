"""Texts become vectors and vectors become records, in batches, in one thread of their own, while calls are out."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.storing.records import Unembedded

BATCH = 128
"""Records that are embedded and stored together, as soon as there are so many."""
_WAITING = 4 * BATCH
"""Records that may wait; whatever waits goes into one batch."""
_LEAVE = 1.0
"""Seconds after an interrupt for which the batch in hand is waited for: loading a model can take much longer."""
_LINGER = 0.25
"""Seconds that a batch waits to fill up."""


class EmbeddingStage:
    """Embeds records that lack a vector, and stores them. For one event loop.

    Args:
        embedder: Makes the vectors.
        store: Where the records go.
        stored: Told of each batch once it is on disk, in the event loop.
        broken: Told once if embedding or storing fails; later records are let go (their answers are in the journal).
    """

    def __init__(
        self,
        embedder: Embedder,
        store: FeatureStore,
        *,
        stored: Callable[[Sequence[Unembedded]], None],
        broken: Callable[[BaseException], None],
    ) -> None:
        self._embedder = embedder
        self._store = store
        self._stored = stored
        self._broken = broken
        self._items: list[Unembedded] = []
        self._ended = False
        # Set when: a record waits; a batch is full or need not fill up; there is room for more records.
        self._some, self._full, self._room = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "enhancer-embed")
        self._discard = False
        self._left = asyncio.Event()
        self._abandoned = False
        self._storing = threading.Lock()
        self._task = asyncio.create_task(self._run())

    async def put(self, one: Unembedded) -> None:
        """Hand over a record; waits while the stage is behind."""
        while len(self._items) >= _WAITING:
            self._room.clear()
            await self._room.wait()
        self._items.append(one)
        if len(self._items) == 1:
            self._some.set()
        if len(self._items) == BATCH:
            self._full.set()

    def discard(self) -> None:
        """Let go of what waits: an interrupted run ends quickly, and the next one embeds from the journal."""
        self._discard = True
        self._full.set()
        asyncio.get_running_loop().call_later(_LEAVE, self._left.set)

    async def finish(self) -> None:
        """Wait until everything that was handed over is stored."""
        self._ended = True
        self._some.set()
        self._full.set()
        await self._task
        self._thread.shutdown(wait=not self._abandoned)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := await self._gather():
            if self._discard:
                continue
            try:
                work = loop.run_in_executor(self._thread, self._embed_and_store, batch)
                if await self._waited_for(work):
                    self._stored(batch)
            except Exception as error:  # noqa: BLE001 - handed to whoever started the run
                self._discard = True
                self._broken(error)

    async def _waited_for(self, work: asyncio.Future[None]) -> bool:
        """Whether the batch in hand is stored; not so if the run was interrupted and it takes too long."""
        left = asyncio.ensure_future(self._left.wait())
        either: set[asyncio.Future[Any]] = {work, left}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
        if not work.done():
            with self._storing:  # what is being stored is stored whole; afterwards the store may be closed
                self._abandoned = not work.done()
        if self._abandoned:
            work.cancel()
            return False
        await work
        return True

    async def _gather(self) -> list[Unembedded]:
        """What has come together; nothing at the end."""
        while not self._items and not self._ended:
            self._some.clear()
            await self._some.wait()
        if len(self._items) < BATCH and not self._ended and not self._discard:
            self._full.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LINGER):
                    await self._full.wait()
        batch, self._items = self._items, []
        self._room.set()
        return batch

    def _embed_and_store(self, batch: Sequence[Unembedded]) -> None:
        vectors = self._embedder.encode([one.text for one in batch])
        if vectors.shape[0] != len(batch):
            raise StoreError(f"the embedder gave {vectors.shape[0]} vectors for {len(batch)} texts")
        fingerprint = self._embedder.fingerprint
        for one, vector in zip(batch, vectors, strict=True):
            one.record.vector = np.ascontiguousarray(vector, np.float32)
            one.record.embedder = fingerprint
        with self._storing:
            if not self._abandoned:
                self._store.put([one.record for one in batch])
