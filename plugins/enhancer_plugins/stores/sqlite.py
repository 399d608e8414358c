"""The store ``sqlite``: one SQLite file, for those who have no LMDB or want one file that every tool opens."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from enhancer.contracts.options import Context, Options
from enhancer.contracts.store import Fault, FeatureStore, Repair, StoreOptions
from enhancer.errors import StoreCorruptError, StoreError
from enhancer.storekit.keyed import KeyedStore, ReadOnly
from enhancer_plugins.stores._limits import at_size_limit, is_full
from enhancer_plugins.stores._repair import DOUBT, REMEDY, drop_damaged, nothing_left, rebuilt
from enhancer_plugins.stores._sqlite_salvage import MAGIC, Salvage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enhancer.storekit.codec import Value

FILE_NAME: Final = "store.sqlite"
_APPLICATION_ID: Final = 0x454E4852  # "ENHR"
_FORMAT: Final = 1
_CHUNK: Final = 500
_HEADER: Final = 100
_BUSY_SECONDS: Final = 60.0


class SQLiteOptions(StoreOptions):
    """``[store]`` with ``use = "sqlite"``."""


class SQLiteStore(KeyedStore):
    """Feature store in one SQLite file, ``store.sqlite`` in the folder ``path``.

    Write-ahead logging with ``synchronous = FULL``: a returned ``put`` survives a power cut, and readers never wait
    for a writer.
    """

    options_class = SQLiteOptions
    _readable_when_damaged = True

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, SQLiteOptions)
        self._directory = context.root / options.path
        self._path = self._directory / FILE_NAME
        self._lock = threading.RLock()
        self._inherited: list[sqlite3.Connection] = []
        self._closed = False
        if not self._path.exists():
            _create(self._path)
        self._pid = os.getpid()
        self._readonly = False
        self._connection = self._connect()

    @classmethod
    def exists(cls, options: Options, context: Context) -> bool:
        """See :meth:`FeatureStore.exists`."""
        assert isinstance(options, SQLiteOptions)
        folder = context.root / options.path
        return (folder / FILE_NAME).exists() or folder.is_file()  # a file for a folder: who opens it says so

    @classmethod
    def repair(cls, options: Options, context: Context) -> Repair:
        """See :meth:`FeatureStore.repair`.

        Where the file's structure is sound, damaged records are removed from it. Otherwise whatever record of it is
        sound goes into a new file, and the damaged one is kept beside it.
        """
        assert isinstance(options, SQLiteOptions)
        path = context.root / options.path / FILE_NAME
        if not path.exists():
            raise StoreError(f"there is no store {path}", hint="`enhancer generate` makes one")
        _require_unused(path)
        try:
            with cls(options, context) as store:
                faults = store._check_files()
                if not faults:
                    return drop_damaged(store)
        except StoreCorruptError as error:
            faults = [Fault(str(path), error.message)]
        salvage = Salvage(path, _APPLICATION_ID)

        def make(folder: Path) -> SQLiteStore:
            return cls(SQLiteOptions(path=folder), Context(root=folder))

        with rebuilt(path, make, salvage.records()) as draft:
            if not draft.kept and not salvage.is_ours and path.stat().st_size:
                raise nothing_left(path)
            backup = draft.swap()
            for rest in ("-wal", "-shm"):  # they belong to what is no longer there
                log = path.with_name(path.name + rest)
                if log.exists():
                    log.replace(backup.with_name(backup.name + rest))
        whole = Fault(str(path), "; ".join(fault.what for fault in faults[:3]))
        return Repair(draft.kept, (*salvage.lost(), whole), backup)

    @property
    def directory(self) -> Path:
        """The folder ``path``."""
        return self._directory

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if not self._closed and self._pid == os.getpid():
                self._connection.close()
                _leave(self._identity)
            self._closed = True

    def _connect(self) -> sqlite3.Connection:
        self._identity = _enter(self._path)
        try:
            return self._connected()
        except BaseException:
            _leave(self._identity)
            raise

    def _connected(self) -> sqlite3.Connection:
        with _translated(self._path):
            connection = _open(self._path, "rw")
            try:
                self._prepare(connection)
            except sqlite3.OperationalError as error:
                connection.close()
                if not _means_read_only(error):
                    raise
                # On media where nobody can write, no log can appear beside the file.
                self._readonly = True
                connection = _open(self._path, "ro&immutable=1")
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA synchronous = FULL")
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION_ID:
            raise StoreError(
                f"{self._path} is an SQLite file, but no feature store", hint="choose another [store] path"
            )
        if version > _FORMAT:
            raise StoreError(
                f"{self._path} is a store of format {version}, and this enhancer reads formats up to {_FORMAT}",
                hint="upgrade enhancer",
            )
        connection.execute("SELECT 1 FROM records LIMIT 1").fetchone()
        if not os.access(self._path, os.W_OK):
            self._readonly = True

    @contextlib.contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time; a forked child gets its own."""
        if self._pid != os.getpid():
            # SQLite forbids a child so much as to close what it inherited: it is kept, unused.
            self._inherited.append(self._connection)
            self._lock = threading.RLock()
            self._pid = os.getpid()
            self._connection = self._connect()
        with self._lock, _translated(self._path):
            if self._closed:
                raise StoreError(f"the store {self._path} is closed")
            yield self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._use() as connection:
            if self._readonly:
                raise StoreError(f"{self._path} is on read-only media, or not yours to write")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[FeatureStore]:
        """See :meth:`FeatureStore.snapshot`: a connection of its own with a read transaction.

        While it is open, the log beside the file is not folded into it, and grows with what is written.
        """
        with self._use():
            pinned = _Snapshot(self._path)
        try:
            yield pinned
        finally:
            pinned.close()

    def count(self) -> int | None:
        """See :meth:`FeatureStore.count`; damaged records count too."""
        with self._reading() as connection:
            (found,) = connection.execute("SELECT count(*) FROM records").fetchone()
            return int(found)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._use() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")

    @contextlib.contextmanager
    def _fetch(self, keys: Sequence[bytes]) -> Iterator[Iterator[Value | None]]:
        with self._reading() as connection:
            yield _values(connection, keys)

    def _write(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        with self._transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO records (key, value) VALUES (?, ?)", pairs)

    def _remove(self, keys: Sequence[bytes]) -> int:
        with self._transaction() as connection:
            return connection.executemany("DELETE FROM records WHERE key = ?", ((key,) for key in keys)).rowcount

    def _walk(self, prefix: bytes) -> Iterator[tuple[bytes, Value]]:
        return self._chunks("key, value", prefix)

    def _walk_keys(self, prefix: bytes) -> Iterator[bytes]:
        return (key for (key,) in self._chunks("key", prefix))

    def _chunks(self, columns: str, prefix: bytes) -> Iterator[Any]:
        after, end = prefix, _next_prefix(prefix)
        query = f"SELECT {columns} FROM records WHERE key > ? AND key < ? ORDER BY key LIMIT ?"  # noqa: S608 - ours
        while True:
            with self._use() as connection:
                chunk = connection.execute(query, (after, end, _CHUNK)).fetchall()
            yield from chunk
            if len(chunk) < _CHUNK:
                return
            after = chunk[-1][0]

    def _check_files(self) -> list[Fault]:
        with self._use() as connection:
            try:
                found = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            except sqlite3.DatabaseError as error:
                found = [str(error)]
        return [Fault(str(self._path), fault) for fault in found if fault != "ok"]

    def _bytes_on_disk(self) -> int:
        files = (self._path, self._path.with_name(FILE_NAME + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())


class _Snapshot(ReadOnly, SQLiteStore):
    """The store as one transaction sees it."""

    def __init__(self, path: Path) -> None:
        self._directory, self._path = path.parent, path
        self._lock = threading.RLock()
        self._inherited: list[sqlite3.Connection] = []
        self._closed = False
        self._readonly = False
        self._pid = os.getpid()
        self._connection = self._connect()
        with _translated(self._path):
            self._connection.execute("BEGIN")
            self._connection.execute("SELECT 1 FROM records LIMIT 1").fetchone()  # only a look begins it

    @contextlib.contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            raise StoreError(f"a snapshot of {self._path} is for the process that took it")
        with self._lock, _translated(self._path):
            if self._closed:
                raise StoreError(f"the snapshot of {self._path} is closed")
            yield self._connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._use() as connection:
            yield connection


def _require_unused(path: Path) -> None:
    """Refuse where another connection is open: what is written to a file that is replaced is lost."""
    there = path.stat()
    with _registry:
        if _open_files[there.st_dev, there.st_ino]:
            raise StoreError(f"{path} is in use", hint="end what uses it, and repair then")
    if there.st_size < _HEADER:  # SQLite would make a new database of it
        return
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreError(f"{path} is in use", hint="end what uses it, and repair then") from None
    except sqlite3.DatabaseError:
        pass  # so damaged that nobody can have it open
    finally:
        connection.close()


def _values(connection: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[bytes | None]:
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        query = f"SELECT key, value FROM records WHERE key IN ({marks})"  # noqa: S608 - marks are question marks alone
        found = dict(connection.execute(query, chunk).fetchall())
        yield from map(found.get, chunk)


def _next_prefix(prefix: bytes) -> bytes:
    """The least key that sorts after every key that begins with ``prefix``."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else b"\xff"


def _open(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )


def _create(path: Path) -> None:
    """Make a new file, whole or not at all, unless somebody else does so first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder, _translated(path):
            draft = Path(folder) / path.name
            connection = sqlite3.connect(draft, isolation_level=None)
            try:
                connection.execute("PRAGMA page_size = 8192")
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
                connection.execute("CREATE TABLE records (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL)")
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                if not path.exists():
                    draft.replace(path)
    except OSError as error:
        raise StoreError(f"cannot create {path}: {error.strerror}", hint="choose another [store] path") from None


_open_files: Final[Counter[tuple[int, int]]] = Counter()
"""Connections of this process, by device and inode."""
_registry = threading.Lock()


def _enter(path: Path) -> tuple[int, int]:
    """Note that a connection is about to be made; the first one looks at the file's length.

    Only the first may: a process that closes a file loses all locks that it has on it, by whatever descriptor, so that
    others would take this process's connections for gone.
    """
    with _registry:
        try:
            there = path.stat()
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from None
        identity = (there.st_dev, there.st_ino)
        if not _open_files[identity]:
            _check_length(path)
        _open_files[identity] += 1
        return identity


def _leave(identity: tuple[int, int]) -> None:
    with _registry:
        _open_files[identity] -= 1
        if _open_files[identity] <= 0:
            del _open_files[identity]


def _forked() -> None:
    """Locks are not inherited, and a thread of the parent may have held the registry's."""
    global _registry  # noqa: PLW0603
    _registry = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _check_length(path: Path) -> None:
    """Refuse an empty file, which SQLite takes for a new one, and one that lacks pages.

    Raises:
        StoreCorruptError: The file is empty, truncated or no SQLite file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from None
    if size == 0:
        raise StoreCorruptError(f"{path} is empty: it has been truncated to 0 bytes", hint=REMEDY)
    if len(head) < 100 or not head.startswith(MAGIC):
        raise StoreCorruptError(f"{path} is not an SQLite file, or its beginning is damaged", hint=DOUBT)
    page = int.from_bytes(head[16:18], "big")
    page = 65536 if page == 1 else page
    pages = int.from_bytes(head[28:32], "big")
    log = path.with_name(path.name + "-wal")
    # Pages that only the log has yet are missing from the file by right.
    if size < page * pages and not (log.exists() and log.stat().st_size):
        raise StoreCorruptError(f"{path} is truncated: it has {size:,} bytes of {page * pages:,}", hint=REMEDY)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into the project's errors."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreCorruptError(f"{path} is damaged: {error}", hint=REMEDY) from error
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and is_full(path)):
            raise StoreError(f"disk full: {path} could not be written", hint="nothing of this call was kept") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreError(f"{path} has been locked by another process for a minute") from error
        log = path.with_name(path.name + "-wal")
        if code == sqlite3.SQLITE_IOERR and (at_size_limit(log) or at_size_limit(path)):
            raise StoreError(
                f"{path} may not grow: the limit on file size (ulimit -f) is reached",
                hint="nothing of this call was kept",
            ) from error
        raise StoreError(f"{path}: {error}") from error


def _means_read_only(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
