"""Find and load models from folders, the local cache or the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import os
import socket
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from enhancer.errors import ConfigError, PluginError
from enhancer_plugins.embedders.model_folder import check_length, check_weights, names_in, positions

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def cached_folder(model: str, revision: str | None) -> Path | None:
    """Return the folder of a model of the hub in the local cache; None if it is not there."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    for name in ("config.json", "modules.json"):
        found = try_to_load_from_cache(model, name, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def _cached_files(model: str, revision: str | None) -> list[str]:
    """Return the files of a model in the local cache; none if no weights are among them."""
    folder = cached_folder(model, revision)
    names = [] if folder is None else names_in(folder)
    return names if any(name.endswith((".safetensors", ".bin", ".onnx")) for name in names) else []


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
        ConfigError: The model cannot be loaded, or does not have that many positions.
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
    config = getattr(_transformer(loaded), "config", None)
    config = config.to_dict() if config is not None else {}
    check_length(max_length, config, "max_seq_length", str(model))
    limits = [limit for limit in (max_length or loaded.max_seq_length, positions(config)) if limit is not None]
    if limits and loaded.max_seq_length != min(limits):
        try:
            loaded.max_seq_length = min(limits)
        except AttributeError:
            raise ConfigError(
                f"[embedder] max_seq_length: {model} has no maximum length that could be set", hint="leave the key out"
            ) from None
    return loaded


def _transformer(loaded: Any) -> Any:
    """Return the transformers model of a ``SentenceTransformer``; None if it has none."""
    return getattr(loaded[0], "auto_model", None)


def accelerate(loaded: Any, *, mixed: bool) -> None:
    """Replace the transformers model of a ``SentenceTransformer`` on a CPU by a faster equivalent, if there is one."""
    model = _transformer(loaded)
    if model is None or loaded.device.type != "cpu":
        return
    from enhancer_plugins.embedders.encoder import faster

    attribute = "model" if "model" in loaded[0]._modules else "auto_model"  # noqa: SLF001  # by version of the library
    setattr(loaded[0], attribute, faster(model, mixed=mixed))


def autocast(model: Any) -> Any:
    """Return a context in which a model multiplies matrices in bfloat16; one without effect if it does so by itself.

    Args:
        model: A ``SentenceTransformer``, or a transformers model.
    """
    import torch

    from enhancer_plugins.embedders.encoder import Encoder

    if any(isinstance(module, Encoder) for module in model.modules()):
        return nullcontext()
    return torch.autocast(model.device.type, dtype=torch.bfloat16)


def set_pooling(loaded: Any, pooling: str | None) -> None:
    """Change how a ``SentenceTransformer`` pools token vectors: ``cls``, ``mean`` or ``last``; None changes nothing.

    Raises:
        ConfigError: The model does not pool.
    """
    if pooling is None:
        return
    index = next((place for place, module in enumerate(loaded) if type(module).__name__ == "Pooling"), None)
    if index is None:
        raise ConfigError("[embedder] pooling: the model does not pool token vectors", hint="leave the key out")
    width = loaded[index].get_config_dict()
    width = width.get("embedding_dimension") or width["word_embedding_dimension"]
    loaded[index] = type(loaded[index])(width, "lasttoken" if pooling == "last" else pooling)


def longest(model: Any) -> int | None:
    """Return the maximum length of a text of a ``SentenceTransformer`` in tokens; None without a limit."""
    limit = model.max_seq_length
    return None if limit is None or limit > 10**9 or not callable(model.tokenizer) else int(limit)


def prompt(model: Any, name: str | None) -> str:
    """Return what a ``SentenceTransformer`` puts before every text."""
    return str(model.prompts.get(name or model.default_prompt_name) or "")


def width(model: Any) -> int:
    """Return the dimension of the vectors of a ``SentenceTransformer``."""
    dimension = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    return int(dimension())


def embed(model: Any, texts: list[str], prompt_name: str | None = None) -> NDArray[np.float32]:
    """Embed one batch with a ``SentenceTransformer``. Returns float32 ``[len(texts), dim]``."""
    vectors: Any = model.encode(
        texts, prompt_name=prompt_name, batch_size=len(texts), show_progress_bar=False, convert_to_tensor=True
    )
    numbers: NDArray[np.float32] = vectors.float().cpu().numpy()
    return numbers


def download(model: str, revision: str | None, files: Sequence[str]) -> Path:
    """Return the folder of a model of the hub in the local cache, after downloading what it lacks.

    Args:
        model: Name on the hub.
        revision: Branch, tag or commit.
        files: Patterns of the weights to download beside all JSON and text files.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=["*.json", "*.txt", "*.model", *files]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise unavailable(model, error) from error
