"""Embedder ``sentence-transformers``: any model of that library, from a folder or the Hugging Face hub."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import Field

from enhancer.contracts.options import Context, Options
from enhancer_plugins.embedders import models
from enhancer_plugins.embedders.batched_embedder import BatchedEmbedder
from enhancer_plugins.embedders.model_folder import (
    check_length,
    check_weights,
    folder_digest,
    names_in,
    read_object,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SentenceTransformersOptions(Options):
    """``[embedder]`` with ``use = "sentence-transformers"``."""

    model: str = "BAAI/bge-small-en-v1.5"
    """Name on the Hugging Face hub, or a local folder."""
    revision: str | None = None
    """Branch, tag or commit on the hub. Set a commit to make sure that vectors do not change."""
    device: str | None = None
    """Torch device, such as ``cpu`` or ``cuda:1``; by default the fastest available."""
    batch_size: int = Field(default=32, ge=1)
    """Texts in one forward pass."""
    prefix: str = ""
    """Prefix of every text: ``"passage: "`` for e5, an instruction for Qwen3 or BGE."""
    max_seq_length: int | None = Field(default=None, ge=1)
    """Maximum length of a text in tokens; by default the limit of the model."""
    allow_pickle_weights: bool = False
    """Load weights that are pickled. Unpickling can run code: allow it for models that you trust."""


class SentenceTransformers(BatchedEmbedder):
    """Embeds with a model of sentence-transformers and its own pooling, without remote code."""

    options_class = SentenceTransformersOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, SentenceTransformersOptions)
        self._options = options
        self._root = context.root
        self._batch_size = options.batch_size
        self._prefix = options.prefix
        self._folder = models.local_folder(options.model, self._root)
        if self._folder is not None:
            check_length(
                options.max_seq_length, read_object(self._folder / "config.json"), "max_seq_length", options.model
            )
            if not options.allow_pickle_weights:
                check_weights(names_in(self._folder), options.model)

    @cached_property
    def fingerprint(self) -> str:
        """Model, revision (for a folder: hash of its content), prefix and length. Does not load the model."""
        options = self._options
        folder = self._folder
        name = f"local@{folder_digest(folder)}" if folder else f"{options.model}@{options.revision or 'main'}"
        length = options.max_seq_length or "model"
        return f"{name};pooling=model;prefix={options.prefix!r};max_length={length}"

    def _load(self) -> Any:
        options = self._options
        folder = self._folder
        if folder is None:
            models.require_reachable(options.model, options.revision)
            if not options.allow_pickle_weights:
                models.check_hub_weights(options.model, options.revision)
        return models.load_sentence_transformer(
            "sentence-transformers",
            folder or options.model,
            device=options.device,
            max_length=options.max_seq_length,
            revision=None if folder else options.revision,
            model_kwargs=None if options.allow_pickle_weights else {"use_safetensors": True},
        )

    def _width(self, model: Any) -> int:
        return models.width(model)

    def _forward(self, model: Any, texts: list[str]) -> NDArray[np.float32]:
        return models.embed(model, texts)
