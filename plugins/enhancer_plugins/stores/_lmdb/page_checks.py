"""Lets nobody onto damaged pages of an LMDB file: liblmdb dies of them."""

from __future__ import annotations

import enum
import math
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from enhancer.errors import StoreCorruptError
from enhancer_plugins.stores._lmdb.datafile import read_facts
from enhancer_plugins.stores._lmdb.pages import State, Tree, read_states
from enhancer_plugins.stores._repair import REMEDY

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import lmdb

_SHARE: Final = 10
"""Of what others write meanwhile, so much is looked at that it takes a tenth of the time."""


class Use(enum.IntEnum):
    """What is to be done, by how much must be sound for it."""

    LOOK_UP = 0
    """Go from the root to a leaf."""
    WALK = 1
    """Step from record to record."""
    WRITE = 2
    """Join and split pages, and use again those that are free."""


class Guard:
    """Looks at the pages of a transaction before it is used, once for each that was committed.

    Where others commit all the time, it is not every one: what is feared is damage to what lies on disk, not what
    another process's liblmdb has written.

    Args:
        path: The file, for messages.
        handle: It, open for reading.
    """

    def __init__(self, path: Path, handle: int) -> None:
        facts = read_facts(path)
        self._path = path
        self._handle = handle
        self._page = facts.page_size
        self._header = facts.header
        self._read = reader(handle)
        self._lock = threading.Lock()
        # The transaction that was looked at last, and until when no other one is.
        self._seen: dict[Use, int] = {}
        self._rest: dict[Use, float] = {}

    def admits(self, transaction: lmdb.Transaction, use: Use) -> bool:
        """Whether the pages of a reading transaction are sound; False where its meta page is gone already.

        Raises:
            StoreCorruptError: They are damaged.
        """
        number = transaction.id()
        if self._knows(number, use):
            return True
        state = self.state(transaction)
        if state is None:
            return False
        self.check(state, use)
        return True

    def state(self, transaction: lmdb.Transaction) -> State | None:
        """What a transaction's meta page says; None once others have been written over it."""
        number = transaction.id()
        states = read_states(self._read, self._page, self._header)
        # As liblmdb does: the pages take turns.
        state = states[number % 2] if len(states) == 2 else None
        return state if state is not None and state.transaction == number else None

    def check(self, state: State, use: Use) -> None:
        """Look at the pages of a transaction that is open.

        Raises:
            StoreCorruptError: They are damaged.
        """
        if self._knows(state.transaction, use):
            return
        with self._lock:
            if self._knows(state.transaction, use):
                return
            start = time.monotonic()
            state = replace(state, pages=min(state.pages, os.fstat(self._handle).st_size // self._page))
            faults = Tree(self._read, self._page, self._header, state).faults(
                leaves=use >= Use.WALK, free=use == Use.WRITE
            )
            if faults:
                raise StoreCorruptError(
                    f"{self._path} is damaged: {faults[0]}" + (f", and {len(faults) - 1} more" if faults[1:] else ""),
                    hint=REMEDY,
                )
            end = time.monotonic()
            self._seen |= dict.fromkeys((level for level in Use if level <= use), state.transaction)
            # What is written afterwards, liblmdb writes.
            self._rest[use] = math.inf if use == Use.WRITE else end + (_SHARE - 1) * (end - start)

    def _knows(self, number: int, use: Use) -> bool:
        return self._seen.get(use) == number or time.monotonic() < self._rest.get(use, 0.0)


def reader(handle: int) -> Callable[[int, int], bytes]:
    """Reads an open file at any place, from any thread."""
    if hasattr(os, "pread"):
        return lambda offset, length: os.pread(handle, length, offset)
    turn = threading.Lock()

    def read(offset: int, length: int) -> bytes:
        with turn:
            os.lseek(handle, offset, os.SEEK_SET)
            return os.read(handle, length)

    return read
