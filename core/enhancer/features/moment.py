"""One moment of the store: whoever trains reads it as it was at the first look, whatever is refreshed meanwhile."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.config.schema import Input
    from enhancer.contracts.store import FeatureStore

    Table = NDArray[np.float32]
    Features = Callable[[Sequence[Input]], tuple[Table | None, Table]]

P = ParamSpec("P")
R = TypeVar("R")

SHARED_TABLES = ".tables-"
"""How the names of folders with shared tables begin."""


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


@dataclass(frozen=True)
class SharedTables:
    """Tables of vectors that other processes take as this one read them, out of files that they map.

    So all of them train on one state of the store, and its vectors are in memory once.
    """

    folder: Path

    @classmethod
    @contextlib.contextmanager
    def within(cls, parent: Path) -> Iterator[SharedTables]:
        """Tables in a folder of their own, which is removed at the end."""
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=SHARED_TABLES, dir=parent, ignore_cleanup_errors=True) as folder:
            yield cls(Path(folder))

    def keeping(self, features: Features) -> Features:
        """``features``, whose results are kept for others."""
        import numpy as np

        def keep(inputs: Sequence[Input]) -> tuple[Table | None, Table]:
            users, items = features(inputs)
            for name, table in (("users", users), ("items", items)):
                if table is not None and not (path := self._path(inputs, name)).exists():
                    draft = path.with_suffix(".draft")
                    with draft.open("wb") as file:
                        np.save(file, table, allow_pickle=False)
                    draft.replace(path)
            return users, items

        return keep

    def of(self, features: Features) -> Features:
        """What was kept; by ``features`` where nothing was."""

        def take(inputs: Sequence[Input]) -> tuple[Table | None, Table]:
            items = self._path(inputs, "items")
            if not items.exists():
                return features(inputs)
            users = self._path(inputs, "users")
            return (_mapped(users) if users.exists() else None), _mapped(items)

        return take

    def _path(self, inputs: Sequence[Input], name: str) -> Path:
        return self.folder / f"{'+'.join(inputs)}.{name}.npy"


def _mapped(path: Path) -> Table:
    import numpy as np

    # Copy on write: a backbone may take the table for its own.
    table: Table = np.load(path, mmap_mode="c", allow_pickle=False)
    return table
