"""Write and read the serving artifact: a JSON manifest and the safetensors file that it names.

::

    artifact/
      README.md                    card for people
      manifest.json                format, configuration, metrics, and the sha256 of the file below
      tensors-3fa9c1d2e0b7.safetensors

The name of the tensors file contains its hash, and the manifest is replaced in one step after everything else is on
disk. A reader therefore finds either the old artifact or the new one, complete, and one that has the old artifact open
keeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import mmap
import os
import re
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from enhancer.contracts.placement import Placement
from enhancer.errors import NOT_FINITE_HINT, ArtifactError
from enhancer.files import atomic_replace, open_regular
from enhancer.serving.artifact_checks import REWRITE_HINT, check_tensors
from enhancer.serving.ids import pack_aliases, pack_ids, pack_strings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.backbone import Factors

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
CARD: Final = "README.md"
_CARD_MARK: Final = "<!-- card of an enhancer artifact -->\n"
"""First line of a card, by which it is told from a file of somebody else."""
_DTYPES: Final = {"F16": "<f2", "F32": "<f4", "I32": "<i4", "I64": "<i8", "U8": "u1"}
_RESERVED_KEYS: Final = ("format", "enhancer", "created_at", "tensors", "placements", "shape")
_MAX_HEADER_BYTES: Final = 100 << 20
_MAX_MANIFEST_BYTES: Final = 64 << 20
_HASHED_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class Artifact:
    """An open artifact."""

    folder: Path
    manifest: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    mapped: mmap.mmap | None = None
    """Memory map that the tensors are views of; None if they were read into memory."""

    def ensure_whole(self) -> None:
        """Check that the mapped file was not truncated: reading past its end kills the process (SIGBUS).

        Takes a microsecond. It cannot protect a read that is under way, so replace artifacts by :func:`write_artifact`
        or a rename, never in place, or read them into memory.

        Raises:
            ArtifactError: The file is shorter than when it was mapped.
        """
        if self.mapped is not None and self.mapped.size() < len(self.mapped):
            raise ArtifactError(
                f"the artifact {self.folder} is damaged: its tensors file was truncated from {len(self.mapped):,} to"
                f" {self.mapped.size():,} bytes while in use",
                hint="replace it by `enhancer train` or a rename, never in place",
            )

    def placement(self, name: str) -> Placement | None:
        """Return the map for ``items`` or ``users``, or None if the artifact has none.

        Raises:
            ArtifactError: The map is damaged.
        """
        description = self.manifest["placements"].get(name)
        if description is None:
            return None
        try:
            return Placement.from_tensors(f"place_{name}", self.tensors, description)
        except (KeyError, ValueError, TypeError) as error:
            raise ArtifactError(f"the artifact {self.folder} is damaged: its map for {name}: {error}") from None


def write_artifact(
    folder: str | Path,
    *,
    factors: Factors,
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    train_users: NDArray[np.integer[Any]],
    train_items: NDArray[np.integer[Any]],
    place_items: Placement | None = None,
    place_users: Placement | None = None,
    manifest: Mapping[str, Any],
    titles: Sequence[str | None] | None = None,
    card: str | None = None,
    user_aliases: Mapping[str, str] | None = None,
    item_aliases: Mapping[str, str] | None = None,
) -> Path:
    """Write an artifact; an existing one is replaced in a single step.

    Args:
        folder: Folder of the artifact; created if missing.
        factors: User and item matrices, float32 ``[n, width]`` each.
        user_ids: User ids by row.
        item_ids: Item ids by row.
        train_users: User rows of the interactions that count as seen, int ``[n]``.
        train_items: Item rows of these interactions, int ``[n]``.
        place_items: Map from semantic vectors to item rows.
        place_users: Map from semantic vectors to user rows.
        manifest: Further JSON-serialisable entries: ``seed``, ``configuration``, ``metrics``, ``backbone``, ``fuser``,
            ``carries_semantics``, ...
        titles: Item titles by row.
        user_aliases: Other spellings of user ids, such as ``1.0``, and the id of each; the ranker knows both.
        item_aliases: The same for items.
        card: Text of ``README.md``, for people. None writes none, and removes the card of an earlier artifact.

    Returns:
        The folder.

    Raises:
        ArtifactError: Shapes or ids are inconsistent, factors are not finite, or the artifact cannot be written.
    """
    folder = Path(folder)
    users = np.ascontiguousarray(factors.users, dtype="<f4")
    items = np.ascontiguousarray(factors.items, dtype="<f4")
    _check_arrays(users, items, user_ids, item_ids, titles)
    if taken := sorted(set(manifest) & set(_RESERVED_KEYS)):
        raise ArtifactError(f"manifest key {taken[0]!r} is reserved")
    tensors: dict[str, NDArray[Any]] = {
        "users": users,
        "items": items,
        **_seen(train_users, train_items, len(users), len(items)),
        **pack_ids(user_ids, "user_ids"),
        **pack_ids(item_ids, "item_ids"),
        **pack_aliases(user_aliases or {}, user_ids, "user_ids"),
        **pack_aliases(item_aliases or {}, item_ids, "item_ids"),
    }
    if titles is not None:
        tensors |= pack_strings([title or "" for title in titles], "titles")
    placements: dict[str, Any] = {}
    for name, placement in (("items", place_items), ("users", place_users)):
        if placement is None:
            placements[name] = None
        else:
            parts, placements[name] = placement.to_tensors(f"place_{name}")
            tensors |= parts
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file, digest = _write_tensors(folder, tensors)
        document = {
            "format": FORMAT,
            "enhancer": own_version(),
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            **_without_nan(dict(manifest)),
            "shape": {"users": len(users), "items": len(items), "width": users.shape[1]},
            "placements": placements,
            "tensors": {"file": file.name, "sha256": digest, "bytes": file.stat().st_size},
        }
        _write_card(folder / CARD, card)
        with atomic_replace(folder / MANIFEST) as draft:
            draft.write_bytes(json.dumps(document, indent=2, allow_nan=False).encode())
    except OSError as error:
        raise ArtifactError(f"cannot write the artifact {folder}: {error.strerror}") from None
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"the manifest of {folder} cannot be written as JSON: {error}") from None
    for old in folder.glob("tensors-*.safetensors"):
        if old != file:
            with contextlib.suppress(OSError):  # Windows does not delete a file in use
                old.unlink()
    return folder


def _check_arrays(
    users: NDArray[np.float32],
    items: NDArray[np.float32],
    user_ids: Sequence[str],
    item_ids: Sequence[str],
    titles: Sequence[str | None] | None,
) -> None:
    if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
        raise ArtifactError(f"factors of shapes {users.shape} and {items.shape} have no inner product")
    if len(users) != len(user_ids) or len(items) != len(item_ids):
        raise ArtifactError(
            f"{len(users)} user and {len(items)} item rows for {len(user_ids)} user and {len(item_ids)} item ids"
        )
    if titles is not None and len(titles) != len(item_ids):
        raise ArtifactError(f"{len(titles)} titles for {len(item_ids)} items")
    for name, ids in (("user", user_ids), ("item", item_ids)):
        if len(set(ids)) != len(ids):
            raise ArtifactError(f"{name} ids are not unique")
    for name, matrix in (("user", users), ("item", items)):
        if not np.isfinite(matrix).all():
            row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
            raise ArtifactError(f"the factors of {name} row {row} are not finite", hint=NOT_FINITE_HINT)


def _seen(
    users: NDArray[np.integer[Any]], items: NDArray[np.integer[Any]], n_users: int, n_items: int
) -> dict[str, NDArray[Any]]:
    """Return seen items by user as compressed sparse rows, sorted and unique."""
    users, items = np.asarray(users, dtype=np.int64), np.asarray(items, dtype=np.int64)
    if users.shape != items.shape or users.ndim != 1:
        raise ArtifactError(
            f"seen pairs must be two vectors of equal length, not of shapes {users.shape} and {items.shape}"
        )
    if len(users) and (users.min() < 0 or users.max() >= n_users or items.min() < 0 or items.max() >= n_items):
        raise ArtifactError("seen pairs contain row numbers out of range")
    pairs = np.unique(users * max(n_items, 1) + items)
    users, items = np.divmod(pairs, max(n_items, 1))
    starts = np.zeros(n_users + 1, dtype=np.int64)
    np.cumsum(np.bincount(users, minlength=n_users), out=starts[1:])
    return {"seen.starts": starts, "seen.items": items.astype(np.int32)}


def _write_tensors(folder: Path, tensors: dict[str, NDArray[Any]]) -> tuple[Path, str]:
    """Write the tensors file; its name is known only afterwards, so :func:`atomic_replace` does not fit."""
    from safetensors.numpy import save_file

    draft = folder / f".tensors-{secrets.token_hex(6)}"
    draft.touch(exist_ok=False)
    mode = stat.S_IMODE(draft.stat().st_mode)  # what the umask allows; the library makes files for their owner alone
    try:
        save_file(tensors, draft)
        draft.chmod(mode)
        with draft.open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        target = folder / f"tensors-{digest[:12]}.safetensors"
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return target, digest


def _write_card(path: Path, card: str | None) -> None:
    """Write the card; without one, remove that of an earlier artifact."""
    if card is not None:
        with atomic_replace(path) as draft:
            draft.write_text(_CARD_MARK + card, encoding="utf-8")
    elif path.is_file() and path.read_bytes().startswith(_CARD_MARK.encode()):
        path.unlink()


def _without_nan(value: Any) -> Any:
    """Replace non-finite floats by None: JSON has no NaN, and an undefined metric should not lose a trained model."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def own_version() -> str:
    """Return the version of the library."""
    try:
        return version("enhancer")
    except PackageNotFoundError:  # a source tree that is not installed
        return "unknown"


# --- reading ------------------------------------------------------------------------------------------------------


def open_artifact(folder: str | Path, *, verify: bool = True, in_memory: bool = False) -> Artifact:
    """Open an artifact and check it; its matrices are mapped into memory.

    Shapes, ranges, the order of ids and the finiteness of factors are always checked, which reads the matrices once.

    Args:
        folder: Folder of the artifact.
        verify: Compare the sha256 of the tensors file with the manifest's.
        in_memory: Read the tensors instead of mapping them; later changes of the file have no effect.

    Raises:
        ArtifactError: The artifact is missing, incomplete, damaged, or was written by a newer enhancer.
    """
    folder = Path(folder)
    try:
        return _open(folder, verify=verify, in_memory=in_memory)
    except FileNotFoundError:
        # The artifact was replaced between reading its manifest and opening its tensors.
        try:
            return _open(folder, verify=verify, in_memory=in_memory)
        except FileNotFoundError as error:
            raise ArtifactError(f"{error.filename} of the artifact is missing", hint=REWRITE_HINT) from None


def _open(folder: Path, *, verify: bool, in_memory: bool) -> Artifact:
    manifest = _read_manifest(folder)
    described = manifest["tensors"]
    path = folder / described["file"]
    try:
        with open_regular(path) as file, ThreadPoolExecutor(1) as pool:
            size = os.fstat(file.fileno()).st_size
            if size != described["bytes"]:
                raise ArtifactError(
                    f"{path} is damaged: it has {size:,} of {described['bytes']} bytes", hint=REWRITE_HINT
                )
            # Hashed by a second core, while the content is checked.
            digest = pool.submit(_sha256, file.fileno()) if verify else None
            header = _read_header(path, file.read(8), file.read, size)
            # Map the open file, not the path, which may name another file by now.
            file.seek(0)
            content = file.read() if in_memory else mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
            tensors = _views(path, content, header)
            check_tensors(path, manifest, tensors)
            if digest is not None and digest.result() != described["sha256"]:
                raise ArtifactError(f"{path} is damaged: its sha256 differs from the manifest's", hint=REWRITE_HINT)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from None
    except ValueError:  # truncated to nothing between fstat and mmap
        raise ArtifactError(f"{path} is damaged: it was truncated while it was opened") from None
    return Artifact(folder, manifest, tensors, None if isinstance(content, bytes) else content)


def _sha256(descriptor: int) -> str:
    """Return the digest of an open file, without moving its position."""
    digest, place = hashlib.sha256(), 0
    while block := os.pread(descriptor, _HASHED_AT_ONCE, place):
        digest.update(block)
        place += len(block)
    return digest.hexdigest()


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_MANIFEST_BYTES + 1)
        if len(content) > _MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{path} has more than {_MAX_MANIFEST_BYTES:,} bytes")
        manifest = json.loads(content)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"there is no artifact in {folder}", hint=REWRITE_HINT) from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise ArtifactError(f"{path} is not an artifact's manifest")
    if manifest["format"] > FORMAT:
        raise ArtifactError(
            f"{folder} has artifact format {manifest['format']}, and this enhancer reads formats up to {FORMAT}",
            hint="upgrade enhancer",
        )
    tensors = manifest.get("tensors")
    if not isinstance(tensors, dict) or not isinstance(manifest.get("placements"), dict):
        raise ArtifactError(f"{path} is incomplete", hint=REWRITE_HINT)
    file_name, digest = tensors.get("file"), tensors.get("sha256")
    if not isinstance(file_name, str) or Path(file_name).name != file_name:
        raise ArtifactError(f"{path} does not name a tensors file", hint=REWRITE_HINT)
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise ArtifactError(f"{path} does not give the sha256 of the tensors file", hint=REWRITE_HINT)
    if not isinstance(tensors.get("bytes"), int):
        raise ArtifactError(f"{path} does not give the size of the tensors file", hint=REWRITE_HINT)
    return manifest


def _read_header(path: Path, length: bytes, read: Any, size: int) -> dict[str, Any]:
    """Return dtype, shape, and absolute begin and end of each tensor in a safetensors file."""
    count = int.from_bytes(length, "little")
    if len(length) < 8 or count > min(size - 8, _MAX_HEADER_BYTES):
        raise ArtifactError(f"{path} is not a safetensors file")
    try:
        header = json.loads(read(count))
        entries = {}
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = map(int, entry["data_offsets"])
                if not 0 <= begin <= end <= size - 8 - count:
                    raise ArtifactError(f"{path} is damaged: tensor {name!r} lies outside the file")
                entries[name] = (_DTYPES[entry["dtype"]], tuple(entry["shape"]), 8 + count + begin, 8 + count + end)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ArtifactError(f"{path} is damaged: its header cannot be read") from None
    return entries


def _views(path: Path, content: mmap.mmap | bytes, header: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    whole = np.frombuffer(content, dtype=np.uint8)
    tensors: dict[str, NDArray[Any]] = {}
    for name, (dtype, shape, begin, end) in header.items():
        try:
            tensors[name] = whole[begin:end].view(dtype).reshape(shape)
        except (ValueError, TypeError):
            raise ArtifactError(f"{path} is damaged: tensor {name!r} has the wrong size") from None
    return tensors
