"""Who uses an LMDB map, and who may move it."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Gate:
    """Many may use the map at once; to move it in memory one must be alone. A pin holds it in its place for long."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._movers = 0
        self.pins = 0

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

    def pin(self) -> None:
        """To be called while using the map."""
        with self._condition:
            self.pins += 1

    def unpin(self) -> None:
        with self._condition:
            self.pins -= 1

    @contextlib.contextmanager
    def move(self) -> Iterator[bool]:
        """Alone; whether the map may be moved, which it may not while it is pinned."""
        with self._condition:
            self._movers += 1
            try:
                while self._users:
                    self._condition.wait()
                yield self.pins == 0
            finally:
                self._movers -= 1
                self._condition.notify_all()
