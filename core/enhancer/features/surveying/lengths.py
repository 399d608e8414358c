"""Find records whose vector is not as long as the others of the same embedder, so that they are embedded again.

A store should hold none. It does where the files of a model were exchanged and its fingerprint did not tell.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

from enhancer.contracts.embedder import RemoteEmbedder
from enhancer.contracts.record import PROFILE_ASPECT, Key, Kind, Record, Stamp

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.store import FeatureStore


class OneLength:
    """A store whose stamps name no embedder for records with a vector of another length.

    Args:
        store: The store, to which everything else is passed on.
        others: Keys of these records.
    """

    def __init__(self, store: FeatureStore, others: set[Key]) -> None:
        self._store = store
        self._others = others

    def stamps(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Stamp | None]:
        """See :meth:`FeatureStore.stamps`."""
        found = self._store.stamps(ids, kind=kind, aspect=aspect)
        return [
            Stamp(stamp.input_hash, "") if stamp is not None and Key(kind, id_, aspect) in self._others else stamp
            for id_, stamp in zip(ids, found, strict=True)
        ]

    def put(self, records: Sequence[Record]) -> None:
        """See :meth:`FeatureStore.put`."""
        self._store.put(records)
        self._others.difference_update(record.key for record in records)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def with_one_length(store: FeatureStore, embedder: Embedder, dims: Collection[int] | None = None) -> FeatureStore:
    """Return the store, such that records with a vector of another length count as those of another embedder.

    Reads the whole store; twice if it holds vectors of several lengths.

    Args:
        store: The store.
        embedder: The embedder, whose own vectors are compared. If it computes locally, its model says which length is
            the right one; otherwise the latest record does.
        dims: Lengths of the vectors of the store; by default it is read for them.
    """
    if isinstance(store, OneLength) or len(store.stats().dims if dims is None else dims) < 2:
        return store
    lengths: Counter[int] = Counter()
    latest = ("", 0)
    for record in store.scan():
        if record.embedder == embedder.fingerprint:
            lengths[len(record.vector)] += 1
            latest = max(latest, (record.generated_at, len(record.vector)))
    if len(lengths) < 2:
        return store
    right = latest[1] if isinstance(embedder, RemoteEmbedder) else embedder.dim
    others = {
        record.key for record in store.scan() if record.embedder == embedder.fingerprint and len(record.vector) != right
    }
    return cast("FeatureStore", OneLength(store, others))
