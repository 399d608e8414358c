"""Serve the newest artifact: reload the ranker when the artifact on disk is replaced.

A request handler reads :attr:`LiveRanker.ranker` once and uses that ranker throughout. The swap is a single
assignment, so a request sees either the old artifact or the new one. The old one is unmapped when the last request
that uses it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import weakref
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from enhancer.errors import EnhancerError
from enhancer.serving.artifact import MANIFEST
from enhancer.serving.ranker import Ranker

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("enhancer.serving")

Signature = tuple[int, int, int]
"""Inode, modification time and size of a manifest; a change of any means a new artifact."""


class LiveRanker:
    """Holds the ranker of an artifact and replaces it when the artifact changes.

    Args:
        folder: Folder of the artifact.
        prepare: Called with each newly loaded ranker before it serves requests, for example to add items and users.
        in_memory: Read tensors into memory instead of mapping them.
        verify: Compare the sha256 of each artifact with its manifest before use.
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
        verify: bool = False,
        explore: float | None = None,
        new_items_cap: float | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.reloads = 0
        """Number of times that a new artifact was swapped in."""
        self.error: EnhancerError | None = None
        """Why the newest artifact could not be loaded; None if it is the one being served."""
        self._prepare, self._in_memory, self._verify = prepare, in_memory, verify
        self._explore, self._new_items_cap = explore, new_items_cap
        self._loading = threading.Lock()
        self._old: weakref.WeakSet[Ranker] = weakref.WeakSet()
        self._loaded_signature = self._signature()
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
            signature = self._signature()
            if only_if_new and self.error is None and signature in (None, self._loaded_signature):
                return False
            try:
                ranker = self._load()
            except EnhancerError as error:
                if str(error) != str(self.error):  # the watch tries again every few seconds: log it once
                    _log.error("the new artifact cannot be loaded, the old one stays in use: %s", error)
                self.error = error
                return False
            self._old.add(self.ranker)
            self.ranker, self.loaded_at = ranker, datetime.now(UTC)
            self._loaded_signature, self.error = signature, None
            self.reloads += 1
        _log.info("serving %r, made %s", ranker, ranker.manifest.get("created_at"))
        return True

    async def watch(self, every: float) -> None:
        """Check for a new artifact every ``every`` seconds, until cancelled."""
        while True:
            # After a failed load, wait longer: with ``verify`` each attempt reads the whole file.
            await asyncio.sleep(every if self.error is None else 3 * every)
            if self.error is not None or self._signature() not in (None, self._loaded_signature):
                try:
                    await asyncio.to_thread(self.reload, only_if_new=True)
                except Exception:  # noqa: BLE001 - no failure may end the watch
                    _log.exception("checking for a new artifact failed")

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

    def _signature(self) -> Signature | None:
        with contextlib.suppress(OSError):
            found = (self.folder / MANIFEST).stat()
            return found.st_ino, found.st_mtime_ns, found.st_size
        return None


Live = LiveRanker
