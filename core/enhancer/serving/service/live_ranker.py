"""The ranker that is answering just now, and its replacement when the artifact on disk is a new one.

Whoever answers a request takes :attr:`Live.ranker` once and keeps it to the end: the swap is one assignment, so a
request sees the old artifact or the new one, whole. The old one is unmapped when the last request holding it is done.
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
"""Inode, time of change and size of a manifest: what tells a new one."""


class Live:
    """Holds the ranker of an artifact, and swaps in a new one.

    Args:
        folder: The artifact's folder.
        prepare: Called with each newly loaded ranker before it answers: the place to add items and users again.
        in_memory: Read tensors into memory instead of mapping them.
        verify: Compare the sha256 of each artifact with its manifest's before it is used.

    Raises:
        ArtifactError: There is none, or it is damaged.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        prepare: Callable[[Ranker], None] | None = None,
        in_memory: bool = False,
        verify: bool = False,
    ) -> None:
        self.folder = Path(folder)
        self.reloads = 0
        """Times that a new artifact was swapped in."""
        self.error: EnhancerError | None = None
        """Why the newest artifact could not be loaded; None when the one that answers is the newest."""
        self._prepare, self._in_memory, self._verify = prepare, in_memory, verify
        self._loading = threading.Lock()
        self._old: weakref.WeakSet[Ranker] = weakref.WeakSet()
        self._signature = self._look()
        self.ranker = self._load()
        self.loaded_at = datetime.now(UTC)

    @property
    def draining(self) -> int:
        """Old rankers that some request still holds."""
        return len(self._old)

    def reload(self, *, only_if_new: bool = False) -> bool:
        """Load the artifact and swap it in. What answers stays when it cannot be loaded; :attr:`error` says why.

        Blocks for as long as loading takes, so call it in a thread of its own.

        Args:
            only_if_new: Do nothing where the manifest is the one that was loaded last.

        Returns:
            Whether another ranker answers now.
        """
        with self._loading:
            signature = self._look()
            if only_if_new and self.error is None and signature in (None, self._signature):
                return False
            try:
                ranker = self._load()
            except EnhancerError as error:
                if str(error) != str(self.error):  # a watch tries again every second: told once
                    _log.error("the new artifact is not used, the old one goes on: %s", error)
                self.error = error
                return False
            self._old.add(self.ranker)
            self.ranker, self.loaded_at = ranker, datetime.now(UTC)
            self._signature, self.error = signature, None
            self.reloads += 1
        _log.info("serving %r, made %s", ranker, ranker.manifest.get("created_at"))
        return True

    async def watch(self, every: float) -> None:
        """Look for a new artifact every so many seconds, until cancelled."""
        while True:
            # What could not be loaded is tried again less often: with ``verify`` each try reads the whole file.
            await asyncio.sleep(every if self.error is None else 3 * every)
            if self.error is not None or self._look() not in (None, self._signature):
                try:
                    await asyncio.to_thread(self.reload, only_if_new=True)
                except Exception:  # noqa: BLE001  whatever it is, the watch goes on
                    _log.exception("looking for a new artifact failed")

    def _load(self) -> Ranker:
        ranker = Ranker.load(self.folder, verify=self._verify, in_memory=self._in_memory)
        if self._prepare is not None:
            self._prepare(ranker)
        ranker.warm()
        return ranker

    def _look(self) -> Signature | None:
        with contextlib.suppress(OSError):
            found = (self.folder / MANIFEST).stat()
            return found.st_ino, found.st_mtime_ns, found.st_size
        return None
