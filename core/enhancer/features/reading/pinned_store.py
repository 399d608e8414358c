"""Read from one snapshot of the store while others write to it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer.contracts.store import FeatureStore


class PinnedStore:
    """Gives the store, or one snapshot of it within :meth:`pinned`.

    Args:
        store: Opens the store. Called at the first read only: a command that reads no vectors opens no store.
    """

    def __init__(self, store: Callable[[], FeatureStore]) -> None:
        self._open = store
        self._lock = threading.RLock()
        self._depth = 0
        self._snapshots = contextlib.ExitStack()
        self._snapshot: FeatureStore | None = None

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Take one snapshot at the first read and read from it until the context ends.

        May be nested. Threads share the snapshot; the last to leave closes it.
        """
        with self._lock:
            self._depth += 1
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if not self._depth:
                    self._snapshot = None
                    self._snapshots.close()

    @property
    def store(self) -> FeatureStore:
        """The store to read from."""
        with self._lock:
            if not self._depth:
                return self._open()
            if self._snapshot is None:
                self._snapshot = self._snapshots.enter_context(self._open().snapshot())
            return self._snapshot
