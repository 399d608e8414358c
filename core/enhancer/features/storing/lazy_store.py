"""Create a store when something is first written to it, so that commands that only read leave nothing on disk."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.record import PROFILE_ASPECT, Key, Kind, Record, Stamp
from enhancer.contracts.store import Fault, FeatureStore, Revision, StoreStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.contracts.operations.journal import JournalDatabase


class LazyStore(FeatureStore):
    """A store that does not exist yet. It reads as empty until this process or another creates it.

    Args:
        directory: Folder of the store.
        exists: Checks whether the store exists.
        open_store: Opens the store, and creates it if it does not exist.
        open_journal: Opens the database of the journal; see :meth:`FeatureStore.open_journal_database`.
    """

    def __init__(
        self,
        directory: Path,
        exists: Callable[[], bool],
        open_store: Callable[[], FeatureStore],
        open_journal: Callable[[], JournalDatabase | None],
    ) -> None:
        self._open_journal = open_journal
        self._directory = directory
        self._exists = exists
        self._open_store = open_store
        self._opened: FeatureStore | None = None

    @property
    def directory(self) -> Path:
        """Folder of the store, which may not exist."""
        return self._directory

    def journal_database(self) -> JournalDatabase | None:
        """See :meth:`FeatureStore.journal_database`. Does not create the store."""
        return self._open_journal()

    def _existing(self) -> FeatureStore | None:
        """Return the store if it exists by now."""
        if self._opened is None and self._exists():
            self._opened = self._open_store()
        return self._opened

    def put(self, records: Sequence[Record]) -> None:
        """Create the store if needed, and write."""
        if self._opened is None:
            self._opened = self._open_store()
        self._opened.put(records)

    def get(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Record | None]:
        """See :meth:`FeatureStore.get`."""
        store = self._existing()
        return [None] * len(ids) if store is None else store.get(ids, kind=kind, aspect=aspect)

    def stamps(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Stamp | None]:
        """See :meth:`FeatureStore.stamps`."""
        store = self._existing()
        return [None] * len(ids) if store is None else store.stamps(ids, kind=kind, aspect=aspect)

    def vectors(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NDArray[np.float32]:
        """See :meth:`FeatureStore.vectors`; ``[len(ids), 0]`` while the store does not exist."""
        store = self._existing()
        return np.empty((len(ids), 0), np.float32) if store is None else store.vectors(ids, kind=kind, aspect=aspect)

    def scan(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Record]:
        """See :meth:`FeatureStore.scan`."""
        store = self._existing()
        return iter(()) if store is None else store.scan(kind=kind, aspect=aspect)

    def delete(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> int:
        """See :meth:`FeatureStore.delete`."""
        store = self._existing()
        return 0 if store is None else store.delete(ids, kind=kind, aspect=aspect)

    def stats(self) -> StoreStats:
        """See :meth:`FeatureStore.stats`."""
        store = self._existing()
        return StoreStats(0, bytes_on_disk=0) if store is None else store.stats()

    def verify(self) -> list[Fault]:
        """See :meth:`FeatureStore.verify`; a missing store is a fault, because its file may have been deleted."""
        store = self._existing()
        return [Fault(str(self._directory), "there is no store")] if store is None else store.verify()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[FeatureStore]:
        """See :meth:`FeatureStore.snapshot`."""
        store = self._existing()
        if store is None:
            yield self
        else:
            with store.snapshot() as pinned:
                yield pinned

    def keys(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Key]:
        """See :meth:`FeatureStore.keys`."""
        store = self._existing()
        return iter(()) if store is None else store.keys(kind=kind, aspect=aspect)

    def count(self) -> int | None:
        """See :meth:`FeatureStore.count`."""
        store = self._existing()
        return 0 if store is None else store.count()

    def revision(self) -> Revision | None:
        """See :meth:`FeatureStore.revision`."""
        store = self._existing()
        return None if store is None else store.revision()

    @property
    def own_writes(self) -> int:
        """See :meth:`FeatureStore.own_writes`."""
        store = self._existing()
        return 0 if store is None else store.own_writes

    def close(self) -> None:
        """Close the store, if it was opened."""
        if self._opened is not None:
            self._opened.close()
