"""Embedder ``sentence-transformers``: any model of that library, from a folder or the Hugging Face hub."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from enhancer.contracts.options import Context, Options
from enhancer.errors import ConfigError
from enhancer_plugins.embedders import models
from enhancer_plugins.embedders.batched_embedder import BatchedEmbedder
from enhancer_plugins.embedders.families import is_bare, is_decoder, pooling_by_name, pooling_of
from enhancer_plugins.embedders.model_folder import (
    check_length,
    check_weights,
    folder_digest,
    longest_text,
    names_in,
    read_object,
)

if TYPE_CHECKING:
    from pathlib import Path

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
    prompt_name: str | None = None
    """Name of a prompt of the model, such as ``document``, which is put before every text. By default the model's own
    default, which is rarely set."""
    max_seq_length: int | None = Field(default=None, ge=1)
    """Maximum length of a text in tokens; by default the limit of the model."""
    truncate_dim: int | None = Field(default=None, ge=1)
    """Number of leading components to keep, for models trained so (Matryoshka); by default all."""
    dtype: Literal["float32", "float16", "bfloat16", "mixed"] | None = None
    """Type of weights and activations; by default that of the model's files. ``mixed`` multiplies matrices in bfloat16
    and adds up in float32: on a CPU with AMX or AVX-512 BF16, encoders like BERT (RoBERTa, MPNet, DistilBERT) are more
    than twice as fast, at cosines of .9999; other models gain less."""
    pooling: Literal["cls", "mean", "last"] | None = None
    """Pooling of token vectors: the first token, the mean, the last token. By default that of the model, or of its
    family if it has no ``modules.json``."""
    backend: Literal["torch", "onnx"] = "torch"
    """``onnx`` runs the model's ONNX file with ONNX Runtime."""
    onnx_file: str | None = None
    """ONNX file in the folder of the model; by default ``onnx/model.onnx`` or ``model.onnx``."""
    allow_pickle_weights: bool = False
    """Load weights that are pickled. Unpickling can run code: allow it for models that you trust."""

    @model_validator(mode="after")
    def _combine(self) -> Self:
        if self.prefix and self.prompt_name:
            raise ValueError("prefix and prompt_name cannot be combined; both go before every text")
        if self.backend == "onnx" and self.dtype is not None:
            raise ValueError("dtype has no effect with backend 'onnx': the ONNX file determines it")
        if self.backend == "torch" and self.onnx_file is not None:
            raise ValueError("onnx_file has an effect only with backend 'onnx'")
        return self


class SentenceTransformers(BatchedEmbedder):
    """Embeds with a model of sentence-transformers and its own pooling, without remote code."""

    options_class = SentenceTransformersOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, SentenceTransformersOptions)
        self._options = options
        self._batch_size = options.batch_size
        self._prefix = options.prefix
        self._folder = models.local_folder(options.model, context.root)
        self._pooling = options.pooling
        if self._folder is not None:
            self._check_folder(self._folder)

    def _check_folder(self, folder: Path) -> None:
        options, config = self._options, read_object(folder / "config.json")
        check_length(options.max_seq_length, config, "max_seq_length", options.model)
        if options.backend == "torch" and not options.allow_pickle_weights:
            check_weights(names_in(folder), options.model)
        if options.pooling is None and is_bare(folder):
            # Without modules.json the library pools by the mean, whatever the model was trained for.
            pooling = pooling_of(folder)
            if pooling is None:
                raise ConfigError(
                    f"[embedder] model: {folder} has no modules.json, which says how to pool token vectors",
                    hint="set [embedder] pooling to 'cls', 'mean' or 'last', as the description of the model says",
                )
            self._pooling = None if pooling == _assumed(config) else pooling
        elif options.pooling == _assumed(config) and is_bare(folder):
            self._pooling = None  # the same vectors

    @cached_property
    def fingerprint(self) -> str:
        """Model (for a folder: hash of its content), pooling, prompt, length and type. Does not load the model."""
        options, folder = self._options, self._folder
        onnx: tuple[str, ...] = ()
        if folder is not None and options.backend == "onnx":
            from enhancer_plugins.embedders.onnx_encoder import onnx_files

            onnx = onnx_files(folder, options.onnx_file)
        digest = f"local@{folder_digest(folder, also=onnx)}" if folder else None
        parts = [
            digest or f"{options.model}@{options.revision or 'main'}",
            f"pooling={self._pooling or 'model'}",
            f"prefix={options.prefix!r}",
            f"max_length={options.max_seq_length or 'model'}",
        ]
        if options.prompt_name is not None:
            prompt = repr(self._prompt(folder, options.prompt_name)) if folder else options.prompt_name
            parts.append(f"prompt={prompt}")
        if options.truncate_dim is not None:
            parts.append(f"dim={options.truncate_dim}")
        if options.dtype is not None:
            parts.append(f"dtype={options.dtype}")
        if options.backend == "onnx":
            parts.append(f"onnx={options.onnx_file or 'model'}")
        return ";".join(parts)

    @staticmethod
    def _prompt(folder: Path, name: str) -> str:
        prompts = read_object(folder / "config_sentence_transformers.json").get("prompts") or {}
        if name not in prompts:
            raise _no_prompt(name, prompts)
        return str(prompts[name] or "")

    def _load(self) -> Any:
        options, folder = self._options, self._folder
        if folder is None:
            models.require_reachable(options.model, options.revision)
        if options.backend == "onnx":
            return self._load_onnx()
        if folder is None and not options.allow_pickle_weights:
            models.check_hub_weights(options.model, options.revision)
        settings: dict[str, Any] = {} if options.allow_pickle_weights else {"use_safetensors": True}
        if options.dtype is not None:
            settings["torch_dtype"] = "float32" if options.dtype == "mixed" else options.dtype
        loaded = models.load_sentence_transformer(
            "sentence-transformers",
            folder or options.model,
            device=options.device,
            max_length=options.max_seq_length,
            revision=None if folder else options.revision,
            model_kwargs=settings or None,
            truncate_dim=options.truncate_dim,
        )
        self._check_loaded(loaded)
        models.set_pooling(loaded, self._pooling)
        models.accelerate(loaded, mixed=options.dtype == "mixed")
        return loaded

    def _check_loaded(self, loaded: Any) -> None:
        """Check what is known of a model on the hub only once it is loaded."""
        options = self._options
        loaded.truncate_dim, wanted = None, loaded.truncate_dim
        if options.truncate_dim is not None and options.truncate_dim > models.width(loaded):
            raise ConfigError(f"[embedder] truncate_dim must be at most {models.width(loaded)} for {options.model}")
        loaded.truncate_dim = wanted
        if options.prompt_name is not None and options.prompt_name not in loaded.prompts:
            raise _no_prompt(options.prompt_name, loaded.prompts)
        bare = self._folder is None and not loaded.module_kwargs
        family = pooling_by_name(options.model)
        assumed = _assumed(loaded[0].auto_model.config.to_dict()) if bare else family
        if options.pooling is None and family not in {None, assumed}:
            raise ConfigError(
                f"[embedder] model {options.model!r} has no modules.json, and would be pooled as its family is not",
                hint=f"set [embedder] pooling = {family!r}",
            )

    def _load_onnx(self) -> Any:
        from enhancer_plugins.embedders.onnx_encoder import OnnxEncoder

        options = self._options
        folder = self._folder or models.download(options.model, options.revision, (options.onnx_file or "*.onnx*",))
        encoder = OnnxEncoder(
            folder,
            options.onnx_file,
            pooling=options.pooling or pooling_of(folder),
            max_length=options.max_seq_length,
            prompt=None if options.prompt_name is None else self._prompt(folder, options.prompt_name),
            truncate_dim=options.truncate_dim,
        )
        check_length(options.max_seq_length, read_object(folder / "config.json"), "max_seq_length", options.model)
        return encoder

    def _width(self, model: Any) -> int:
        return int(model.dim) if self._options.backend == "onnx" else models.width(model)

    def _on_cpu(self, model: Any) -> bool:
        return self._options.backend == "onnx" or bool(model.device.type == "cpu")

    def _files(self) -> Path | None:
        return self._folder or models.cached_folder(self._options.model, self._options.revision)

    def _limit(self, folder: Path) -> int | None:
        return self._options.max_seq_length or longest_text(folder)

    def _tokenizer(self, model: Any) -> Any:
        return model.tokenizer

    def _longest(self, model: Any) -> int | None:
        return int(model.max_length) if self._options.backend == "onnx" else models.longest(model)

    def _before(self, model: Any) -> str:
        prompt = model.prompt if self._options.backend == "onnx" else models.prompt(model, self._options.prompt_name)
        return f"{prompt}{self._prefix}"

    def _forward(self, model: Any, texts: list[str]) -> NDArray[np.float32]:
        if self._options.backend == "onnx":
            vectors: NDArray[np.float32] = model.encode(texts)
            return vectors
        with models.autocast(model) if self._options.dtype == "mixed" else nullcontext():
            return models.embed(model, texts, self._options.prompt_name)


def _assumed(config: dict[str, Any]) -> str:
    """Return the pooling that sentence-transformers gives a model without modules."""
    causal = str((config.get("architectures") or [""])[0]).endswith("ForCausalLM") and is_decoder(config)
    return "last" if causal else "mean"


def _no_prompt(name: str, prompts: dict[str, Any]) -> ConfigError:
    known = ", ".join(sorted(prompts)) or "none"
    return ConfigError(
        f"[embedder] prompt_name: the model has no prompt {name!r}; it has {known}",
        hint="choose one of them, or set [embedder] prefix to the text itself",
    )
