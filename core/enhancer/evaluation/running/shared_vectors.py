"""Share semantic vectors between the processes of an ablation, through memory-mapped files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from enhancer.contracts.training import SemanticVectors, View

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enhancer.config.inputs import Input
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

        def read_and_save(inputs: tuple[Input, ...]) -> SemanticVectors:
            found = SemanticVectors(*features(inputs))
            views = self._path(inputs, "views", "json")
            views.write_text(json.dumps(found.views), encoding="utf-8")
            for name, vectors in (("users", found.users), ("items", found.items)):
                if vectors is not None and not (path := self._path(inputs, name)).exists():
                    draft = path.with_suffix(".draft")
                    with draft.open("wb") as file:
                        np.save(file, vectors, allow_pickle=False)
                    draft.replace(path)
            return found

        return read_and_save

    def loading(self, features: Features) -> Features:
        """Wrap ``features`` so that saved vectors are mapped from their files; others come from ``features``."""

        def load_or_read(inputs: tuple[Input, ...]) -> SemanticVectors:
            items = self._path(inputs, "items")
            if not items.exists():
                return SemanticVectors(*features(inputs))
            users = self._path(inputs, "users")
            views = json.loads(self._path(inputs, "views", "json").read_text(encoding="utf-8"))
            return SemanticVectors(
                _mapped(users) if users.exists() else None, _mapped(items), tuple(View(*view) for view in views)
            )

        return load_or_read

    def _path(self, inputs: tuple[Input, ...], name: str, extension: str = "npy") -> Path:
        # Names of many inputs may be longer than a file's name may be.
        key = hashlib.blake2b("\0".join(inputs).encode(), digest_size=16).hexdigest()
        return self.folder / f"{key}.{name}.{extension}"


def _mapped(path: Path) -> FloatMatrix:
    import numpy as np

    # Copy-on-write, because a backbone may modify the vectors in place.
    vectors: FloatMatrix = np.load(path, mmap_mode="c", allow_pickle=False)
    return vectors
