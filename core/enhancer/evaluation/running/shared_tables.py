"""The tables of vectors that an ablation's processes share."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enhancer.config.schema import Input
    from enhancer.evaluation.running.vectors import Features, FloatMatrix

PREFIX = ".tables-"
"""How the names of folders with shared tables begin."""


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
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True) as folder:
            yield cls(Path(folder))

    def keeping(self, features: Features) -> Features:
        """``features``, whose results are kept for others."""
        import numpy as np

        def keep(inputs: tuple[Input, ...]) -> tuple[FloatMatrix | None, FloatMatrix]:
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

        def take(inputs: tuple[Input, ...]) -> tuple[FloatMatrix | None, FloatMatrix]:
            items = self._path(inputs, "items")
            if not items.exists():
                return features(inputs)
            users = self._path(inputs, "users")
            return (_mapped(users) if users.exists() else None), _mapped(items)

        return take

    def _path(self, inputs: Sequence[Input], name: str) -> Path:
        return self.folder / f"{'+'.join(inputs)}.{name}.npy"


def _mapped(path: Path) -> FloatMatrix:
    import numpy as np

    # Copy on write: a backbone may take the table for its own.
    table: FloatMatrix = np.load(path, mmap_mode="c", allow_pickle=False)
    return table
