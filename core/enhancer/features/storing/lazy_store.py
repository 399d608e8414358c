"""A store that is made when something is first written to it: whoever only looks leaves nothing behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.record import PROFILE_ASPECT, Key, Kind, Record, Stamp
from enhancer.contracts.store import Fault, FeatureStore, StoreStats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class UnmadeStore(FeatureStore):
    """Stands for a store that does not exist; once it does, for that store.

    Args:
        directory: Its folder.
        exists: Tells whether it exists by now.
        make: Opens it, and makes it where there is none.
    """

    def __init__(self, directory: Path, exists: Callable[[], bool], make: Callable[[], FeatureStore]) -> None:
        self._directory = directory
        self._exists = exists
        self._make = make
        self._made: FeatureStore | None = None

    @property
    def directory(self) -> Path:
        """The folder, which may not be there."""
        return self._directory

    def _look(self) -> FeatureStore | None:
        """The store, if somebody has made it meanwhile."""
        if self._made is None and self._exists():
            self._made = self._make()
        return self._made

    def put(self, records: Sequence[Record]) -> None:
        """Make the store, and write."""
        if self._made is None:
            self._made = self._make()
        self._made.put(records)

    def get(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Record | None]:
        """See :meth:`FeatureStore.get`."""
        made = self._look()
        return [None] * len(ids) if made is None else made.get(ids, kind=kind, aspect=aspect)

    def stamps(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Stamp | None]:
        """See :meth:`FeatureStore.stamps`."""
        made = self._look()
        return [None] * len(ids) if made is None else made.stamps(ids, kind=kind, aspect=aspect)

    def vectors(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NDArray[np.float32]:
        """See :meth:`FeatureStore.vectors`; ``[len(ids), 0]`` while there is none."""
        made = self._look()
        return np.empty((len(ids), 0), np.float32) if made is None else made.vectors(ids, kind=kind, aspect=aspect)

    def scan(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Record]:
        """See :meth:`FeatureStore.scan`."""
        made = self._look()
        return iter(()) if made is None else made.scan(kind=kind, aspect=aspect)

    def delete(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> int:
        """See :meth:`FeatureStore.delete`."""
        made = self._look()
        return 0 if made is None else made.delete(ids, kind=kind, aspect=aspect)

    def stats(self) -> StoreStats:
        """See :meth:`FeatureStore.stats`."""
        made = self._look()
        return StoreStats(0, bytes_on_disk=0) if made is None else made.stats()

    def verify(self) -> list[Fault]:
        """See :meth:`FeatureStore.verify`; that there is none is a fault: its file may have been deleted."""
        made = self._look()
        return [Fault(str(self._directory), "there is no store")] if made is None else made.verify()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[FeatureStore]:
        """See :meth:`FeatureStore.snapshot`."""
        made = self._look()
        if made is None:
            yield self
        else:
            with made.snapshot() as pinned:
                yield pinned

    def keys(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Key]:
        """See :meth:`FeatureStore.keys`."""
        made = self._look()
        return iter(()) if made is None else made.keys(kind=kind, aspect=aspect)

    def count(self) -> int | None:
        """See :meth:`FeatureStore.count`."""
        made = self._look()
        return 0 if made is None else made.count()

    def close(self) -> None:
        """Close what was made."""
        if self._made is not None:
            self._made.close()
