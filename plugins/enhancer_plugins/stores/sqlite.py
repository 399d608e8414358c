"""Feature store ``sqlite``: one SQLite file, which many tools can open. Needs no library."""

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
from enhancer_plugins.stores._repair import CHECK_PATH, REMEDY, drop_damaged, no_records_found, rebuilt
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

    Uses write-ahead logging with ``synchronous = FULL``: a completed ``put`` survives a power failure, and readers do
    not wait for writers.
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
        return (folder / FILE_NAME).exists() or folder.is_file()  # opening reports a file in place of the folder

    @classmethod
    def repair(cls, options: Options, context: Context) -> Repair:
        """See :meth:`FeatureStore.repair`.

        If the structure of the file is valid, damaged records are removed from it. Otherwise all valid records are
        written to a new file, and the damaged file is kept beside it.
        """
        assert isinstance(options, SQLiteOptions)
        path = context.root / options.path / FILE_NAME
        if not path.exists():
            raise StoreError(f"there is no store {path}", hint="`enhancer generate` creates one")
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

        with rebuilt(path, make, salvage.records()) as replacement:
            if not replacement.kept and not salvage.is_store and path.stat().st_size:
                raise no_records_found(path)
            backup = replacement.swap()
            for suffix in ("-wal", "-shm"):  # these belong to the damaged file
                log = path.with_name(path.name + suffix)
                if log.exists():
                    log.replace(backup.with_name(backup.name + suffix))
        damage = Fault(str(path), "; ".join(fault.what for fault in faults[:3]))
        return Repair(replacement.kept, (*salvage.lost(), damage), backup)

    @property
    def directory(self) -> Path:
        """The folder of the option ``path``."""
        return self._directory

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if not self._closed and self._pid == os.getpid():
                self._connection.close()
                _unregister(self._identity)
            self._closed = True

    def _connect(self) -> sqlite3.Connection:
        self._identity = _register(self._path)
        try:
            return self._open_and_check()
        except BaseException:
            _unregister(self._identity)
            raise

    def _open_and_check(self) -> sqlite3.Connection:
        with _translate_errors(self._path):
            connection = _open(self._path, "rw")
            try:
                self._prepare(connection)
            except sqlite3.OperationalError as error:
                connection.close()
                if not _means_read_only(error):
                    raise
                # On read-only media, no log can appear beside the file.
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
                f"{self._path} is an SQLite file, but not a feature store", hint="choose another [store] path"
            )
        if version > _FORMAT:
            raise StoreError(
                f"{self._path} has format {version}; this enhancer reads formats up to {_FORMAT}",
                hint="upgrade enhancer",
            )
        connection.execute("SELECT 1 FROM records LIMIT 1").fetchone()
        if not os.access(self._path, os.W_OK):
            self._readonly = True

    @contextlib.contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, to one thread at a time. A forked child opens a connection of its own."""
        if self._pid != os.getpid():
            # SQLite forbids a child to use or close an inherited connection: keep it, unused.
            self._inherited.append(self._connection)
            self._lock = threading.RLock()
            self._pid = os.getpid()
            self._connection = self._connect()
        with self._lock, _translate_errors(self._path):
            if self._closed:
                raise StoreError(f"the store {self._path} is closed")
            yield self._connection

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._use() as connection:
            if self._readonly:
                raise StoreError(f"{self._path} is read-only: check its permissions and the medium")
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
        """See :meth:`FeatureStore.snapshot`. Holds a separate connection with a read transaction.

        While it is open, the write-ahead log cannot be merged into the file, and grows with each write.
        """
        with self._use():
            pinned = _Snapshot(self._path)
        try:
            yield pinned
        finally:
            pinned.close()

    def count(self) -> int | None:
        """See :meth:`FeatureStore.count`. Includes damaged records."""
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
        query = f"SELECT {columns} FROM records WHERE key > ? AND key < ? ORDER BY key LIMIT ?"  # noqa: S608 - constant columns
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
    """State of the store in one transaction."""

    def __init__(self, path: Path) -> None:
        self._directory, self._path = path.parent, path
        self._lock = threading.RLock()
        self._inherited: list[sqlite3.Connection] = []
        self._closed = False
        self._readonly = False
        self._pid = os.getpid()
        self._connection = self._connect()
        with _translate_errors(self._path):
            self._connection.execute("BEGIN")
            self._connection.execute(
                "SELECT 1 FROM records LIMIT 1"
            ).fetchone()  # the transaction begins with the first read

    @contextlib.contextmanager
    def _use(self) -> Iterator[sqlite3.Connection]:
        if self._pid != os.getpid():
            raise StoreError(f"the snapshot of {self._path} belongs to another process")
        with self._lock, _translate_errors(self._path):
            if self._closed:
                raise StoreError(f"the snapshot of {self._path} is closed")
            yield self._connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._use() as connection:
            yield connection


def _require_unused(path: Path) -> None:
    """Raise an error if another connection is open: writes to a file that is being replaced would be lost."""
    info = path.stat()
    with _registry:
        if _open_files[info.st_dev, info.st_ino]:
            raise StoreError(f"{path} is in use", hint="stop the processes that use it, then repair")
    if info.st_size < _HEADER:  # SQLite would turn it into a new database
        return
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreError(f"{path} is in use", hint="stop the processes that use it, then repair") from None
    except sqlite3.DatabaseError:
        pass  # too damaged to be open anywhere
    finally:
        connection.close()


def _values(connection: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[bytes | None]:
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        marks = ",".join("?" * len(chunk))
        query = f"SELECT key, value FROM records WHERE key IN ({marks})"  # noqa: S608 - only question marks
        found = dict(connection.execute(query, chunk).fetchall())
        yield from map(found.get, chunk)


def _next_prefix(prefix: bytes) -> bytes:
    """Return the smallest key that sorts after all keys with this prefix."""
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
    """Create a new file atomically, unless another process creates it first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder, _translate_errors(path):
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
            except OSError:  # the file system has no hard links
                if not path.exists():
                    draft.replace(path)
    except OSError as error:
        raise StoreError(f"cannot create {path}: {error.strerror}", hint="choose another [store] path") from None


_open_files: Final[Counter[tuple[int, int]]] = Counter()
"""Number of connections of this process by device and inode."""
_registry = threading.Lock()


def _register(path: Path) -> tuple[int, int]:
    """Register a connection before it is opened. The first one of a file checks the length of the file.

    Later ones must not: a process that closes any descriptor of a file loses all its locks on it, so that other
    processes would ignore its connections.
    """
    with _registry:
        try:
            info = path.stat()
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror}") from None
        identity = (info.st_dev, info.st_ino)
        if not _open_files[identity]:
            _check_length(path)
        _open_files[identity] += 1
        return identity


def _unregister(identity: tuple[int, int]) -> None:
    with _registry:
        _open_files[identity] -= 1
        if _open_files[identity] <= 0:
            del _open_files[identity]


def _forked() -> None:
    """Replace the lock in a forked child, since a thread of the parent may have held it."""
    global _registry  # noqa: PLW0603
    _registry = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _check_length(path: Path) -> None:
    """Raise an error for an empty file, which SQLite would treat as new, and for a truncated one.

    Raises:
        StoreCorruptError: The file is empty, truncated or not an SQLite file.
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
        raise StoreCorruptError(f"{path} is not an SQLite file, or its beginning is damaged", hint=CHECK_PATH)
    page = int.from_bytes(head[16:18], "big")
    page = 65536 if page == 1 else page
    pages = int.from_bytes(head[28:32], "big")
    log = path.with_name(path.name + "-wal")
    # Pages that are only in the write-ahead log may be missing from the file.
    if size < page * pages and not (log.exists() and log.stat().st_size):
        raise StoreCorruptError(f"{path} is truncated: it has {size:,} bytes of {page * pages:,}", hint=REMEDY)


@contextlib.contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Raise errors of SQLite as :class:`~enhancer.errors.StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise StoreCorruptError(f"{path} is damaged: {error}", hint=REMEDY) from error
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and is_full(path)):
            raise StoreError(f"disk full: {path} could not be written", hint="this call wrote nothing") from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StoreError(f"{path} was locked by another process for a minute") from error
        log = path.with_name(path.name + "-wal")
        if code == sqlite3.SQLITE_IOERR and (at_size_limit(log) or at_size_limit(path)):
            raise StoreError(
                f"{path} cannot grow: the limit on file size (ulimit -f) is reached",
                hint="this call wrote nothing",
            ) from error
        raise StoreError(f"{path}: {error}") from error


def _means_read_only(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)
