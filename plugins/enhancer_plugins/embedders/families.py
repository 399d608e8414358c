"""Pooling of token vectors by families of models, for models that do not say so themselves."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

from enhancer_plugins.embedders.model_folder import read_json, read_object

if TYPE_CHECKING:
    from pathlib import Path

Pooling = Literal["cls", "mean", "last"]

_FAMILIES: Final[tuple[tuple[str, Pooling], ...]] = (
    (r"bge-(multilingual-gemma2|en-icl|code|reasoner)", "last"),
    (r"qwen3-embedding|e5-mistral|gte-qwen|sfr-embedding|linq-embed", "last"),
    (r"\bbge-|bce-embedding|arctic-embed|mxbai-embed|gte-\w+-(zh|en-v1\.5)|gte-(multilingual|modernbert)", "cls"),
    (r"\be5-|\bgte-|nomic-embed|all-minilm|all-mpnet|all-distilroberta|paraphrase-", "mean"),
)
"""Patterns of names, as FlagEmbedding 1.4 and the model cards have them; the first that matches counts."""
_DECODERS: Final = frozenset(
    {"mistral", "llama", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3", "phi", "phi3", "gpt2", "opt"}
)


_MODES: Final[dict[Any, Pooling]] = {"cls": "cls", "mean": "mean", "lasttoken": "last"}


def pooling_by_name(*names: str | None) -> Pooling | None:
    """Return the pooling of the family that one of the names belongs to; None if it is none of the known ones."""
    for name in names:
        for pattern, pooling in _FAMILIES:
            if name and re.search(pattern, name.lower()):
                return pooling
    return None


def pooling_of(folder: Path) -> Pooling | None:
    """Return the pooling that a model folder declares or that its family asks for; None if unknown."""
    declared = _declared(folder)
    if declared is not None:
        return declared
    config = read_object(folder / "config.json")
    by_name = pooling_by_name(folder.resolve().name, config.get("_name_or_path"))
    return by_name or ("last" if is_decoder(config) else None)


def is_decoder(config: dict[str, Any]) -> bool:
    """Return whether ``config.json`` is that of a decoder, which reads from left to right."""
    if config.get("use_bidirectional_attention") or config.get("is_causal") is False:
        return False
    return config.get("model_type") in _DECODERS


def is_icl(folder_or_name: str) -> bool:
    """Return whether a model reads examples before a text, as ``bge-en-icl`` does, by its name."""
    return re.search(r"\bicl\b|-icl", folder_or_name.lower()) is not None


def is_bare(folder: Path) -> bool:
    """Return whether a folder is that of a transformers model, without modules of sentence-transformers."""
    return not (folder / "modules.json").is_file()


def _declared(folder: Path) -> Pooling | None:
    modules = read_json(folder / "modules.json")
    paths = [str(module.get("path")) for module in modules if isinstance(module, dict)] if modules else ["1_Pooling"]
    for path in paths:
        settings = read_object(folder / path / "config.json")
        mode = settings.get("pooling_mode")
        if mode is None:
            modes = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
            modes["lasttoken"] = "pooling_mode_lasttoken"
            mode = next((name for name, key in modes.items() if settings.get(key) is True), None)
        if mode in _MODES:
            return _MODES[mode]
    return None
