"""Find and load models from folders, the local cache or the Hugging Face hub."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from enhancer.errors import ConfigError, PluginError
from enhancer_plugins.embedders.model_folder import check_weights, names_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HINT = (
    "download it on another machine and set [embedder] model to its folder, set HF_HOME to a cache that contains it, "
    'or set [embedder] use = "minilm", whose model is a Python package'
)


def local_folder(model: str, root: Path) -> Path | None:
    """Return the folder ``model``, relative to ``root``; None if ``model`` is a name on the hub.

    Raises:
        ConfigError: The folder does not exist, or is not a model.
    """
    folder = root / Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
            raise ConfigError(
                f"[embedder] model: {folder} is not a model folder", hint="it must contain config.json and the weights"
            )
        return folder
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        raise ConfigError(f"[embedder] model: there is no folder {folder}")
    return None


def require_reachable(model: str, revision: str | None) -> None:
    """Check that a model is in the local cache or that the hub can be reached. The libraries would retry for a minute.

    Raises:
        ConfigError: The model is not cached, and the hub cannot be reached.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    names = ("config.json", "modules.json")
    if any(isinstance(try_to_load_from_cache(model, name, revision=revision), str) for name in names):
        return
    if constants.HF_HUB_OFFLINE:
        raise ConfigError(
            f"[embedder] model {model!r} is not in the local cache, and HF_HUB_OFFLINE is set", hint=_HINT
        )
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    host = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((host.hostname or "", host.port or 443), timeout=10).close()
    except OSError as error:
        raise ConfigError(
            f"[embedder] model {model!r} is not on this machine, and {host.hostname} cannot be reached ({error})",
            hint=_HINT,
        ) from None


def check_hub_weights(model: str, revision: str | None) -> None:
    """Check that a model on the hub, or of the local cache, has no pickled weights alone.

    Raises:
        ConfigError: It has.
    """
    names = _cached_files(model, revision) or _hub_files(model, revision)
    check_weights(names, repr(model))


def _cached_files(model: str, revision: str | None) -> list[str]:
    """Return the files of a model in the local cache; none if no weights are among them."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "modules.json"):
        found = try_to_load_from_cache(model, name, revision=revision)
        if isinstance(found, str):
            names = names_in(Path(found).parent)
            return names if any(name.endswith((".safetensors", ".bin", ".onnx")) for name in names) else []
    return []


def _hub_files(model: str, revision: str | None) -> list[str]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return HfApi().list_repo_files(model, revision=revision)
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError):
        return []  # loading fails for the same reason, and tells it


def unavailable(model: str, error: Exception) -> ConfigError:
    """Return the exception for a model that could not be loaded."""
    reason = str(error).strip().split("\n")[0]
    return ConfigError(f"[embedder] model {model!r} cannot be loaded: {reason}", hint=_HINT)


def missing_library(plugin: str, library: str, extra: str) -> PluginError:
    """Return the exception for an embedder whose library is not installed."""
    return PluginError(f"embedder {plugin!r} needs the library {library}", hint=f'pip install "enhancer[{extra}]"')


def pick_device(device: str | None) -> str:
    """Return ``device``; if it is None, the fastest available torch device."""
    if device is not None:
        return device
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_sentence_transformer(
    plugin: str, model: str | Path, *, device: str | None, max_length: int | None, **options: Any
) -> Any:
    """Load a ``SentenceTransformer`` without remote code.

    Args:
        plugin: Name of the embedder, for messages.
        model: Name on the hub, or a local folder.
        device: Torch device; None for the fastest available.
        max_length: Maximum length of a text in tokens; None for the limit of the model.
        options: Further arguments of ``SentenceTransformer``.

    Raises:
        PluginError: The library is not installed.
        ConfigError: The model cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        if (error.name or "").split(".")[0] != "sentence_transformers":
            raise
        raise missing_library(plugin, "sentence-transformers", "minilm") from None
    try:
        loaded = SentenceTransformer(str(model), device=pick_device(device), trust_remote_code=False, **options)
    except (OSError, ValueError) as error:
        raise unavailable(str(model), error) from error
    if max_length is not None:
        loaded.max_seq_length = max_length
    return loaded


def width(model: Any) -> int:
    """Return the dimension of the vectors of a ``SentenceTransformer``."""
    dimension = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(dimension())


def embed(model: Any, texts: list[str]) -> NDArray[np.float32]:
    """Embed one batch with a ``SentenceTransformer``. Returns float32 ``[len(texts), dim]``."""
    vectors: NDArray[np.float32] = model.encode(
        texts, batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True, normalize_embeddings=True
    )
    return vectors
