"""One LMDB environment per file and process, shared by its stores. It grows when full, and is reopened after a fork."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import lmdb

from enhancer.errors import StoreCorruptError, StoreError
from enhancer_plugins.stores._lmdb import datafile
from enhancer_plugins.stores._lmdb.datafile import error_code, translate_errors
from enhancer_plugins.stores._lmdb.map_lock import MapLock
from enhancer_plugins.stores._lmdb.page_checks import Access, PageChecker
from enhancer_plugins.stores._repair import REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Result = TypeVar("Result")
_log = logging.getLogger(__name__)
MEBIBYTE: Final = 1 << 20
_READERS: Final = 512
PATIENCE: float = 60.0
"""Seconds to wait for a process of another container that has the same process id."""
_ATTEMPTS: Final = 10
"""Attempts, 10 ms apart, while a file is shorter than its last transaction."""


class SharedEnvironment:
    """Environment of one file. Get it with :meth:`acquire`, and return it with :meth:`release`."""

    _all: Final[dict[tuple[int, int], SharedEnvironment]] = {}
    """Environments by device and inode. A process that opens a file twice, under any name, loses the locks of LMDB."""
    _registry_lock = threading.Lock()

    def __init__(self, path: Path, initial: int, cap: int) -> None:
        self.path = path
        self.cap = cap
        self.readonly = False
        self._initial = initial
        self._users = 0
        self._stale = False
        self._page_size = self._min_size = 0
        self._map_lock = MapLock()
        self._reopening = threading.Lock()
        self._pinned: set[Pinned] = set()
        self._file = -1
        self._needed = 0
        self._environment = self._open()

    @classmethod
    def acquire(cls, path: Path, *, initial: int, cap: int) -> SharedEnvironment:
        """Open the file, or share its open environment.

        Args:
            path: The file.
            initial: Initial size of the memory map in bytes.
            cap: Maximum size of the memory map in bytes.

        Raises:
            StoreCorruptError: The file is damaged.
            StoreError: The file cannot be opened.
        """
        with cls._registry_lock:
            datafile.check_length(path)
            identity = (path.stat().st_dev, path.stat().st_ino)
            shared = cls._all.get(identity)
            if shared is None:
                shared = cls._all[identity] = cls(path, initial, cap)
            shared._users += 1
            shared.cap = max(shared.cap, cap)
            return shared

    @classmethod
    def require_unused(cls, path: Path) -> None:
        """Raise an error if any process has the file open: writes to a file that is being replaced would be lost.

        Raises:
            StoreError: The file is open.
        """
        in_use = StoreError(f"{path} is in use", hint="stop the processes that use it, then repair")
        with cls._registry_lock:
            if (path.stat().st_dev, path.stat().st_ino) in cls._all:
                raise in_use
            lock = path.with_name(path.name + "-lock")
            if fcntl is None or not lock.exists():
                return
            with translate_errors(path), lock.open("r+b") as file:
                try:
                    # LMDB holds a shared lock on the first byte while a file is open.
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                except BlockingIOError:
                    raise in_use from None

    def release(self) -> None:
        """Return the environment. The last release closes it."""
        with self._registry_lock:
            self._users -= 1
            if self._users == 0:
                for identity, shared in list(self._all.items()):
                    if shared is self:
                        del self._all[identity]
                for pinned in list(self._pinned):
                    pinned.close()
                with self._map_lock.move():
                    if self._stale:  # inherited from the parent; see _open_beside
                        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._environment))
                    else:
                        self._environment.close()
                os.close(self._file)

    @contextlib.contextmanager
    def read(self, access: Access = Access.LOOK_UP) -> Iterator[lmdb.Transaction]:
        """Open a read transaction. Its buffers are valid within the context.

        Args:
            access: Kind of access, which determines the pages to check.

        Raises:
            StoreCorruptError: Pages that liblmdb would read are damaged.
        """
        self._after_fork()
        while True:
            with translate_errors(self.path), self._map_lock.use():
                transaction = self._begin_checked(access)
                if transaction is not None:
                    with transaction:
                        yield transaction
                    return
            self._adopt_size()

    @property
    def records(self) -> lmdb._Database:
        """The database of records, for statistics of a transaction."""
        return self._environment.open_db()

    def pin(self) -> Pinned:
        """Open a read transaction that outlives the call and sees a constant state."""
        self._after_fork()
        self._reserve()
        while True:
            with translate_errors(self.path), self._map_lock.use():
                transaction = self._begin_checked(Access.LOOK_UP)
                if transaction is not None:
                    pinned = Pinned(self, transaction, self._checker)
                    self._pinned.add(pinned)
                    self._map_lock.pin()
                    return pinned
            self._adopt_size()

    def unpin(self, pinned: Pinned) -> None:
        """Allow the map to move, once no transaction is pinned."""
        if pinned in self._pinned:
            self._pinned.discard(pinned)
            self._map_lock.unpin()

    def write(self, work: Callable[[lmdb.Transaction], Result]) -> Result:
        """Call ``work`` with a write transaction and commit it to disk. Repeat it with a larger map if the map is full.

        Raises:
            StoreError: The file is read-only, the disk is full, or the map has reached its cap. Nothing was written.
        """
        self._after_fork()
        if self.readonly:
            raise StoreError(f"{self.path} is read-only: check its permissions and the medium")
        checked_readers = False
        while True:
            size = 0
            with translate_errors(self.path), self._map_lock.use():
                try:
                    self.check_size()
                    size = self._environment.info()["map_size"]
                    if (check := self._begin_checked(Access.WRITE)) is not None:
                        check.abort()
                    with self._environment.begin(write=True) as transaction:
                        result = work(transaction)
                    self._keep_length()
                except lmdb.MapResizedError:
                    pass
                except lmdb.MapFullError:
                    # Removing the readers of dead processes may free enough pages.
                    if not checked_readers and self._environment.reader_check():
                        checked_readers = True
                        continue
                    self._check_cap(size)
                else:
                    return result
            if size and self._environment.info()["map_size"] == size and not self._grown_elsewhere(size):
                self._grow(size)
            else:
                self._adopt_size()

    def without_writers(self, work: Callable[[], Result]) -> Result:
        """Call ``work`` while no process writes to the file."""
        self._after_fork()
        with translate_errors(self.path), self._map_lock.use():
            if self.readonly:
                return work()
            self.check_size()
            transaction = self._environment.begin(write=True)
            try:
                return work()
            finally:
                transaction.abort()

    # --- opening --------------------------------------------------------------------------------------------------

    def _open(self) -> lmdb.Environment:
        size = max(self._initial, self.path.stat().st_size)
        options: dict[str, Any] = {
            "subdir": False,
            "create": False,
            "map_size": -(-size // MEBIBYTE) * MEBIBYTE,
            "max_readers": _READERS,
            "readahead": False,
            "writemap": False,  # otherwise a full disk kills the process
            "sync": True,
            "metasync": True,
        }
        with translate_errors(self.path):
            try:
                datafile.reserve_lock_file(self.path)
                environment = self._open_once_alone(options)
            except (lmdb.Error, OSError) as error:
                if not _means_read_only(error):
                    raise
                self.readonly = True
                # If the lock file cannot be created, no process can write, and readers need no locks.
                environment = lmdb.open(str(self.path), **options, readonly=True, lock=False)
            else:
                environment.reader_check()
            # A separate descriptor, since the path may later refer to another file. Closing it releases no locks: LMDB
            # does not lock its data files.
            if self._file >= 0 and not self._stale:
                os.close(self._file)
            self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self._checker = PageChecker(self.path, self._file)
            self._page_size = environment.stat()["psize"]
            self._min_size = 2 * self._page_size
            self._needed = 0
            return environment

    def _open_once_alone(self, options: dict[str, Any]) -> lmdb.Environment:
        """Open the file once no process of another PID namespace that has the same process id uses it.

        LMDB tells the processes in its table of readers apart by their ids, and in two containers they may be equal.
        """
        until = time.monotonic() + PATIENCE
        told = False
        while True:
            try:
                return lmdb.open(str(self.path), **options)
            except (lmdb.Error, OSError) as error:
                if not _is_taken(error):
                    raise
                if time.monotonic() > until:
                    raise StoreError(
                        f"{self.path} is in use in another container by a process that has the same id as this one"
                        f" ({os.getpid()}), and LMDB cannot tell the two apart",
                        hint="wait for it to end, let the containers share one PID namespace, or keep the features in"
                        " a store of another kind",
                    ) from None
            if not told:
                told = True
                _log.warning("%s: waiting for another container, whose process has the same id as this one", self.path)
            time.sleep(0.2)

    def _after_fork(self) -> None:
        """Reopen the file in a forked child, which must not use the environment of its parent."""
        if not self._stale:
            return
        with self._reopening:
            if self._stale:
                self._environment = self._open_beside(self._environment)
                self._stale = False

    def _open_beside(self, inherited: lmdb.Environment) -> lmdb.Environment:
        # Closing the inherited environment would free the parent's slots in the table of readers: never close it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        try:
            return self._open()
        except StoreError as error:
            if "already open" not in str(error):
                raise
            # This version of py-lmdb requires closing it first; a private copy of the table of readers makes that safe.
            if not datafile.detach(self.path.with_name(self.path.name + "-lock")):
                raise StoreError(
                    f"{self.path} was open when this process was forked, and cannot be reopened",
                    hint="open the store after the fork, or start processes with spawn",
                ) from None
            inherited.close()
            return self._open()

    @classmethod
    def after_fork_in_child(cls) -> None:
        """Replace all locks in a forked child, since threads of the parent that held them do not exist there."""
        cls._registry_lock = threading.Lock()
        for shared in cls._all.values():
            shared.abandon_inherited()

    def abandon_inherited(self) -> None:
        """Mark the inherited environment, which is reopened on next use."""
        self._stale = True
        self._map_lock = MapLock()
        self._reopening = threading.Lock()
        for pinned in self._pinned:
            pinned.abandon_inherited()
        self._pinned.clear()

    # --- the map --------------------------------------------------------------------------------------------------

    def _begin(self) -> lmdb.Transaction | None:
        """Begin a read transaction; return None if another process has grown the map."""
        self.check_size()
        try:
            return self._environment.begin(buffers=True)
        except lmdb.MapResizedError:
            return None
        except lmdb.ReadersFullError:
            self._environment.reader_check()
            return self._environment.begin(buffers=True)

    def check_size(self) -> None:
        """Raise an error if the file was truncated after it was opened: reading missing pages is a SIGBUS.

        A truncation during a read cannot be detected in time.
        """
        size = os.fstat(self._file).st_size
        if size >= max(self._needed, self._min_size):
            # The newest meta page can be read: check that the file contains all its pages.
            self._needed = (self._environment.info()["last_pgno"] + 1) * self._page_size
            if size >= self._needed:
                return
        # Another process may have committed and not yet extended the file.
        for _ in range(_ATTEMPTS):
            if os.fstat(self._file).st_size >= max(self._needed, self._min_size):
                return
            time.sleep(0.01)
        datafile.check_length(self.path)
        if (size := os.fstat(self._file).st_size) < max(self._needed, self._min_size):
            raise StoreCorruptError(
                f"{self.path} was truncated while it was open: it has {size:,} of {self._needed:,} bytes",
                hint=REMEDY,
            )

    def _begin_checked(self, access: Access) -> lmdb.Transaction | None:
        """Begin a read transaction whose pages were checked; return None if another process has grown the map."""
        for _ in range(_ATTEMPTS):
            transaction = self._begin()
            if transaction is None:
                return None
            try:
                if self._checker.check_transaction(transaction, access):
                    return transaction
            except BaseException:
                transaction.abort()
                raise
            transaction.abort()  # two more transactions were committed before the check
        raise StoreCorruptError(f"{self.path} is damaged: its meta pages contradict each other", hint=REMEDY)

    def _adopt_size(self) -> None:
        with translate_errors(self.path), self._map_lock.move() as can_move:
            self._require(can_move)
            self._environment.set_mapsize(0)

    def _reserve(self) -> None:
        """Grow the map to its cap, so that it need not move while transactions are pinned.

        This takes address space, not memory. If address space is limited, the map keeps its size.
        """
        with self._map_lock.move() as can_move:
            size = self._environment.info()["map_size"]
            if can_move and size < self.cap and datafile.can_map(self.cap):
                self._environment.set_mapsize(self.cap)

    def _require(self, can_move: bool) -> None:
        if not can_move:
            raise StoreError(
                f"{self.path} must grow, but a snapshot of it is open in this process",
                hint="close the snapshot, or increase the limit on address space (ulimit -v)",
            )

    def _grown_elsewhere(self, size: int) -> bool:
        return self.path.stat().st_size > size

    def _check_cap(self, size: int) -> None:
        if size >= self.cap:
            raise StoreError(
                f"{self.path} is full: it has reached its cap of {self.cap // MEBIBYTE:,} MiB",
                hint="raise [store] max_size_mb",
            )

    def _grow(self, size: int) -> None:
        with translate_errors(self.path), self._map_lock.move() as can_move:
            if self._environment.info()["map_size"] == size:
                self._require(can_move)
                larger = min(2 * size, self.cap)
                if not datafile.can_map(larger):
                    raise StoreError(
                        f"{self.path} must grow to {larger // MEBIBYTE:,} MiB, which this process cannot map",
                        hint="increase the limit on address space (ulimit -v)",
                    )
                self._environment.set_mapsize(larger)

    def _keep_length(self) -> None:
        """Extend a file that is too short after a commit; see :func:`.datafile.check_length`."""
        needed = (self._environment.info()["last_pgno"] + 1) * self._page_size
        if os.fstat(self._file).st_size < needed:
            datafile.extend(self.path, needed)


class Pinned:
    """Read transaction that outlives a call. Threads use it one at a time; a forked child cannot use it."""

    def __init__(self, shared: SharedEnvironment, transaction: lmdb.Transaction, checker: PageChecker) -> None:
        self._shared = shared
        self._checker = checker
        self._meta = checker.meta_page(transaction)
        """Read now, since later transactions overwrite the meta page."""
        self._transaction: lmdb.Transaction | None = transaction
        self._lock = threading.RLock()

    @contextlib.contextmanager
    def read(self, access: Access = Access.LOOK_UP) -> Iterator[lmdb.Transaction]:
        """Yield the transaction. Its buffers are valid within the context; see :meth:`SharedEnvironment.read`."""
        with self._lock:
            if self._transaction is None:
                raise StoreError(f"the snapshot of {self._shared.path} is closed, or belongs to another process")
            with translate_errors(self._shared.path):
                self._shared.check_size()
                if access >= Access.SCAN and self._meta is not None:
                    self._checker.check(self._meta, access)
                yield self._transaction

    def close(self) -> None:
        """End the transaction. Closing twice is allowed."""
        with self._lock:
            if self._transaction is not None:
                self._transaction.abort()
                self._transaction = None
                self._shared.unpin(self)

    def abandon_inherited(self) -> None:
        """Abandon the transaction in a forked child, which must not free the parent's slot in the table of readers."""
        self._lock = threading.RLock()
        if self._transaction is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._transaction))
            self._transaction = None


def _is_taken(error: Exception) -> bool:
    """Check whether another process holds the lock of this process's id in the table of readers."""
    return error_code(error) == errno.EAGAIN and "mdb_txn_begin" in str(error)


def _means_read_only(error: Exception) -> bool:
    return isinstance(error, lmdb.ReadonlyError) or error_code(error) in (errno.EROFS, errno.EACCES, errno.EPERM)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SharedEnvironment.after_fork_in_child)
