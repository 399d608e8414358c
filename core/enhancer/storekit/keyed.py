"""A feature store over anything that keeps byte keys and byte values in order.

What a subclass provides is six small methods; records, checksums, tables of vectors and verification are here. It is
public: a store of your own that keeps keys and values can build on it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from enhancer.contracts.record import PROFILE_ASPECT, Key, Kind, Record, Stamp
from enhancer.contracts.store import Fault, FeatureStore, StoreStats
from enhancer.errors import StoreError
from enhancer.storekit import codec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

_KINDS: tuple[Kind, ...] = ("item", "user")


class KeyedStore(FeatureStore):
    """Base of the bundled stores."""

    _walks_when_damaged: ClassVar[bool] = False
    """Whether reading on is safe where :meth:`_check_files` has found faults."""

    @abstractmethod
    def _fetch(self, keys: Sequence[bytes]) -> AbstractContextManager[Iterator[codec.Value | None]]:
        """The values of ``keys``, in order, from one transaction; they are valid inside the block."""

    @abstractmethod
    def _write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Write all pairs or none; on disk when it returns."""

    @abstractmethod
    def _remove(self, keys: Sequence[bytes]) -> int:
        """Remove what is there, in one transaction; returns how many."""

    @abstractmethod
    def _walk(self, prefix: bytes) -> Iterator[tuple[bytes, codec.Value]]:
        """All pairs whose key begins so, in key order, without holding a transaction while the caller works."""

    def _walk_keys(self, prefix: bytes) -> Iterator[bytes]:
        """The keys of :meth:`_walk`; a subclass that need not read values for that should not."""
        return (key for key, _ in self._walk(prefix))

    @abstractmethod
    def _check_files(self) -> list[Fault]:
        """What is wrong below the records."""

    @abstractmethod
    def _bytes_on_disk(self) -> int:
        """Size of the store's files."""

    # --- bytes, for repairs ---------------------------------------------------------------------------------------

    def pairs(self) -> Iterator[tuple[bytes, codec.Value]]:
        """Every key and value as it is kept, damaged ones too."""
        return self._walk(b"")

    def write_pairs(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Write what :meth:`pairs` of a store gave."""
        self._write(pairs)

    def remove_keys(self, keys: Sequence[bytes]) -> int:
        """Remove what is kept under these keys."""
        return self._remove(keys)

    # --- the contract ---------------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record]) -> None:
        """See :meth:`FeatureStore.put`; of records with equal keys in one call the last one counts."""
        pairs = dict(codec.encode(record) for record in records)
        if pairs:
            self._write(list(pairs.items()))

    def get(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Record | None]:
        """See :meth:`FeatureStore.get`."""
        keys = codec.encode_keys(ids, kind, aspect)
        with self._fetch(keys) as values:
            return [
                None if value is None else codec.decode(key, value) for key, value in zip(keys, values, strict=True)
            ]

    def stamps(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> list[Stamp | None]:
        """See :meth:`FeatureStore.stamps`.

        A damaged record has no stamp: whoever asks what must be made anew is told that it is missing.
        """
        keys = codec.encode_keys(ids, kind, aspect)
        with self._fetch(keys) as values:
            return codec.stamps(keys, values)

    def vectors(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NDArray[np.float32]:
        """See :meth:`FeatureStore.vectors`; of shape ``[len(ids), 0]`` where no id has a record."""
        keys = codec.encode_keys(ids, kind, aspect)
        with self._fetch(keys) as values:
            return codec.vectors(keys, values)

    def scan(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Record]:
        """See :meth:`FeatureStore.scan`: by kind, aspect and id.

        The stream holds no transaction: its user may write meanwhile, and what is written ahead of it is seen.
        """
        for one in _KINDS if kind is None else (kind,):
            for key, value in self._walk(codec.key_prefix(one, aspect)):
                yield codec.decode(key, value)

    def keys(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Key]:
        """See :meth:`FeatureStore.keys`; damaged records have keys too."""
        for one in _KINDS if kind is None else (kind,):
            for raw in self._walk_keys(codec.key_prefix(one, aspect)):
                if (key := codec.decode_key(raw)) is not None:
                    yield key
                    continue
                # What is long is kept as a digest: the record settles what it was.
                with self._fetch([raw]) as values:
                    for value in values:
                        if value is not None:
                            yield codec.decode(raw, value).key

    def delete(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> int:
        """See :meth:`FeatureStore.delete`."""
        keys = codec.encode_keys(ids, kind, aspect)
        return self._remove(keys) if keys else 0

    def stats(self) -> StoreStats:
        """See :meth:`FeatureStore.stats`; damaged records count as ``damaged``."""
        kinds: Counter[str] = Counter()
        dims: Counter[int] = Counter()
        embedders: Counter[str] = Counter()
        for key, value in self._walk(b""):
            try:
                dim = codec.check(key, value)
            except StoreError:
                kinds["damaged"] += 1
                continue
            kinds[codec.describe_kind(key)] += 1
            dims[dim] += 1
            embedders[codec.read_stamp(value, dim).embedder] += 1
        return StoreStats(
            records=sum(kinds.values()),
            by_kind=dict(sorted(kinds.items())),
            dims=dict(sorted(dims.items())),
            embedders=dict(sorted(embedders.items())),
            bytes_on_disk=self._bytes_on_disk(),
        )

    def verify(self) -> list[Fault]:
        """See :meth:`FeatureStore.verify`."""
        faults = self._check_files()
        if faults and not self._walks_when_damaged:
            return faults
        try:
            for key, value in self._walk(b""):
                try:
                    record = codec.decode(key, value)
                    codec.check_vector(record.vector, codec.describe_key(key))
                except StoreError as error:
                    faults.append(Fault(codec.describe_key(key), error.message))
        except StoreError as error:
            faults.append(Fault("records", error.message))
        return faults


class ReadOnly(KeyedStore):
    """Mixed into a store's snapshot, before the store: reads go where the store's go, and writing is an error."""

    def _write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        del pairs
        raise StoreError("a snapshot cannot be written to", hint="write to the store itself")

    def _remove(self, keys: Sequence[bytes]) -> int:
        del keys
        raise StoreError("a snapshot cannot be written to", hint="write to the store itself")
