"""Look up vectors that were paid for, all look-ups that gather at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.harness.journal.paid_vectors import VectorJournal

    Found = dict[bytes, NDArray[np.float32]]


class VectorLookup:
    """Reads the journal in a thread of its own. For one event loop.

    Each visit to another thread costs as much as the look-up of many vectors, so those that are asked for during one
    are looked up together in the next.

    Args:
        journal: Vectors of the journal.
    """

    def __init__(self, journal: VectorJournal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, "enhancer-vectors")
        self._waiting: list[tuple[Sequence[bytes], asyncio.Future[Found]]] = []
        self._task: asyncio.Task[None] | None = None

    async def get(self, keys: Sequence[bytes]) -> Found:
        """Return the vectors of those keys that have any.

        Raises:
            StoreError: The journal cannot be read.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()
        self._waiting.append((keys, future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._read())
        return await future

    def close(self) -> None:
        """End the thread, without waiting for it."""
        self._thread.shutdown(wait=False)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            keys = [key for some, _ in waiting for key in some]
            try:
                found = await loop.run_in_executor(self._thread, self._journal.get, keys)
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                for _, future in waiting:
                    if not future.done():
                        future.set_exception(error)
                continue
            for some, future in waiting:
                if not future.done():
                    future.set_result({key: found[key] for key in some if key in found} if found else {})
