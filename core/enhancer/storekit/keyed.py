"""Base class of feature stores over ordered byte keys and byte values.

A subclass implements six small methods. Records, checksums, matrices of vectors and verification are implemented here.
The class is public, for plugins that store keys and values.
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
    """Feature store over a key-value database with ordered keys."""

    _readable_when_damaged: ClassVar[bool] = False
    """Whether records may be read although :meth:`_check_files` found faults."""

    @abstractmethod
    def _fetch(self, keys: Sequence[bytes]) -> AbstractContextManager[Iterator[codec.Value | None]]:
        """Open a transaction and return the values of ``keys`` in order. They are valid within the context."""

    @abstractmethod
    def _write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Write all pairs atomically and durably."""

    @abstractmethod
    def _remove(self, keys: Sequence[bytes]) -> int:
        """Remove existing keys in one transaction and return their number."""

    @abstractmethod
    def _walk(self, prefix: bytes) -> Iterator[tuple[bytes, codec.Value]]:
        """Yield all pairs with this prefix in key order, without holding a transaction between chunks."""

    def _walk_keys(self, prefix: bytes) -> Iterator[bytes]:
        """Yield the keys of :meth:`_walk`. Subclasses should override it if they can read keys without values."""
        return (key for key, _ in self._walk(prefix))

    @abstractmethod
    def _check_files(self) -> list[Fault]:
        """Return defects of the files below the level of records."""

    @abstractmethod
    def _bytes_on_disk(self) -> int:
        """Return the total size of the store's files."""

    # --- raw access, for repairs ----------------------------------------------------------------------------------

    def pairs(self) -> Iterator[tuple[bytes, codec.Value]]:
        """Yield every stored key and value, including damaged ones."""
        return self._walk(b"")

    def write_pairs(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Write pairs as yielded by :meth:`pairs`."""
        self._write(pairs)

    def remove_keys(self, keys: Sequence[bytes]) -> int:
        """Remove keys and return the number of those that existed."""
        return self._remove(keys)

    # --- the contract ---------------------------------------------------------------------------------------------

    def put(self, records: Sequence[Record]) -> None:
        """See :meth:`FeatureStore.put`. The last of several records with equal keys is written."""
        pairs = dict(codec.encode_all(records))
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
        """See :meth:`FeatureStore.stamps`. A damaged record counts as missing, so that it is created again."""
        keys = codec.encode_keys(ids, kind, aspect)
        with self._fetch(keys) as values:
            return codec.stamps(keys, values)

    def vectors(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> NDArray[np.float32]:
        """See :meth:`FeatureStore.vectors`. The shape is ``[len(ids), 0]`` if no id has a record."""
        keys = codec.encode_keys(ids, kind, aspect)
        with self._fetch(keys) as values:
            return codec.vectors(keys, values)

    def scan(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Record]:
        """See :meth:`FeatureStore.scan`. The order is by kind, aspect and id.

        The stream holds no transaction: the caller may write meanwhile, and records written ahead are included.
        """
        for one in _KINDS if kind is None else (kind,):
            for key, value in self._walk(codec.key_prefix(one, aspect)):
                yield codec.decode(key, value)

    def keys(self, *, kind: Kind | None = None, aspect: str | None = None) -> Iterator[Key]:
        """See :meth:`FeatureStore.keys`. Includes the keys of damaged records."""
        for one in _KINDS if kind is None else (kind,):
            for raw in self._walk_keys(codec.key_prefix(one, aspect)):
                if (key := codec.decode_key(raw)) is not None:
                    yield key
                    continue
                # A long id is stored as a digest; the record contains the id itself.
                with self._fetch([raw]) as values:
                    for value in values:
                        if value is not None:
                            yield codec.decode(raw, value).key

    def delete(self, ids: Sequence[str], *, kind: Kind = "item", aspect: str = PROFILE_ASPECT) -> int:
        """See :meth:`FeatureStore.delete`."""
        keys = codec.encode_keys(ids, kind, aspect)
        return self._remove(keys) if keys else 0

    def stats(self) -> StoreStats:
        """See :meth:`FeatureStore.stats`. Damaged records have the kind ``damaged``."""
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
        if faults and not self._readable_when_damaged:
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
    """Mixin for the snapshot class of a store, to be listed before the store: writing raises an error."""

    def _write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        del pairs
        raise StoreError("a snapshot cannot be written to", hint="write to the store itself")

    def _remove(self, keys: Sequence[bytes]) -> int:
        del keys
        raise StoreError("a snapshot cannot be written to", hint="write to the store itself")
