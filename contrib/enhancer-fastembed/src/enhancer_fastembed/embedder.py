"""Embedder ``fastembed``: models in ONNX, by name or from a folder."""

from __future__ import annotations

import hashlib
import json
import threading
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from pydantic import Field

from enhancer.contracts import Context, Embedder, Options
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_PLACES: Final = ("model.onnx", "onnx/model.onnx")
_READ: Final = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


class FastEmbedOptions(Options):
    """``[embedder]`` with ``use = "fastembed"``."""

    model: str = "BAAI/bge-small-en-v1.5"
    """Name of a model that fastembed supports, or a local folder."""
    onnx_file: str | None = None
    """For a folder: its ONNX file; by default ``model.onnx`` or ``onnx/model.onnx``."""
    pooling: Literal["cls", "mean", "last"] | None = None
    """For a folder: pooling of token vectors, as the description of the model says."""
    prefix: str = ""
    """Prefix of every text, such as ``"passage: "`` for e5."""
    batch_size: int = Field(default=32, ge=1)
    """Texts in one forward pass."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of ONNX Runtime; by default all cores."""
    cache_dir: str | None = None
    """Folder of downloaded models; by default that of fastembed."""


class FastEmbed(Embedder):
    """Embeds with ONNX models through fastembed, without torch."""

    options_class = FastEmbedOptions

    def __init__(self, options: Options, context: Context) -> None:
        assert isinstance(options, FastEmbedOptions)
        self._options = options
        self._root = context.root
        self._lock = threading.Lock()
        self._loaded: Any = None
        self._folder = _local_folder(options.model, context.root)
        self._file = _onnx_file(self._folder, options.onnx_file) if self._folder else None
        if self._folder and options.pooling is None:
            raise ConfigError(
                f"[embedder] pooling: {self._folder} does not say how to pool token vectors",
                hint="set it to 'cls' (as BGE), 'mean' (as e5 and MiniLM) or 'last' (decoders)",
            )
        if not self._folder and (options.pooling or options.onnx_file):
            raise ConfigError(
                f"[embedder] pooling and onnx_file are for a folder; fastembed knows those of {options.model}",
                hint="leave them out, or set [embedder] model to a folder",
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the folder, or name of the model and version of fastembed; prefix. Does not load the model.

        A version of fastembed may pool a model in another way, or take another file, than the one before.
        """
        options = self._options
        if self._folder is None:
            release = ".".join(version("fastembed").split(".")[:2])
            name = f"{options.model}@fastembed-{release}"
        else:
            name = f"local@{_digest(self._folder, str(self._file))};pooling={options.pooling}"
        return f"fastembed:{name};prefix={options.prefix!r}"

    @property
    def _model(self) -> Any:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
        return self._loaded

    def _load(self) -> Any:
        from fastembed import TextEmbedding

        options = self._options
        settings: dict[str, Any] = {"threads": options.threads}
        if options.cache_dir is not None:
            settings["cache_dir"] = str(self._root / Path(options.cache_dir).expanduser())
        name = options.model
        if self._folder is None:
            known = {one["model"].lower() for one in TextEmbedding.list_supported_models()}
            if name.lower() not in known:
                raise ConfigError(
                    f"[embedder] model {name!r} is neither a folder nor one of the {len(known)} models of fastembed",
                    hint="enhancer's embedder sentence-transformers takes any model",
                )
        else:
            name = self._register(TextEmbedding, self._folder)
            settings["specific_model_path"] = str(self._folder)
        try:
            return TextEmbedding(name, **settings)
        except Exception as error:  # of the hub, of ONNX Runtime, of tokenizers
            reason = str(error).strip().split("\n")[0]
            raise ConfigError(
                f"[embedder] model {options.model!r} cannot be loaded: {reason}",
                hint="set [embedder] model to the folder of a model, or cache_dir to one that contains it",
            ) from error

    def _register(self, library: Any, folder: Path) -> str:
        """Register a folder as a model of fastembed, once, and return its name."""
        from fastembed.common.model_description import ModelSource, PoolingType

        options = self._options
        name = f"enhancer/{_digest(folder, str(self._file))}-{options.pooling}"
        pooling = {"cls": PoolingType.CLS, "mean": PoolingType.MEAN, "last": PoolingType.LAST_TOKEN}
        if name not in {one["model"] for one in library.list_supported_models()}:
            library.add_custom_model(
                model=name,
                pooling=pooling[str(options.pooling)],
                normalization=True,
                sources=ModelSource(hf=name),
                dim=_hidden_size(folder),
                model_file=str(self._file),
            )
        return name

    @property
    def dim(self) -> int:
        """Dimension of the vectors. Loads the model."""
        return int(self._model.embedding_size)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts. Returns float32 ``[len(texts), dim]`` with rows of unit length."""
        vectors = np.zeros((len(texts), self.dim), np.float32)
        # Batches of similar length need little padding.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        found = self._model.embed([self._prefixed(texts[row]) for row in order], batch_size=self._options.batch_size)
        for row, vector in zip(order, found, strict=True):
            vectors[row] = vector
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        usable = np.isfinite(lengths) & (lengths > 0)
        return np.where(usable, vectors / np.where(usable, lengths, 1), 0)

    def truncates(self, texts: Sequence[str]) -> list[bool] | None:
        """Return which texts are longer than the model reads; None before it is loaded, or if it has no limit."""
        if self._loaded is None:
            return None
        tokenizer = getattr(self._model.model, "tokenizer", None)
        if tokenizer is None or tokenizer.truncation is None:
            return None
        found = tokenizer.encode_batch([self._prefixed(text) for text in texts])
        return [bool(one.overflowing) for one in found]

    def _prefixed(self, text: str) -> str:
        return self._options.prefix + text.encode("utf-8", "replace").decode()


def _local_folder(model: str, root: Path) -> Path | None:
    folder = root / Path(model).expanduser()
    if folder.is_dir():
        return folder
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise ConfigError(f"[embedder] model: there is no folder {folder}")
    return None


def _onnx_file(folder: Path, name: str | None) -> str:
    for place in [name] if name else _PLACES:
        if (folder / place).is_file():
            if (folder / "tokenizer.json").is_file() and (folder / "config.json").is_file():
                return place
            raise ConfigError(f"[embedder] model: {folder} lacks tokenizer.json or config.json")
    raise ConfigError(
        f"[embedder] onnx_file: {folder} has no {name or ' and no '.join(_PLACES)}",
        hint="set [embedder] onnx_file to the ONNX file of the model",
    )


def _hidden_size(folder: Path) -> int:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config.get("hidden_size"), int):
        raise ConfigError(f"[embedder] model: {folder / 'config.json'} has no hidden_size")
    return int(config["hidden_size"])


def _digest(folder: Path, onnx: str) -> str:
    digest = hashlib.sha256()
    weights = (folder / onnx).parent.glob("*data")  # beside the ONNX file, for large models
    names = sorted({onnx, *_READ, *(file.relative_to(folder).as_posix() for file in weights)})
    for name in names:
        if (folder / name).is_file():
            with (folder / name).open("rb") as stream:
                digest.update(name.encode() + b"\0" + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]
