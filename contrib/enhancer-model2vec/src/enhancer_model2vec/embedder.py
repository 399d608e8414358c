"""Embedder ``model2vec``: the mean of static vectors of tokens."""

from __future__ import annotations

import hashlib
import threading
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from enhancer.contracts import Context, Embedder, Options
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Model2VecOptions(Options):
    """``[embedder]`` with ``use = "model2vec"``."""

    model: str = "minishlab/potion-base-8M"
    """Name on the Hugging Face hub, or a local folder."""
    prefix: str = ""
    """Prefix of every text."""
    max_length: int = Field(default=512, ge=1)
    """Maximum length of a text in tokens; longer texts are truncated."""
    truncate_dim: int | None = Field(default=None, ge=1)
    """Number of leading components to keep; by default all. The models are sorted by principal components."""


class Model2Vec(Embedder):
    """Static embeddings (Tulkens & van Dongen 2024, "Model2Vec"): a text is the mean of the vectors of its tokens.

    A table is all that is computed with: thousands of texts a second on one core. The order of words does not
    count. A text without a known token has no vector.
    """

    options_class = Model2VecOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, Model2VecOptions)
        self._options = options
        self._folder = _local_folder(options.model, context.root)
        self._lock = threading.Lock()
        self._loaded: Any = None

    @cached_property
    def fingerprint(self) -> str:
        """Model (for a folder: hash of its content), prefix, length and dimension. Does not load the model."""
        options = self._options
        name = f"local@{_digest(self._folder)}" if self._folder else f"{options.model}@main"
        dim = f";dim={options.truncate_dim}" if options.truncate_dim else ""
        return f"model2vec:{name};prefix={options.prefix!r};max_length={options.max_length}{dim}"

    @property
    def _model(self) -> Any:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
        return self._loaded

    def _load(self) -> Any:
        from model2vec import StaticModel

        options = self._options
        try:
            loaded = StaticModel.from_pretrained(
                self._folder or options.model, max_length=options.max_length, force_download=False
            )
        except Exception as error:  # of the hub, of safetensors, of tokenizers
            reason = str(error).strip().split("\n")[0]
            raise ConfigError(
                f"[embedder] model {options.model!r} cannot be loaded: {reason}",
                hint="set [embedder] model to the folder of a model, or HF_HOME to a cache that contains it",
            ) from error
        if options.truncate_dim is not None and options.truncate_dim > loaded.dim:
            raise ConfigError(f"[embedder] truncate_dim must be at most {loaded.dim} for {options.model}")
        return loaded

    @property
    def dim(self) -> int:
        """Dimension of the vectors. Loads the model."""
        return self._options.truncate_dim or int(self._model.dim)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts. Returns float32 ``[len(texts), dim]``; the row of a text without a known token is zero."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        vectors = self._model.encode(self._prefixed(texts), use_multiprocessing=False)
        vectors = vectors.astype(np.float32)[:, : self.dim]
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(lengths > 0, lengths, 1)

    def truncates(self, texts: Sequence[str]) -> list[bool] | None:
        """Return which texts are longer than ``max_length`` tokens; None before a model of the hub is loaded."""
        if self._loaded is None and self._folder is None:
            return None
        model, most = self._model, self._options.max_length
        characters = most * model.median_token_length  # model2vec cuts texts off there first
        prefixed = self._prefixed(texts)
        cut = [len(text) > characters for text in prefixed]
        with self._lock:
            model.tokenizer.no_truncation()
            try:
                found = model.tokenizer.encode_batch_fast(prefixed, add_special_tokens=False)
            finally:
                model.tokenizer.enable_truncation(most)
        return [long or len(one.ids) > most for long, one in zip(cut, found, strict=True)]

    def _prefixed(self, texts: Sequence[str]) -> list[str]:
        return [self._options.prefix + text.encode("utf-8", "replace").decode() for text in texts]


def _local_folder(model: str, root: Path) -> Path | None:
    """Return the folder of a model; None for a name on the hub.

    Raises:
        ConfigError: There is no such folder, or it is not that of a static model.
    """
    folder = root / Path(model).expanduser()
    if not folder.is_dir():
        if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
            raise ConfigError(f"[embedder] model: there is no folder {folder}")
        return None
    if not any((folder / place / "model.safetensors").is_file() for place in ("", "0_StaticEmbedding")):
        raise ConfigError(
            f"[embedder] model: {folder} is not the folder of a static model",
            hint="it must contain model.safetensors, tokenizer.json and config.json, as model2vec saves them",
        )
    return folder


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for place in ("", "0_StaticEmbedding"):
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            file = folder / place / name
            if file.is_file():
                digest.update(f"{place}/{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]
