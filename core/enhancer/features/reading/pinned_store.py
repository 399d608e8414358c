"""One moment of the store: whoever trains reads it as it was at the first look, whatever is refreshed meanwhile."""

from __future__ import annotations

import contextlib
import threading
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer.contracts.store import FeatureStore

P = ParamSpec("P")
R = TypeVar("R")


class Moment:
    """Gives the store, or, within :meth:`held`, one snapshot of it.

    Args:
        store: Gives the store. Only asked at the first look: who reads no vectors opens no store.
    """

    def __init__(self, store: Callable[[], FeatureStore]) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._holders = 0
        self._held = contextlib.ExitStack()
        self._pinned: FeatureStore | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within, all is read from one state of the store. May be nested; threads that hold it share it."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._pinned = None
                    self._held.close()

    @property
    def store(self) -> FeatureStore:
        """What to read from."""
        with self._lock:
            if not self._holders:
                return self._store()
            if self._pinned is None:
                self._pinned = self._held.enter_context(self._store().snapshot())
            return self._pinned


def at_one_moment(method: Callable[P, R]) -> Callable[P, R]:
    """A method of something that has a ``moment``, which is held while the method works."""

    @wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with cast("_HasMoment", args[0]).moment.held():
            return method(*args, **kwargs)

    return run


class _HasMoment(Protocol):
    moment: Moment
