"""Serve the newest artifact: reload the ranker when the artifact on disk is replaced.

A request handler reads :attr:`LiveRanker.ranker` once and uses that ranker throughout. The swap is a single
assignment, so a request sees either the old artifact or the new one. The old one is unmapped when the last request
that uses it ends.

An artifact that cannot be loaded is never swapped in. It is tried again when one of its files changes, and not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from enhancer.errors import ArtifactError, EnhancerError
from enhancer.serving.artifact import MANIFEST
from enhancer.serving.ranker import Ranker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_log = logging.getLogger("enhancer.serving")

_GAP = 1.0
"""Seconds for which the manifest may be missing while an artifact is being replaced."""
Signature = tuple[tuple[str, int, int, int, int], ...]
"""Name, inode, times of modification and of change, and size of files; a change of any means a new artifact."""


class LiveRanker:
    """Holds the ranker of an artifact and replaces it when the artifact changes.

    Args:
        folder: Folder of the artifact.
        prepare: Called with each newly loaded ranker before it serves requests, for example to add items and users.
        in_memory: Read tensors into memory instead of mapping them.
        verify: Compare the sha256 of each artifact with its manifest's before use.
        explore: As for :meth:`Ranker.load`.
        new_items_cap: As for :meth:`Ranker.load`.

    Raises:
        ArtifactError: The artifact is missing or damaged.
        ConfigError: A share is not between 0 and 1, or the cap is below ``explore``.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        prepare: Callable[[Ranker], None] | None = None,
        in_memory: bool = False,
        verify: bool = True,
        explore: float | None = None,
        new_items_cap: float | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.reloads = 0
        """Number of times that a new artifact was swapped in."""
        self.failures = 0
        """Number of times that a new artifact could not be loaded."""
        self.error: EnhancerError | None = None
        """Why the newest artifact could not be loaded; None if it is the one being served."""
        self._prepare, self._in_memory, self._verify = prepare, in_memory, verify
        self._explore, self._new_items_cap = explore, new_items_cap
        self._loading = threading.Lock()
        self._old: weakref.WeakSet[Ranker] = weakref.WeakSet()
        self.reports = True
        """Whether to log what is loaded and what cannot be; the workers of a supervisor leave that to it."""
        self._missing_since: float | None = None
        self._loaded_signature = self._manifest_signature()
        self._failed_signature: Signature | None = None
        self.ranker = self._load()
        self.loaded_at = datetime.now(UTC)

    @property
    def draining(self) -> int:
        """Number of replaced rankers that a request still uses."""
        return len(self._old)

    def reload(self, *, only_if_new: bool = False) -> bool:
        """Load the artifact and swap it in. If loading fails the current one stays, and :attr:`error` has the reason.

        Blocks while loading, so call it in a thread of its own.

        Args:
            only_if_new: Do nothing if the manifest has not changed since the last load.

        Returns:
            Whether the ranker was replaced.
        """
        with self._loading:
            if only_if_new and not self.has_changed():
                return False
            manifest, files = self._manifest_signature(), self._signature()
            try:
                ranker = self._load()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with a new artifact, the old one serves on
                self._failed_signature = files
                self._report(error)
                return False
            self._old.add(self.ranker)
            self.ranker, self.loaded_at = ranker, datetime.now(UTC)
            self._loaded_signature, self.error = manifest, None
            self.reloads += 1
        if self.reports:
            _log.info("serving %r, made %s", ranker, ranker.manifest.get("created_at"))
        return True

    def has_changed(self) -> bool:
        """Return whether the artifact on disk is neither the one being served nor one that failed to load.

        An artifact that has been missing for a second counts as changed; a shorter gap is one that is being replaced.
        """
        found = self._manifest_signature()
        missing = not found
        self._missing_since = (self._missing_since or time.monotonic()) if missing else None
        if missing and time.monotonic() - (self._missing_since or 0.0) < _GAP:
            return False
        if self.error is not None:
            return self._signature() != self._failed_signature
        return found != self._loaded_signature

    async def watch(self, every: float) -> None:
        """Check for a new artifact every ``every`` seconds, until cancelled."""
        while True:
            await asyncio.sleep(every)
            if self.has_changed():
                await asyncio.to_thread(self.reload, only_if_new=True)

    def _report(self, error: Exception) -> None:
        if isinstance(error, EnhancerError):
            reason = error
        else:  # a bug, or no memory: its traceback helps
            reason = ArtifactError(f"{type(error).__name__} while loading {self.folder}: {error}")
        if str(reason) != str(self.error) and self.reports:
            trace = None if reason is error else error
            _log.error("the new artifact cannot be loaded, the old one stays in use: %s", reason, exc_info=trace)
        self.error = reason
        self.failures += 1

    def _load(self) -> Ranker:
        ranker = Ranker.load(
            self.folder,
            verify=self._verify,
            in_memory=self._in_memory,
            explore=self._explore,
            new_items_cap=self._new_items_cap,
        )
        if self._prepare is not None:
            self._prepare(ranker)
        ranker.warm()
        return ranker

    def _manifest_signature(self) -> Signature:
        return _signature([self.folder / MANIFEST])

    def _signature(self) -> Signature:
        """Describe all files of the artifact: what is wrong may be in any of them."""
        return _signature([self.folder / MANIFEST, *sorted(self.folder.glob("*.safetensors"))])


def _signature(paths: Iterable[Path]) -> Signature:
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            of = path.stat()
            found.append((path.name, of.st_ino, of.st_mtime_ns, of.st_ctime_ns, of.st_size))
    return tuple(found)


Live = LiveRanker
