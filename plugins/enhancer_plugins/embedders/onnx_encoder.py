"""Models of sentence-transformers on ONNX Runtime: tokenizer, ONNX file, pooling and dense layers, without torch."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from enhancer.errors import ConfigError
from enhancer_plugins.embedders.model_folder import longest_text, read_json, read_object
from enhancer_plugins.embedders.models import missing_library

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_PLACES: Final = ("onnx/model.onnx", "model.onnx")
_ACTIVATIONS: Final = {"Identity": lambda values: values, "Tanh": np.tanh, "ReLU": lambda values: np.maximum(values, 0)}


def onnx_files(folder: Path, name: str | None) -> tuple[str, ...]:
    """Return the ONNX file of a model, and files of weights beside it, relative to the folder.

    Args:
        folder: Folder of the model.
        name: Name of the file; None for the usual ones.

    Raises:
        ConfigError: There is none.
    """
    found = next((place for place in ([name] if name else _PLACES) if (folder / place).is_file()), None)
    if found is None:
        there = ", ".join(sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.onnx"))) or "none"
        raise ConfigError(
            f"[embedder] onnx_file: {folder} has no {name or ' and no '.join(_PLACES)}; ONNX files there: {there}",
            hint="set [embedder] onnx_file to one of them, or export the model to ONNX",
        )
    beside = (folder / found).parent.glob("*data")
    return (found, *sorted(file.relative_to(folder).as_posix() for file in beside if file.is_file()))


class OnnxEncoder:
    """Tokenizer, ONNX model, pooling and dense layers of one folder.

    Args:
        folder: Folder of the model.
        name: ONNX file; None for the usual ones.
        pooling: ``cls``, ``mean`` or ``last``.
        max_length: Maximum length of a text in tokens; None for the limit of the model.
        prompt: Text before every text; None for the model's default.
        truncate_dim: Number of leading components to keep; None for the model's default.

    Raises:
        PluginError: A library is not installed.
        ConfigError: The model cannot be run so.
    """

    def __init__(
        self,
        folder: Path,
        name: str | None,
        *,
        pooling: str | None,
        max_length: int | None,
        prompt: str | None,
        truncate_dim: int | None,
    ) -> None:
        try:
            import onnxruntime
            from transformers import AutoTokenizer
        except ImportError as error:
            library = (error.name or "").split(".")[0]
            if library not in {"onnxruntime", "transformers"}:
                raise
            raise missing_library("sentence-transformers", library, "onnx") from None
        if pooling is None:
            raise ConfigError(
                f"[embedder] model: {folder} does not pool token vectors by 'cls', 'mean' or 'last'",
                hint="set [embedder] pooling to one of them, or backend = 'torch'",
            )
        settings = read_object(folder / "config_sentence_transformers.json")
        default = (settings.get("prompts") or {}).get(settings.get("default_prompt_name")) or ""
        self.prompt = default if prompt is None else prompt
        self._truncate = truncate_dim or settings.get("truncate_dim")
        self._pooling = pooling
        self._dense = _dense_layers(folder)
        file = folder / onnx_files(folder, name)[0]
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
            session = onnxruntime.SessionOptions()
            # Threads that spin while they wait take the cores from calls in flight, and from training beside it.
            session.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session: Any = onnxruntime.InferenceSession(str(file), session, providers=["CPUExecutionProvider"])
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise ConfigError(f"[embedder] model {file} cannot be loaded: {reason}") from error
        self._inputs = [one.name for one in self._session.get_inputs()]
        self.max_length = max_length or longest_text(folder) or int(self.tokenizer.model_max_length)

    @cached_property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self.encode([""]).shape[1])

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Embed one batch. Returns float32 ``[len(texts), dim]``, not normalised."""
        batch = self.tokenizer(
            [self.prompt + text for text in texts],
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="np",
        )
        mask = batch["attention_mask"]
        known = {"token_type_ids": np.zeros_like(mask), "position_ids": np.maximum(mask.cumsum(1) - 1, 0), **batch}
        hidden = self._session.run(None, {name: known[name].astype(np.int64) for name in self._inputs})[0]
        vectors = hidden if hidden.ndim == 2 else self._pooled(hidden.astype(np.float32, copy=False), mask)
        for weights, bias, activation in self._dense:
            vectors = activation(vectors @ weights.T + bias)
        kept: NDArray[np.float32] = vectors[:, : self._truncate].astype(np.float32, copy=False)
        return kept

    def _pooled(self, hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        rows, weights = np.arange(len(hidden)), mask[:, :, None].astype(np.float32)
        pooled: NDArray[np.float32]
        if self._pooling == "cls":
            pooled = hidden[rows, mask.argmax(axis=1)]
        elif self._pooling == "last":
            pooled = hidden[rows, mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)]
        else:
            pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
        return pooled


def _dense_layers(folder: Path) -> list[tuple[NDArray[np.float32], NDArray[np.float32], Any]]:
    """Return weights ``[out, in]``, bias and activation of the dense layers after pooling.

    Raises:
        ConfigError: The model has a module of another kind.
    """
    layers = []
    for module in read_json(folder / "modules.json") or []:
        kind, path = str(module["type"]).rsplit(".", 1)[-1], folder / str(module["path"])
        if kind in {"Transformer", "Pooling", "Normalize"}:
            continue
        settings = read_object(path / "config.json")
        activation = str(settings.get("activation_function", "Identity")).rsplit(".", 1)[-1]
        if kind != "Dense" or activation not in _ACTIVATIONS or not (path / "model.safetensors").is_file():
            raise ConfigError(
                f"[embedder] backend 'onnx' cannot run the module {module['path']} ({kind}) of {folder}",
                hint="set [embedder] backend = 'torch'",
            )
        from safetensors.numpy import load_file

        weights = load_file(path / "model.safetensors")
        matrix = weights["linear.weight"].astype(np.float32)
        bias = weights.get("linear.bias", np.zeros(len(matrix))).astype(np.float32)
        layers.append((matrix, bias, _ACTIVATIONS[activation]))
    return layers
