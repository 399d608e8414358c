"""Embedder ``bge``: BAAI's models through FlagEmbedding."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from enhancer.contracts.options import Context, Options
from enhancer_plugins.embedders import models
from enhancer_plugins.embedders.batched_embedder import BatchedEmbedder
from enhancer_plugins.embedders.model_folder import (
    check_length,
    check_weights,
    folder_digest,
    names_in,
    positions,
    read_object,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_LENGTH: Final = 512


class BGEOptions(Options):
    """``[embedder]`` with ``use = "bge"``."""

    model: str = "BAAI/bge-small-en-v1.5"
    """Name on the Hugging Face hub, or a local folder."""
    query_instruction: str = ""
    """Prefix of every text. BGE uses one for queries only; profiles are passages, so there is none by default."""
    pooling: Literal["cls", "mean"] = "cls"
    """Pooling of token vectors; BGE uses the vector of the first token."""
    device: str | None = None
    """Torch device; by default the fastest available."""
    batch_size: int = Field(default=32, ge=1)
    """Texts in one forward pass."""
    max_length: int | None = Field(default=None, ge=1)
    """Maximum length of a text in tokens; longer texts are truncated. By default 512, or what the model can read."""
    use_fp16: bool = False
    """Half precision: faster on a GPU, slightly less accurate."""
    allow_pickle_weights: bool = False
    """Load weights that are pickled. Unpickling can run code: allow it for models that you trust."""


class BGE(BatchedEmbedder):
    """Embeds with ``FlagModel`` of FlagEmbedding, without remote code."""

    options_class = BGEOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, BGEOptions)
        self._options = options
        self._root = context.root
        self._batch_size = options.batch_size
        self._prefix = options.query_instruction
        self._folder = models.local_folder(options.model, self._root)
        self._max_length = options.max_length or _MAX_LENGTH
        if self._folder is not None:
            config = read_object(self._folder / "config.json")
            check_length(options.max_length, config, "max_length", options.model)
            self._max_length = options.max_length or min(_MAX_LENGTH, positions(config) or _MAX_LENGTH)
            if not options.allow_pickle_weights:
                check_weights(names_in(self._folder), options.model)

    @cached_property
    def fingerprint(self) -> str:
        """Model (for a folder: hash of its content), pooling, instruction, length and precision."""
        options = self._options
        folder = self._folder
        name = f"local@{folder_digest(folder)}" if folder else f"{options.model}@main"
        how = f"pooling={options.pooling};prefix={options.query_instruction!r};max_length={self._max_length}"
        return f"{name};{how}{';fp16' if options.use_fp16 else ''}"

    def _load(self) -> Any:
        options = self._options
        folder = self._folder
        try:
            from FlagEmbedding import FlagModel
        except ImportError as error:
            if (error.name or "").split(".")[0] != "FlagEmbedding":
                raise
            raise models.missing_library("bge", "FlagEmbedding", "bge") from None
        if folder is None:
            models.require_reachable(options.model, None)
            if not options.allow_pickle_weights:
                models.check_hub_weights(options.model, None)
        device = models.pick_device(options.device)
        try:
            return FlagModel(
                str(folder or options.model),
                pooling_method=options.pooling,
                normalize_embeddings=True,
                use_fp16=options.use_fp16,
                trust_remote_code=False,
                devices=["cuda:0" if device == "cuda" else device],
            )
        except (OSError, ValueError) as error:
            raise models.unavailable(options.model, error) from error

    def _width(self, model: Any) -> int:
        return int(model.model.config.hidden_size)

    def _forward(self, model: Any, texts: list[str]) -> NDArray[np.float32]:
        # FlagEmbedding shows no progress bar if the batch size exceeds the number of texts.
        vectors: NDArray[np.float32] = model.encode(texts, batch_size=len(texts) + 1, max_length=self._max_length)
        return vectors
