"""Check the pages of an LMDB transaction before it is used, because damaged pages crash liblmdb."""

from __future__ import annotations

import enum
import math
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from enhancer.errors import StoreCorruptError
from enhancer_plugins.stores._lmdb.datafile import read_info
from enhancer_plugins.stores._lmdb.pages import MetaPage, PageTree, read_meta_pages
from enhancer_plugins.stores._repair import REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import lmdb

_INTERVAL: Final = 10
"""While other processes write, checks take at most a tenth of the time."""


class Access(enum.IntEnum):
    """Kind of access, ordered by the number of pages that must be valid for it."""

    LOOK_UP = 0
    """From the root to one leaf."""
    SCAN = 1
    """From record to record."""
    WRITE = 2
    """Merging and splitting pages, and reusing free ones."""


class PageChecker:
    """Checks the pages of a transaction before it is used, once for each committed transaction.

    If other processes commit frequently, some transactions are skipped, since the checks are for damage on disk and not
    for what liblmdb writes.

    Args:
        path: The file, for messages.
        handle: File descriptor, open for reading.
    """

    def __init__(self, path: Path, handle: int) -> None:
        info = read_info(path)
        self._path = path
        self._handle = handle
        self._page = info.page_size
        self._header = info.header
        self._read = reader(handle)
        self._lock = threading.Lock()
        # The transaction checked last, and the time until which no other one is checked, by access.
        self._checked: dict[Access, int] = {}
        self._skip_until: dict[Access, float] = {}

    def check_transaction(self, transaction: lmdb.Transaction, access: Access) -> bool:
        """Check the pages of a read transaction.

        Returns:
            False if the meta page of the transaction was already overwritten, so that it cannot be checked.

        Raises:
            StoreCorruptError: Pages are damaged.
        """
        number = transaction.id()
        if self._is_checked(number, access):
            return True
        meta = self.meta_page(transaction)
        if meta is None:
            return False
        self.check(meta, access)
        return True

    def meta_page(self, transaction: lmdb.Transaction) -> MetaPage | None:
        """Return the meta page of a transaction; None if later transactions have overwritten it."""
        number = transaction.id()
        pages = read_meta_pages(self._read, self._page, self._header)
        # Transactions write the two meta pages alternately.
        meta = pages[number % 2] if len(pages) == 2 else None
        return meta if meta is not None and meta.transaction == number else None

    def check(self, meta: MetaPage, access: Access) -> None:
        """Check the pages of an open transaction.

        Raises:
            StoreCorruptError: Pages are damaged.
        """
        if self._is_checked(meta.transaction, access):
            return
        with self._lock:
            if self._is_checked(meta.transaction, access):
                return
            start = time.monotonic()
            meta = replace(meta, pages=min(meta.pages, os.fstat(self._handle).st_size // self._page))
            faults = PageTree(self._read, self._page, self._header, meta).faults(
                leaves=access >= Access.SCAN, free=access == Access.WRITE
            )
            if faults:
                raise StoreCorruptError(
                    f"{self._path} is damaged: {faults[0]}" + (f", and {len(faults) - 1} more" if faults[1:] else ""),
                    hint=REMEDY,
                )
            end = time.monotonic()
            self._checked |= dict.fromkeys((level for level in Access if level <= access), meta.transaction)
            # After a write check, all later transactions are written by liblmdb.
            self._skip_until[access] = math.inf if access == Access.WRITE else end + (_INTERVAL - 1) * (end - start)

    def _is_checked(self, number: int, access: Access) -> bool:
        return self._checked.get(access) == number or time.monotonic() < self._skip_until.get(access, 0.0)


def reader(handle: int) -> Callable[[int, int], bytes]:
    """Return a function that reads bytes of an open file, given offset and length. It is thread-safe."""
    if hasattr(os, "pread"):
        return lambda offset, length: os.pread(handle, length, offset)
    lock = threading.Lock()

    def read(offset: int, length: int) -> bytes:
        with lock:
            os.lseek(handle, offset, os.SEEK_SET)
            return os.read(handle, length)

    return read
