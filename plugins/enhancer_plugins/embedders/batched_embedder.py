"""Base class of embedders with a local model: batches by text length, unit vectors, no console output."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from abc import abstractmethod
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts.embedder import Embedder
from enhancer_plugins.embedders.model_folder import token_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_LOADING = threading.Lock()
"""Models are loaded one at a time, because imports and settings of the libraries are global."""
_CPU_TOKENS = 4096
"""Tokens of a batch on a CPU, padding included."""
_FEWEST = 8
"""Texts of a batch on a CPU, however long they are, unless ``batch_size`` is smaller."""
_CHARACTERS_PER_TOKEN = 4
_TOKENIZED = 256
"""Texts that are tokenized at once to find their lengths."""
_LOGGERS = ("transformers", "sentence_transformers", "huggingface_hub", "FlagEmbedding")


class BatchedEmbedder(Embedder):
    """Embedder with a local model. Subclasses load the model and embed one batch."""

    _batch_size: int
    _prefix: str = ""

    @abstractmethod
    def _load(self) -> Any:
        """Import the libraries, load the model and return it."""

    @abstractmethod
    def _forward(self, model: Any, texts: list[str]) -> NDArray[np.float32]:
        """Embed one batch. Returns ``[len(texts), dim]`` of any float type; rows need not have unit length."""

    @abstractmethod
    def _width(self, model: Any) -> int:
        """Return the dimension of the vectors."""

    _loaded: Any = None

    @property
    def _model(self) -> Any:
        if self._loaded is None:
            with _LOADING:
                if self._loaded is None:
                    with quiet():
                        self._loaded = self._load()
        return self._loaded

    @property
    def dim(self) -> int:
        """Dimension of the vectors. Loads the model."""
        return self._width(self._model)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See :meth:`Embedder.encode`."""
        model = self._model
        # Batches of similar length need little padding. The longest come first, so that a lack of memory shows at once.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        table = np.empty((len(texts), self._width(model)), dtype=np.float32)
        with quiet():
            for rows in self._batches(model, texts, order):
                table[rows] = self._forward(model, [self._prefix + texts[row] for row in rows])
        length = np.linalg.norm(table, axis=1, keepdims=True)
        usable = np.isfinite(length) & (length > 0)
        vectors: NDArray[np.float32] = np.where(usable, table / np.where(usable, length, 1), np.float32(0))
        return vectors

    def _batches(self, model: Any, texts: Sequence[str], order: list[int]) -> Iterator[list[int]]:
        """Yield the rows of each batch: ``batch_size`` texts, on a CPU fewer if they are long."""
        start, limit = 0, self._longest(model) or _CPU_TOKENS
        while start < len(order):
            size = self._batch_size
            if self._on_cpu(model):
                # The longest text of the batch comes first. Larger batches than this leave the caches of a core.
                tokens = min(1 + len(texts[order[start]]) // _CHARACTERS_PER_TOKEN, limit)
                size = min(size, max(_FEWEST, _CPU_TOKENS // tokens))
            yield order[start : start + size]
            start += size

    @abstractmethod
    def _on_cpu(self, model: Any) -> bool:
        """Return whether the model computes on a CPU."""

    def truncates(self, texts: Sequence[str]) -> list[bool] | None:
        """See :meth:`Embedder.truncates`."""
        count: Callable[[list[str]], list[int]]
        if self._loaded is not None:
            count, limit, prefix = self._loaded_count, self._longest(self._loaded), self._before(self._loaded)
        elif (folder := self._files()) is not None and (found := token_count(folder)) is not None:
            count, limit, prefix = found, self._limit(folder), self._prefix
        else:
            return None
        if limit is None:
            return None
        # A token is at least one byte of the text. Normalisation rarely makes a text longer; a quarter is to spare.
        sizes = [len((prefix + text).encode("utf-8", "surrogatepass")) for text in texts]
        long = [row for row, size in enumerate(sizes) if 1.25 * size + 8 > limit]
        cut = [False] * len(texts)
        for start in range(0, len(long), _TOKENIZED):
            rows = long[start : start + _TOKENIZED]
            for row, tokens in zip(rows, count([prefix + texts[row] for row in rows]), strict=True):
                cut[row] = tokens > limit
        return cut

    def _loaded_count(self, texts: list[str]) -> list[int]:
        with quiet():
            batch = self._tokenizer(self._loaded)(texts, truncation=False)
        return [len(ids) for ids in batch["input_ids"]]

    @abstractmethod
    def _files(self) -> Path | None:
        """Return the folder of the model on this machine, without loading it; None if it is not known."""

    @abstractmethod
    def _limit(self, folder: Path) -> int | None:
        """Return the maximum length of a text in tokens by the files of a folder; None without a limit."""

    @abstractmethod
    def _tokenizer(self, model: Any) -> Any:
        """Return the tokenizer, of the library transformers."""

    @abstractmethod
    def _longest(self, model: Any) -> int | None:
        """Return the maximum length of a text in tokens; None without a limit."""

    def _before(self, model: Any) -> str:
        """Return what is put before every text."""
        del model
        return self._prefix


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars, logs and warnings of the model libraries within the context."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), _without_progress_bars():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    try:
        hub: Any = import_module("huggingface_hub.utils")
        transformers: Any = import_module("transformers.utils.logging")
    except ImportError:  # reported when the model is loaded
        yield
        return
    bars: tuple[tuple[Any, Any, bool], ...] = (
        (hub.disable_progress_bars, hub.enable_progress_bars, not hub.are_progress_bars_disabled()),
        (
            transformers.disable_progress_bar,
            transformers.enable_progress_bar,
            transformers.is_progress_bar_enabled(),
        ),
    )
    for hide, _, _ in bars:
        hide()
    try:
        yield
    finally:
        for _, show, shown in bars:
            if shown:
                show()
