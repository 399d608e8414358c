"""Share semantic vectors between the processes of an ablation, through memory-mapped files."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enhancer.config.schema import Input
    from enhancer.evaluation.running.vectors import Features, FloatMatrix

PREFIX = ".tables-"
"""Prefix of the folders that hold shared vectors."""


@dataclass(frozen=True)
class SharedVectors:
    """Vectors that this process writes to files and other processes map into memory.

    All processes train on the same state of the store, and its vectors are in memory once.
    """

    folder: Path

    @classmethod
    @contextlib.contextmanager
    def within(cls, parent: Path) -> Iterator[SharedVectors]:
        """Create a temporary folder in ``parent``, which is removed at the end."""
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent, ignore_cleanup_errors=True) as folder:
            yield cls(Path(folder))

    def saving(self, features: Features) -> Features:
        """Wrap ``features`` so that its results are also saved for other processes."""
        import numpy as np

        def read_and_save(inputs: tuple[Input, ...]) -> tuple[FloatMatrix | None, FloatMatrix]:
            users, items = features(inputs)
            for name, vectors in (("users", users), ("items", items)):
                if vectors is not None and not (path := self._path(inputs, name)).exists():
                    draft = path.with_suffix(".draft")
                    with draft.open("wb") as file:
                        np.save(file, vectors, allow_pickle=False)
                    draft.replace(path)
            return users, items

        return read_and_save

    def loading(self, features: Features) -> Features:
        """Wrap ``features`` so that saved vectors are mapped from their files; others come from ``features``."""

        def load_or_read(inputs: tuple[Input, ...]) -> tuple[FloatMatrix | None, FloatMatrix]:
            items = self._path(inputs, "items")
            if not items.exists():
                return features(inputs)
            users = self._path(inputs, "users")
            return (_mapped(users) if users.exists() else None), _mapped(items)

        return load_or_read

    def _path(self, inputs: tuple[Input, ...], name: str) -> Path:
        return self.folder / f"{'+'.join(inputs)}.{name}.npy"


def _mapped(path: Path) -> FloatMatrix:
    import numpy as np

    # Copy-on-write, because a backbone may modify the vectors in place.
    vectors: FloatMatrix = np.load(path, mmap_mode="c", allow_pickle=False)
    return vectors
