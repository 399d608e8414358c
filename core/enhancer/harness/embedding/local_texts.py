"""Embed texts by a model in this process, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from enhancer.errors import BudgetError, ConfigError, EmbedderError, EnhancerError, ProviderError, StoreError
from enhancer.harness.embedding.outcomes import Worth
from enhancer.harness.redact import redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts.embedder import Embedder
    from enhancer.harness.embedding.outcomes import Outcome

_SECONDS = 0.5
"""Wanted duration of one call of the embedder: after each, progress is shown, and vectors are stored."""
_FEWEST, _MOST = 16, 512
"""Limits of the number of texts in a call."""
_ABOUT_NO_TEXT = (ConfigError, ProviderError, BudgetError, StoreError, EmbedderError)
"""Errors that no other text would avoid."""


class LocalTexts:
    """Embeds texts by an embedder without a server.

    If the embedder raises an error, the texts are halved until the one that it fails at is found.

    Args:
        embedder: The embedder.
        name: Its name, for messages.

    Attributes:
        parallel: Number of calls of :meth:`embed` that may be in progress.
        grace: Seconds to wait for them after an interrupt.
        usage: None: nothing is paid for.
        truncated: Number of texts so far that are longer than the model reads.
    """

    parallel = 1
    grace = 1.0  # loading a model can take much longer
    usage = None

    def __init__(self, embedder: Embedder, name: str = "") -> None:
        self._embedder = embedder
        self._name = name or type(embedder).__name__
        self._worth = Worth(self._name)
        self._size = 2 * _FEWEST
        self.truncated = 0
        self._thread: ThreadPoolExecutor | None = None

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the embedder."""
        return self._embedder.fingerprint

    @property
    def size(self) -> int:
        """Number of texts to embed at once: as many as take half a second."""
        return self._size

    async def embed(self, texts: Sequence[str]) -> list[Outcome]:
        """Return the vector of each text, or why it has none; see :meth:`encode`."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "enhancer-embed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.encode, texts)

    def encode(self, texts: Sequence[str]) -> list[Outcome]:
        """Return the vector of each text, float32 ``[dim]``, or why it has none.

        Raises:
            EmbedderError: The embedder failed, whatever the text.
        """
        began = time.perf_counter()
        outcomes = self._halved(texts)
        if texts:
            each = (time.perf_counter() - began) / len(texts)
            wanted = _MOST if each * _MOST < _SECONDS else int(_SECONDS / each)
            self._size = min(max(wanted, _FEWEST), 2 * self._size)
        return outcomes

    async def aclose(self) -> None:
        """End the thread, without waiting for a call that was given up."""
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    def _halved(self, texts: Sequence[str]) -> list[Outcome]:
        try:
            table = self._embedder.encode(texts)
        except _ABOUT_NO_TEXT:
            raise
        except Exception as error:  # noqa: BLE001 - plugins may raise anything
            if not self._worth.proven:
                self._check_that_it_works(error)
            if len(texts) == 1:
                return [self._worth.none(f"the embedder {self._name!r} failed at its text: {_shown(error)}")]
            half = len(texts) // 2
            return [*self._halved(texts[:half]), *self._halved(texts[half:])]
        if table.ndim != 2 or len(table) != len(texts):
            raise EmbedderError(
                f"the embedder {self._name!r} returned an array of shape {list(table.shape)} for {len(texts)} texts"
            )
        with contextlib.suppress(Exception):  # a plugin's fault in counting must not stop a run
            self.truncated += sum(self._embedder.truncates(texts) or ())
        return self._worth.outcomes(table)

    def _check_that_it_works(self, error: Exception) -> None:
        """Raise the error in words if the embedder fails at any text, such as because its model cannot be loaded."""
        try:
            works = len(self._embedder.encode(["a film about friendship"])) == 1
        except _ABOUT_NO_TEXT:
            raise
        except Exception:  # noqa: BLE001 - the first error is shown
            works = False
        if not works:
            hint = error.hint if isinstance(error, EnhancerError) else None
            raise EmbedderError(f"the embedder {self._name!r} failed: {_shown(error)}", hint=hint) from error


def _shown(error: Exception) -> str:
    if isinstance(error, EnhancerError):
        return error.message
    return f"{type(error).__name__}: {redact(' '.join(str(error).split())[:300])}"
