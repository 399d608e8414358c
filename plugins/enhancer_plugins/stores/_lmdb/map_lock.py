"""Lock for the memory map of an LMDB environment, which must not move while it is in use."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class MapLock:
    """Shared lock to use the map, exclusive lock to move it. A pin keeps the map in place beyond a shared lock."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._movers = 0
        self.pins = 0

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Hold the shared lock."""
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

    def pin(self) -> None:
        """Keep the map in place until :meth:`unpin`. Requires the shared lock."""
        with self._condition:
            self.pins += 1

    def unpin(self) -> None:
        """Undo one :meth:`pin`."""
        with self._condition:
            self.pins -= 1

    @contextlib.contextmanager
    def move(self) -> Iterator[bool]:
        """Hold the exclusive lock. Yields whether the map may be moved, which is False while it is pinned."""
        with self._condition:
            self._movers += 1
            try:
                while self._users:
                    self._condition.wait()
                yield self.pins == 0
            finally:
                self._movers -= 1
                self._condition.notify_all()
