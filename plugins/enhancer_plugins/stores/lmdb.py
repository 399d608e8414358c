"""Feature store ``lmdb``: one memory-mapped file with many readers and one writer."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import TYPE_CHECKING, Final

from pydantic import Field

from enhancer.contracts.options import Context, Options
from enhancer.contracts.store import Fault, FeatureStore, Repair, Revision, StoreOptions
from enhancer.errors import StoreCorruptError, StoreError
from enhancer.storekit import codec
from enhancer.storekit.keyed import KeyedStore, ReadOnly
from enhancer_plugins.stores._lmdb import datafile
from enhancer_plugins.stores._lmdb.environment import MEBIBYTE, Pinned, SharedEnvironment
from enhancer_plugins.stores._lmdb.page_checks import Access
from enhancer_plugins.stores._lmdb.salvage import Salvage
from enhancer_plugins.stores._repair import REMEDY, drop_damaged, no_records_found, rebuilt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import lmdb

    from enhancer.storekit.codec import Value

FILE_NAME: Final = "store.lmdb"
_FORMAT_KEY: Final = b"\x00enhancer"
"""Key of the store's metadata; sorts before all records."""
_FORMAT: Final = 1
_CHUNK: Final = 256
_LENGTH = struct.Struct("<4xH6xI")
"""Version and length of a record."""


class LMDBOptions(StoreOptions):
    """``[store]`` with ``use = "lmdb"``."""

    initial_size_mb: int = Field(default=64, ge=1)
    """Initial size of the memory map in MiB. It doubles when full."""
    max_size_mb: int = Field(default=262_144, ge=1)
    """Maximum size of the memory map in MiB. The file only takes the space in use."""


class LMDBStore(KeyedStore):
    """Feature store in one LMDB file, ``store.lmdb`` in the folder ``path``.

    Several threads, stores and processes may use a file at once. Damage raises an error instead of ending the process;
    see ``docs/explanation/store.md``.
    """

    options_class = LMDBOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, LMDBOptions)
        self._directory = context.root / options.path
        path = self._directory / FILE_NAME
        initial = min(options.initial_size_mb, options.max_size_mb) * MEBIBYTE
        if not path.exists():
            datafile.create(path, MEBIBYTE, _write_format)
        self._closed = False
        self._own_writes = 0
        self._environment = SharedEnvironment.acquire(path, initial=initial, cap=options.max_size_mb * MEBIBYTE)
        try:
            self._check_format()
        except BaseException:
            self.close()
            raise

    @classmethod
    def exists(cls, options: Options, context: Context) -> bool:
        """See :meth:`FeatureStore.exists`."""
        assert isinstance(options, LMDBOptions)
        folder = context.root / options.path
        return (folder / FILE_NAME).exists() or folder.is_file()  # opening reports a file in place of the folder

    @classmethod
    def repair(cls, options: Options, context: Context) -> Repair:
        """See :meth:`FeatureStore.repair`.

        If the structure of the file is valid, damaged records are removed from it. Otherwise all valid records are
        written to a new file, and the damaged file is kept beside it.
        """
        assert isinstance(options, LMDBOptions)
        path = context.root / options.path / FILE_NAME
        if not path.exists():
            raise StoreError(f"there is no store {path}", hint="`enhancer generate` creates one")
        SharedEnvironment.require_unused(path)
        try:
            faults = datafile.structural_faults(path)
            datafile.check_length(path)
        except StoreCorruptError as error:
            faults = [error.message]
        if not faults:
            with cls(options, context) as store:
                return drop_damaged(store)
        salvage = Salvage(path)

        def make(folder: Path) -> LMDBStore:
            return cls(options.model_copy(update={"path": folder}), Context(root=folder))

        with rebuilt(path, make, salvage.records()) as replacement:
            found = salvage.metadata.get(_FORMAT_KEY)
            if found is not None:
                _refuse_newer(path, bytes(found))
            if not replacement.kept and not salvage.is_lmdb and path.stat().st_size:
                raise no_records_found(path)
            backup = replacement.swap()
        with cls(options, context) as store:
            lost = [fault for key, fault in salvage.lost.items() if store.is_absent(key)]
        if not salvage.complete:
            lost.append(Fault(str(path), "; ".join(faults[:3])))
        return Repair(replacement.kept, tuple(lost), backup)

    def is_absent(self, key: bytes) -> bool:
        """Return whether a key has no value."""
        with self._fetch([key]) as values:
            return next(values) is None

    @property
    def directory(self) -> Path:
        """The folder of the option ``path``."""
        return self._directory

    def close(self) -> None:
        """Release the file. It is closed when the last store of the process releases it."""
        if not self._closed:
            self._closed = True
            self._environment.release()

    def _open(self) -> SharedEnvironment:
        if self._closed:
            raise StoreError(f"the store {self._directory / FILE_NAME} is closed")
        return self._environment

    def _check_format(self) -> None:
        path = self._environment.path
        with self._environment.read() as transaction:
            found = transaction.get(_FORMAT_KEY)
            text = None if found is None else bytes(found)
        if text is None:
            raise StoreError(f"{path} is an LMDB file, but not a feature store", hint="choose another [store] path")
        _refuse_newer(path, text)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[FeatureStore]:
        """See :meth:`FeatureStore.snapshot`. Holds a read transaction.

        Its pages cannot be reused while it is open, so that the file grows with each write.
        """
        pinned = self._open().pin()
        try:
            yield _Snapshot(self._directory, self._environment, pinned)
        finally:
            pinned.close()

    def count(self) -> int | None:
        """See :meth:`FeatureStore.count`. Includes damaged records."""
        with self._transaction() as transaction:
            return int(transaction.stat(self._open().records)["entries"]) - 1  # one entry is the metadata of the store

    def revision(self) -> Revision | None:
        """See :meth:`FeatureStore.revision`. A change of the file by another program counts, too."""
        with self._transaction() as transaction:
            number = int(transaction.id())
        found = self._open().path.stat()
        return Revision(f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {number}", number)

    @property
    def own_writes(self) -> int:
        """See :meth:`FeatureStore.own_writes`."""
        return self._own_writes

    @contextlib.contextmanager
    def _transaction(self, access: Access = Access.LOOK_UP) -> Iterator[lmdb.Transaction]:
        with self._open().read(access) as transaction:
            yield transaction

    @contextlib.contextmanager
    def _fetch(self, keys: Sequence[bytes]) -> Iterator[Iterator[Value | None]]:
        with self._transaction() as transaction:
            yield _bounded(map(transaction.get, keys))

    def _write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        def work(transaction: lmdb.Transaction) -> None:
            with transaction.cursor() as cursor:
                cursor.putmulti(pairs)

        self._open().write(work)
        self._own_writes += 1

    def _remove(self, keys: Sequence[bytes]) -> int:
        removed = self._open().write(lambda transaction: sum(map(transaction.delete, keys)))
        self._own_writes += bool(removed)  # a transaction that changes nothing is none
        return removed

    def _walk(self, prefix: bytes) -> Iterator[tuple[bytes, Value]]:
        return self._chunks(prefix, lambda cursor: (bytes(cursor.key()), bytes(cursor.value())))

    def _walk_keys(self, prefix: bytes) -> Iterator[bytes]:
        return (key for key, _ in self._chunks(prefix, lambda cursor: (bytes(cursor.key()), b"")))

    def _chunks(
        self, prefix: bytes, take: Callable[[lmdb.Cursor], tuple[bytes, bytes]]
    ) -> Iterator[tuple[bytes, bytes]]:
        start = prefix or b"\x01"
        after: bytes | None = None
        while True:
            chunk: list[tuple[bytes, bytes]] = []
            with self._transaction(Access.SCAN) as transaction, transaction.cursor() as cursor:
                found = cursor.set_range(start if after is None else after)
                if found and after is not None and bytes(cursor.key()) == after:
                    found = cursor.next()
                while found and len(chunk) < _CHUNK:
                    pair = take(cursor)
                    if not pair[0].startswith(prefix):
                        break
                    if after is not None and pair[0] <= after:
                        raise StoreCorruptError(
                            f"{self._open().path} is damaged: its records are out of order", hint=REMEDY
                        )
                    chunk.append(pair)
                    after = pair[0]
                    found = cursor.next()
            yield from chunk
            if len(chunk) < _CHUNK:
                return

    def _check_files(self) -> list[Fault]:
        path = self._open().path
        faults = self._open().without_writers(lambda: datafile.structural_faults(path))
        return [Fault(str(path), fault) for fault in faults]

    def _bytes_on_disk(self) -> int:
        return self._open().path.stat().st_size


class _Snapshot(ReadOnly, LMDBStore):
    """State of the store in one transaction."""

    def __init__(self, directory: Path, environment: SharedEnvironment, pinned: Pinned) -> None:
        self._directory = directory
        self._environment = environment
        self._closed = False
        self._own_writes = 0
        self._pinned = pinned

    @contextlib.contextmanager
    def _transaction(self, access: Access = Access.LOOK_UP) -> Iterator[lmdb.Transaction]:
        with self._pinned.read(access) as transaction:
            yield transaction

    def close(self) -> None:
        """Close the snapshot before its context ends."""
        self._pinned.close()


def _bounded(values: Iterator[Value | None]) -> Iterator[Value | None]:
    """Yield values whose length equals the length in their header, and empty values in place of others.

    A damaged length may lead beyond the end of the file, where reading is a SIGBUS. Only values of the current format
    version are known to contain their length.
    """
    unpack, least = _LENGTH.unpack_from, _LENGTH.size
    for value in values:
        if value is not None and len(value) >= least:
            version, length = unpack(value)
            if length != len(value) and version == codec.FORMAT_VERSION:
                yield b""
                continue
        yield value


def _refuse_newer(path: Path, text: bytes) -> None:
    try:
        version = int(json.loads(text)["format"])
    except (ValueError, KeyError, TypeError):
        raise StoreCorruptError(f"{path} has no valid format version", hint=REMEDY) from None
    if version > _FORMAT:
        raise StoreError(
            f"{path} has format {version}; this enhancer reads formats up to {_FORMAT}",
            hint="upgrade enhancer",
        )


def _write_format(environment: lmdb.Environment) -> None:
    with environment.begin(write=True) as transaction:
        transaction.put(_FORMAT_KEY, json.dumps({"format": _FORMAT}).encode())
