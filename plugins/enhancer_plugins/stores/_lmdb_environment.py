"""One LMDB environment a file a process: shared by the stores that use it, grown when full, re-opened after a fork."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

import lmdb

from enhancer.errors import StoreError
from enhancer_plugins.stores import _lmdb_file
from enhancer_plugins.stores._lmdb_file import error_code, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Result = TypeVar("Result")
MEBIBYTE: Final = 1 << 20
_READERS: Final = 512


class _Gate:
    """Many may use the map at once; to move it in memory one must be alone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._movers = 0

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        with self._condition:
            while self._movers:
                self._condition.wait()
            self._users += 1
        try:
            yield
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    @contextlib.contextmanager
    def move(self) -> Iterator[None]:
        with self._condition:
            self._movers += 1
            try:
                while self._users:
                    self._condition.wait()
                yield
            finally:
                self._movers -= 1
                self._condition.notify_all()


class SharedEnvironment:
    """Get one with :meth:`acquire`, give it back with :meth:`release`."""

    _all: Final[dict[tuple[int, int], SharedEnvironment]] = {}
    """By device and inode: LMDB's locks are lost if a process opens one file twice, by whatever name."""
    _registry_lock = threading.Lock()

    def __init__(self, path: Path, initial: int, cap: int) -> None:
        self.path = path
        self.cap = cap
        self.readonly = False
        self._initial = initial
        self._users = 0
        self._stale = False
        self._gate = _Gate()
        self._reopening = threading.Lock()
        self._environment = self._open()

    @classmethod
    def acquire(cls, path: Path, *, initial: int, cap: int) -> SharedEnvironment:
        """Open the file, or share it where this process has it open.

        Raises:
            StoreCorruptError: The file is damaged.
            StoreError: It cannot be opened.
        """
        with cls._registry_lock:
            _lmdb_file.check_length(path)
            identity = (path.stat().st_dev, path.stat().st_ino)
            shared = cls._all.get(identity)
            if shared is None:
                shared = cls._all[identity] = cls(path, initial, cap)
            shared._users += 1
            shared.cap = max(shared.cap, cap)
            return shared

    def release(self) -> None:
        """Give it back; the last one closes it."""
        with self._registry_lock:
            self._users -= 1
            if self._users == 0:
                for identity, shared in list(self._all.items()):
                    if shared is self:
                        del self._all[identity]
                with self._gate.move():
                    self._environment.close()

    @contextlib.contextmanager
    def read(self) -> Iterator[lmdb.Transaction]:
        """A read transaction; what it hands out is valid inside the block."""
        self._after_fork()
        while True:
            with translated(self.path), self._gate.use():
                transaction = self._begin()
                if transaction is not None:
                    with transaction:
                        yield transaction
                    return
            self._adopt_size()

    def write(self, work: Callable[[lmdb.Transaction], Result]) -> Result:
        """Run ``work`` in a write transaction and commit it to disk; it is run again whole when the map was full.

        Raises:
            StoreError: The file is read-only, the disk is full, or the map has reached its cap; nothing was written.
        """
        self._after_fork()
        if self.readonly:
            raise StoreError(f"{self.path} is on read-only media, or not yours to write")
        checked_readers = False
        while True:
            size = 0
            with translated(self.path), self._gate.use():
                try:
                    size = self._environment.info()["map_size"]
                    with self._environment.begin(write=True) as transaction:
                        result = work(transaction)
                    self._keep_length()
                except lmdb.MapResizedError:
                    pass
                except lmdb.MapFullError:
                    # Pages that a dead process's reader still holds may be all that is missing.
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

    def quiet(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` while nobody writes to the file."""
        self._after_fork()
        with translated(self.path), self._gate.use():
            if self.readonly:
                return work()
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
            "writemap": False,  # with it a full disk kills the process
            "sync": True,
            "metasync": True,
        }
        with translated(self.path):
            try:
                _lmdb_file.reserve_lock_file(self.path)
                environment = lmdb.open(str(self.path), **options)
            except (lmdb.Error, OSError) as error:
                if not _means_read_only(error):
                    raise
                self.readonly = True
                # Nobody can write where the lock file cannot be made, so that readers need no locks.
                environment = lmdb.open(str(self.path), **options, readonly=True, lock=False)
            else:
                environment.reader_check()
            return environment

    def _after_fork(self) -> None:
        """A forked child must not use its parent's environment: it opens its own."""
        if not self._stale:
            return
        with self._reopening:
            if self._stale:
                self._environment = self._open_beside(self._environment)
                self._stale = False

    def _open_beside(self, inherited: lmdb.Environment) -> lmdb.Environment:
        # To close what was inherited may free the parent's slots in the table of readers: it is kept for ever.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        try:
            return self._open()
        except StoreError as error:
            if "already open" not in str(error):
                raise
            # A py-lmdb that refuses this knows of forks, and closes without touching the parent's slots.
            inherited.close()
            return self._open()

    @classmethod
    def forked(cls) -> None:
        """A thread of the parent may have held any of these locks; it does not live on in the child."""
        cls._registry_lock = threading.Lock()
        for shared in cls._all.values():
            shared.leave_parent()

    def leave_parent(self) -> None:
        """Mark what was inherited, to be opened anew when it is next used."""
        self._stale = True
        self._gate = _Gate()
        self._reopening = threading.Lock()

    # --- the map --------------------------------------------------------------------------------------------------

    def _begin(self) -> lmdb.Transaction | None:
        """A read transaction, or None when another process has grown the map."""
        try:
            return self._environment.begin(buffers=True)
        except lmdb.MapResizedError:
            return None
        except lmdb.ReadersFullError:
            self._environment.reader_check()
            return self._environment.begin(buffers=True)

    def _adopt_size(self) -> None:
        with translated(self.path), self._gate.move():
            self._environment.set_mapsize(0)

    def _grown_elsewhere(self, size: int) -> bool:
        return self.path.stat().st_size > size

    def _check_cap(self, size: int) -> None:
        if size >= self.cap:
            raise StoreError(
                f"{self.path} is full: it has reached its cap of {self.cap // MEBIBYTE:,} MiB",
                hint="raise [store] max_size_mb",
            )

    def _grow(self, size: int) -> None:
        with translated(self.path), self._gate.move():
            if self._environment.info()["map_size"] == size:
                self._environment.set_mapsize(min(2 * size, self.cap))

    def _keep_length(self) -> None:
        """See :func:`_lmdb_file.check_length` on files that are short and sound."""
        needed = (self._environment.info()["last_pgno"] + 1) * self._environment.stat()["psize"]
        if self.path.stat().st_size < needed:
            _lmdb_file.stretch(self.path, needed)


def _means_read_only(error: Exception) -> bool:
    return isinstance(error, lmdb.ReadonlyError) or error_code(error) in (errno.EROFS, errno.EACCES, errno.EPERM)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SharedEnvironment.forked)
