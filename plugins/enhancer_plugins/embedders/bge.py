"""Embedder ``bge``: BAAI's models through FlagEmbedding."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from enhancer.contracts.options import Context, Options
from enhancer.errors import ConfigError
from enhancer_plugins.embedders import models
from enhancer_plugins.embedders.batched_embedder import BatchedEmbedder
from enhancer_plugins.embedders.families import is_decoder, pooling_by_name, pooling_of
from enhancer_plugins.embedders.model_folder import (
    check_length,
    check_weights,
    folder_digest,
    names_in,
    positions,
    read_object,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_MAX_LENGTH: Final = 512


class Example(BaseModel):
    """An example that an ICL model reads before each text."""

    model_config = ConfigDict(extra="forbid")

    query: str
    """A text like those to embed."""
    response: str
    """A text that is near to it."""
    instruct: str | None = None
    """The task; by default ``query_instruction``."""


class BGEOptions(Options):
    """``[embedder]`` with ``use = "bge"``."""

    model: str = "BAAI/bge-small-en-v1.5"
    """Name on the Hugging Face hub, or a local folder."""
    query_instruction: str = ""
    """Prefix of every text. BGE uses one for queries only; profiles are passages, so there is none by default."""
    examples: tuple[Example, ...] = ()
    """Examples for an ICL model, such as ``BAAI/bge-en-icl``. With them, texts are embedded as queries of the task
    ``query_instruction``; without them, as passages."""
    pooling: Literal["cls", "mean", "last"] | None = None
    """Pooling of token vectors. By default what the folder declares, else that of the family: the first token for BGE
    and BGE-M3, the last one for models that are decoders."""
    device: str | None = None
    """Torch device; by default the fastest available."""
    batch_size: int = Field(default=32, ge=1)
    """Texts in one forward pass."""
    max_length: int | None = Field(default=None, ge=1)
    """Maximum length of a text in tokens; longer texts are truncated. By default 512, or what the model can read."""
    use_fp16: bool = False
    """Half precision: faster on a GPU, slightly less accurate."""
    dtype: Literal["float32", "mixed"] = "float32"
    """``mixed`` multiplies matrices in bfloat16 and adds up in float32. On a CPU with AMX or AVX-512 BF16 that is more
    than twice as fast, at cosines of .9999 to float32."""
    allow_pickle_weights: bool = False
    """Load weights that are pickled. Unpickling can run code: allow it for models that you trust."""

    @model_validator(mode="after")
    def _combine(self) -> Self:
        if self.use_fp16 and self.dtype == "mixed":
            raise ValueError("use_fp16 and dtype 'mixed' cannot be combined")
        if self.examples and self.pooling not in {None, "last"}:
            raise ValueError("examples are read by ICL models alone, whose pooling is 'last'")
        return self


class BGE(BatchedEmbedder):
    """Embeds with the tokenizer, model and pooling that FlagEmbedding loads, without remote code.

    The dense vectors of BGE-M3 are those of its first token, as of other BGE models.
    """

    options_class = BGEOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, BGEOptions)
        self._options = options
        self._batch_size = options.batch_size
        self._prefix = "" if options.examples else options.query_instruction
        self._max_length = options.max_length or _MAX_LENGTH
        self._folder = models.local_folder(options.model, context.root)
        self._pooling = options.pooling or pooling_by_name(options.model) or "cls"
        if self._folder is not None:
            self._check_folder(self._folder)
        if options.examples and self._pooling != "last":
            raise ConfigError(
                f"[embedder] examples are read by ICL models alone, and {options.model} is none",
                hint="leave them out, or set [embedder] pooling = 'last' if it is one",
            )

    def _check_folder(self, folder: Path) -> None:
        options, config = self._options, read_object(folder / "config.json")
        check_length(options.max_length, config, "max_length", options.model)
        self._max_length = options.max_length or min(_MAX_LENGTH, positions(config) or _MAX_LENGTH)
        if not options.allow_pickle_weights:
            check_weights(names_in(folder), options.model)
        self._pooling = options.pooling or pooling_of(folder) or "cls"
        if self._pooling == "last" and config and not is_decoder(config):
            raise ConfigError(
                f"[embedder] pooling 'last' is for decoders, and {options.model} is none ({config.get('model_type')})",
                hint="set it to 'cls' or 'mean'",
            )

    @cached_property
    def fingerprint(self) -> str:
        """Model (for a folder: hash of its content), pooling, instruction, length and precision."""
        options = self._options
        name = f"local@{folder_digest(self._folder)}" if self._folder else f"{options.model}@main"
        how = f"pooling={self._pooling};prefix={options.query_instruction!r};max_length={self._max_length}"
        shown = json.dumps([example.model_dump() for example in options.examples])
        examples = f";examples={hashlib.sha256(shown.encode()).hexdigest()[:12]}" if options.examples else ""
        precision = ";fp16" if options.use_fp16 else ";dtype=mixed" if options.dtype == "mixed" else ""
        return f"{name};{how}{examples}{precision}"

    def _load(self) -> Any:
        options = self._options
        try:
            from FlagEmbedding import FlagICLModel, FlagLLMModel, FlagModel
        except ImportError as error:
            if (error.name or "").split(".")[0] != "FlagEmbedding":
                raise
            raise models.missing_library("bge", "FlagEmbedding", "bge") from None
        if self._folder is None:
            models.require_reachable(options.model, None)
            if not options.allow_pickle_weights:
                models.check_hub_weights(options.model, None)
        device = models.pick_device(options.device)
        settings: dict[str, Any] = {
            "normalize_embeddings": True,
            "use_fp16": options.use_fp16,
            "trust_remote_code": False,
            "devices": ["cuda:0" if device == "cuda" else device],
        }
        kind = FlagModel
        if options.examples:
            kind = FlagICLModel
            settings["query_instruction_for_retrieval"] = options.query_instruction
            settings["examples_for_task"] = [one.model_dump(exclude_none=True) for one in options.examples]
        elif self._pooling == "last":
            kind = FlagLLMModel
        else:
            settings["pooling_method"] = self._pooling
        try:
            loaded = kind(str(self._folder or options.model), **settings)
        except (OSError, ValueError) as error:
            raise models.unavailable(options.model, error) from error
        check_length(options.max_length, loaded.model.config.to_dict(), "max_length", options.model)
        loaded.model.to(loaded.target_devices[0]).eval()
        if device == "cpu":
            from enhancer_plugins.embedders.encoder import faster

            loaded.model = faster(loaded.model.float(), mixed=options.dtype == "mixed")
        return loaded

    def _width(self, model: Any) -> int:
        return int(model.model.config.hidden_size)

    def _on_cpu(self, model: Any) -> bool:
        return bool(model.target_devices[0] == "cpu")

    def _files(self) -> Path | None:
        return self._folder or models.cached_folder(self._options.model, None)

    def _limit(self, folder: Path) -> int | None:
        del folder
        return self._max_length

    def _tokenizer(self, model: Any) -> Any:
        return model.tokenizer

    def _longest(self, model: Any) -> int | None:
        del model
        return self._max_length

    def _forward(self, model: Any, texts: list[str]) -> NDArray[np.float32]:
        import torch

        with models.autocast(model.model) if self._options.dtype == "mixed" else nullcontext():
            if self._options.examples:
                # FlagEmbedding shows no progress bar if the batch size exceeds the number of texts.
                queries: NDArray[np.float32] = model.encode_queries(
                    texts, batch_size=len(texts) + 1, max_length=self._max_length
                )
                return queries
            # Its ``encode`` passes the first batch through the model twice, to find out whether memory suffices.
            batch = model.tokenizer(
                texts, padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
            ).to(model.target_devices[0])
            with torch.inference_mode():
                hidden = model.model(**batch, return_dict=True).last_hidden_state
                pooled = self._pool(model, hidden, batch["attention_mask"])
        vectors: NDArray[np.float32] = pooled.float().cpu().numpy()
        return vectors

    def _pool(self, model: Any, hidden: Any, mask: Any) -> Any:
        if self._pooling != "last":
            return model.pooling(hidden, mask)
        from FlagEmbedding.inference.embedder.decoder_only.base import last_token_pool

        return last_token_pool(hidden, mask)
