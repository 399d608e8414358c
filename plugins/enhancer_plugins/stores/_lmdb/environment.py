"""One LMDB environment a file a process: shared by the stores that use it, grown when full, re-opened after a fork."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import lmdb

from enhancer.errors import StoreCorruptError, StoreError
from enhancer_plugins.stores._lmdb import datafile
from enhancer_plugins.stores._lmdb.datafile import error_code, translated
from enhancer_plugins.stores._lmdb.map_lock import Gate
from enhancer_plugins.stores._lmdb.page_checks import Guard, Use
from enhancer_plugins.stores._repair import REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Result = TypeVar("Result")
MEBIBYTE: Final = 1 << 20
_READERS: Final = 512
_PATIENCE: Final = 10
"""Hundredths of a second that a file may be shorter than its last transaction says."""


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
        self._page = self._least = 0
        self._gate = Gate()
        self._reopening = threading.Lock()
        self._pinned: set[Pinned] = set()
        self._file = -1
        self._needed = 0
        self._environment = self._open()

    @classmethod
    def acquire(cls, path: Path, *, initial: int, cap: int) -> SharedEnvironment:
        """Open the file, or share it where this process has it open.

        Raises:
            StoreCorruptError: The file is damaged.
            StoreError: It cannot be opened.
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
        """Refuse where anybody has the file open: what is written to a file that is replaced is lost.

        Raises:
            StoreError: Somebody has.
        """
        in_use = StoreError(f"{path} is in use", hint="end what uses it, and repair then")
        with cls._registry_lock:
            if (path.stat().st_dev, path.stat().st_ino) in cls._all:
                raise in_use
            lock = path.with_name(path.name + "-lock")
            if fcntl is None or not lock.exists():
                return
            with translated(path), lock.open("r+b") as file:
                try:
                    # LMDB keeps a shared lock on the first byte for as long as a file is open.
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
                except BlockingIOError:
                    raise in_use from None

    def release(self) -> None:
        """Give it back; the last one closes it."""
        with self._registry_lock:
            self._users -= 1
            if self._users == 0:
                for identity, shared in list(self._all.items()):
                    if shared is self:
                        del self._all[identity]
                for pinned in list(self._pinned):
                    pinned.close()
                with self._gate.move():
                    if self._stale:  # the parent's; see _open_beside
                        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._environment))
                    else:
                        self._environment.close()
                os.close(self._file)

    @contextlib.contextmanager
    def read(self, use: Use = Use.LOOK_UP) -> Iterator[lmdb.Transaction]:
        """A read transaction; what it hands out is valid inside the block.

        Args:
            use: What it is for, which decides how much of the file must be sound.

        Raises:
            StoreCorruptError: The pages that liblmdb would step onto are damaged.
        """
        self._after_fork()
        while True:
            with translated(self.path), self._gate.use():
                transaction = self._begin_sound(use)
                if transaction is not None:
                    with transaction:
                        yield transaction
                    return
            self._adopt_size()

    @property
    def records(self) -> lmdb._Database:
        """What records are kept in, for a transaction to tell of."""
        return self._environment.open_db()

    def pin(self) -> Pinned:
        """A read transaction that stays: what it sees does not change until it is closed."""
        self._after_fork()
        self._reserve()
        while True:
            with translated(self.path), self._gate.use():
                transaction = self._begin_sound(Use.LOOK_UP)
                if transaction is not None:
                    pinned = Pinned(self, transaction, self._guard)
                    self._pinned.add(pinned)
                    self._gate.pin()
                    return pinned
            self._adopt_size()

    def unpin(self, pinned: Pinned) -> None:
        """The map may move again once nobody holds it."""
        if pinned in self._pinned:
            self._pinned.discard(pinned)
            self._gate.unpin()

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
                    self.check_size()
                    size = self._environment.info()["map_size"]
                    if (look := self._begin_sound(Use.WRITE)) is not None:
                        look.abort()
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
            "writemap": False,  # with it a full disk kills the process
            "sync": True,
            "metasync": True,
        }
        with translated(self.path):
            try:
                datafile.reserve_lock_file(self.path)
                environment = lmdb.open(str(self.path), **options)
            except (lmdb.Error, OSError) as error:
                if not _means_read_only(error):
                    raise
                self.readonly = True
                # Nobody can write where the lock file cannot be made, so that readers need no locks.
                environment = lmdb.open(str(self.path), **options, readonly=True, lock=False)
            else:
                environment.reader_check()
            # Of its own, not by name: the name may come to stand for another file. LMDB locks none of its data files,
            # so that closing this one loses no lock.
            if self._file >= 0 and not self._stale:
                os.close(self._file)
            self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            self._guard = Guard(self.path, self._file)
            self._page = environment.stat()["psize"]
            self._least = 2 * self._page
            self._needed = 0
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
        # To close what was inherited would free the parent's slots in the table of readers: it is kept for ever.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))
        try:
            return self._open()
        except StoreError as error:
            if "already open" not in str(error):
                raise
            # This py-lmdb wants it closed first; so it shall be, over a table of readers of this process's own.
            if not datafile.detach(self.path.with_name(self.path.name + "-lock")):
                raise StoreError(
                    f"{self.path} was open when this process was forked, and cannot be opened again here",
                    hint="open the store after the fork, or start processes by spawn",
                ) from None
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
        self._gate = Gate()
        self._reopening = threading.Lock()
        for pinned in self._pinned:
            pinned.leave_parent()
        self._pinned.clear()

    # --- the map --------------------------------------------------------------------------------------------------

    def _begin(self) -> lmdb.Transaction | None:
        """A read transaction, or None when another process has grown the map."""
        self.check_size()
        try:
            return self._environment.begin(buffers=True)
        except lmdb.MapResizedError:
            return None
        except lmdb.ReadersFullError:
            self._environment.reader_check()
            return self._environment.begin(buffers=True)

    def check_size(self) -> None:
        """Refuse to read a file that was cut short since it was opened: its missing pages are a SIGBUS.

        Nothing can be done for who is reading at the very moment of the cut.
        """
        size = os.fstat(self._file).st_size
        if size >= max(self._needed, self._least):
            # The newest meta page is there to be read: does the file have what it tells of?
            self._needed = (self._environment.info()["last_pgno"] + 1) * self._page
            if size >= self._needed:
                return
        # Another process may have committed and be about to stretch the file.
        for _ in range(_PATIENCE):
            if os.fstat(self._file).st_size >= max(self._needed, self._least):
                return
            time.sleep(0.01)
        datafile.check_length(self.path)
        if (size := os.fstat(self._file).st_size) < max(self._needed, self._least):
            raise StoreCorruptError(
                f"{self.path} has been truncated while it was open: {size:,} bytes are left of {self._needed:,}",
                hint=REMEDY,
            )

    def _begin_sound(self, use: Use) -> lmdb.Transaction | None:
        """The same, of pages that liblmdb can be let onto."""
        for _ in range(_PATIENCE):
            transaction = self._begin()
            if transaction is None:
                return None
            try:
                if self._guard.admits(transaction, use):
                    return transaction
            except BaseException:
                transaction.abort()
                raise
            transaction.abort()  # two others were written before the file was looked at
        raise StoreCorruptError(f"{self.path} is damaged: its meta pages contradict each other", hint=REMEDY)

    def _adopt_size(self) -> None:
        with translated(self.path), self._gate.move() as may:
            self._require(may)
            self._environment.set_mapsize(0)

    def _reserve(self) -> None:
        """Make the map as large as it may become, so that it need not move under what is pinned.

        That takes addresses, not memory. Where even these are limited, the map stays as it is.
        """
        with self._gate.move() as may:
            size = self._environment.info()["map_size"]
            if may and size < self.cap and datafile.has_addresses(self.cap):
                self._environment.set_mapsize(self.cap)

    def _require(self, may_move: bool) -> None:
        if not may_move:
            raise StoreError(
                f"{self.path} must grow, and a snapshot of it is open in this process",
                hint="close the snapshot first, or allow the process more address space (ulimit -v)",
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
        with translated(self.path), self._gate.move() as may:
            if self._environment.info()["map_size"] == size:
                self._require(may)
                larger = min(2 * size, self.cap)
                if not datafile.has_addresses(larger):
                    raise StoreError(
                        f"{self.path} must grow to {larger // MEBIBYTE:,} MiB, and this process may not map as much",
                        hint="allow it more address space (ulimit -v)",
                    )
                self._environment.set_mapsize(larger)

    def _keep_length(self) -> None:
        """See :func:`datafile.check_length` on files that are short and sound."""
        needed = (self._environment.info()["last_pgno"] + 1) * self._page
        if os.fstat(self._file).st_size < needed:
            datafile.stretch(self.path, needed)


class Pinned:
    """A read transaction that outlives a call. Threads take turns; a forked child cannot use it."""

    def __init__(self, shared: SharedEnvironment, transaction: lmdb.Transaction, guard: Guard) -> None:
        self._shared = shared
        self._guard = guard
        self._state = guard.state(transaction)
        """Later its meta page is written over."""
        self._transaction: lmdb.Transaction | None = transaction
        self._turn = threading.RLock()

    @contextlib.contextmanager
    def read(self, use: Use = Use.LOOK_UP) -> Iterator[lmdb.Transaction]:
        """The transaction; what it hands out is valid inside the block. See :meth:`SharedEnvironment.read`."""
        with self._turn:
            if self._transaction is None:
                raise StoreError(f"the snapshot of {self._shared.path} is closed, or of another process")
            with translated(self._shared.path):
                self._shared.check_size()
                if use >= Use.WALK and self._state is not None:
                    self._guard.check(self._state, use)
                yield self._transaction

    def close(self) -> None:
        """Let go of what the snapshot keeps; closing twice is fine."""
        with self._turn:
            if self._transaction is not None:
                self._transaction.abort()
                self._transaction = None
                self._shared.unpin(self)

    def leave_parent(self) -> None:
        """The parent's slot in the table of readers is not the child's to free: what holds it is kept for ever."""
        self._turn = threading.RLock()
        if self._transaction is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._transaction))
            self._transaction = None


def _means_read_only(error: Exception) -> bool:
    return isinstance(error, lmdb.ReadonlyError) or error_code(error) in (errno.EROFS, errno.EACCES, errno.EPERM)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SharedEnvironment.forked)
