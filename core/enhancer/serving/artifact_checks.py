"""Check the tensors of an artifact before anything is computed from them.

A ranker indexes one tensor by another without looking: a row number beyond a matrix, an order that is none, or a factor
that is not a number would end in a wrong list, an empty one, or an error in the middle of a request. Everything here is
vectorised and reads the matrices once, at the speed of memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from enhancer.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

REWRITE_HINT: Final = "run `enhancer train`"
_BLOCK: Final = 1 << 18
"""Numbers that are looked at together; they stay in the processor's cache."""
_WORD: Final = 8
"""Bytes of ids that are compared at once."""
_KEPT: Final = np.array([(1 << 64) - (1 << 8 * (_WORD - count)) for count in range(_WORD + 1)], np.uint64)
"""Mask of the first so many bytes of a word."""
_CONTINUATION: Final = 0x80, 0xC0
"""A byte of UTF-8 continues a character if it equals the first number under the mask of the second."""


class _Damage(Exception):  # noqa: N818 - never leaves this module
    """Damage to a tensor."""


def check_tensors(path: Path, manifest: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Check shapes, types, ranges, the order of ids, and that all factors are finite.

    Args:
        path: File of the tensors, for the message.
        manifest: Manifest of the artifact.
        tensors: All tensors by name.

    Raises:
        ArtifactError: A tensor is missing, or its content is impossible.
    """
    try:
        n, m = _check_factors(manifest, tensors)
        _check_ids("user_ids", n, tensors)
        _check_ids("item_ids", m, tensors)
        _check_aliases("user_ids", n, tensors)
        _check_aliases("item_ids", m, tensors)
        if "titles.offsets" in tensors or "titles.bytes" in tensors:
            _check_strings("titles", m, tensors)
        _check_seen(n, m, tensors)
        _check_finite(tensors)
    except _Damage as damage:
        raise ArtifactError(f"{path} is damaged: {damage}", hint=REWRITE_HINT) from None


def _check_finite(tensors: Mapping[str, NDArray[Any]]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not all_finite(tensor):
            place = int(np.flatnonzero(~np.isfinite(tensor.reshape(-1)))[0])
            row = place // (tensor.size // len(tensor)) if tensor.ndim else 0
            raise _Damage(f"row {row} of tensor {name!r} is not finite")


def all_finite(tensor: NDArray[np.floating[Any]]) -> bool:
    """Return whether no number is infinite or NaN; takes the time to read them."""
    flat = tensor.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(flat), _BLOCK):
            block = flat[start : start + _BLOCK]
            # A sum of squares is not finite if a number is not; large numbers may overflow, and are looked at again.
            if not np.isfinite(np.dot(block, block)) and not np.isfinite(block).all():
                return False
    return True


def _tensor(tensors: Mapping[str, NDArray[Any]], name: str, dtype: str, *shape: int) -> NDArray[Any]:
    """Return a tensor after checking its type and shape; -1 stands for any length."""
    tensor = tensors.get(name)
    if tensor is None:
        raise _Damage(f"tensor {name!r} is missing")
    fits = tensor.ndim == len(shape) and all(want in {-1, got} for want, got in zip(shape, tensor.shape, strict=True))
    if tensor.dtype != dtype or not fits:
        raise _Damage(f"its tensors have inconsistent shapes: {name!r} is {tensor.dtype} {list(tensor.shape)}")
    return tensor


def _check_factors(manifest: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """Return the numbers of users and items."""
    n, width = _tensor(tensors, "users", "f4", -1, -1).shape
    m, _ = _tensor(tensors, "items", "f4", -1, width).shape
    if manifest.get("shape") != {"users": n, "items": m, "width": width}:
        raise _Damage(f"its tensors have inconsistent shapes: the manifest says {manifest.get('shape')!r}")
    return n, m


def _check_strings(prefix: str, count: int, tensors: Mapping[str, NDArray[Any]]) -> tuple[Any, Any]:
    """Return the bytes and offsets of a table of strings after checking that each row is UTF-8."""
    content = _tensor(tensors, f"{prefix}.bytes", "u1", -1)
    offsets = _tensor(tensors, f"{prefix}.offsets", "i8", count + 1)
    if offsets[0] != 0 or offsets[-1] != len(content) or not (offsets[1:] >= offsets[:-1]).all():
        raise _Damage(f"the offsets of {prefix!r} are out of order or out of range")
    same, mask = _CONTINUATION
    inside = offsets[:-1][offsets[:-1] < len(content)]
    try:
        content.tobytes().decode("utf-8", "surrogatepass")
        whole = not ((content[inside] & mask) == same).any()
    except UnicodeDecodeError:
        whole = False
    if not whole:
        raise _Damage(f"a string of {prefix!r} is not UTF-8")
    return content, offsets


def _check_ids(prefix: str, count: int, tensors: Mapping[str, NDArray[Any]]) -> None:
    content, offsets = _check_strings(prefix, count, tensors)
    order = _tensor(tensors, f"{prefix}.order", "i4", count)
    if not count:
        return
    if order.min() < 0 or order.max() >= count:
        raise _Damage(f"the order of {prefix!r} names rows that do not exist")
    # Ids that increase are distinct, and so are their rows: the order is then a permutation.
    if not _increasing(content, offsets[:-1][order], np.diff(offsets)[order]):
        raise _Damage(f"the ids in {prefix!r} are out of order or not unique")


def _check_aliases(prefix: str, count: int, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Check other spellings of ids, if there are any: older artifacts have none."""
    if f"{prefix}.aliases.rows" not in tensors:
        return
    rows = _tensor(tensors, f"{prefix}.aliases.rows", "i4", -1)
    _check_ids(f"{prefix}.aliases", len(rows), tensors)
    if len(rows) and (rows.min() < 0 or rows.max() >= count):
        raise _Damage(f"other spellings in {prefix!r} name rows that do not exist")


def _increasing(content: NDArray[np.uint8], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> bool:
    """Return whether strings are strictly increasing as bytes.

    Neighbours are compared by words of eight bytes, filled with zeros. Only those with equal words go on to the next
    word, and the shorter of two that never differ comes first.
    """
    padded = np.concatenate([content, np.zeros(_WORD, np.uint8)])
    at_each_byte = np.ndarray((len(content) + 1,), ">u8", padded, strides=(1,))
    # Pairs are neighbours (row, row + 1); the first word of each string is read once.
    words = _words(at_each_byte, starts, lengths)
    left, a, b = np.arange(len(starts) - 1), words[:-1], words[1:]
    skipped = 0
    while True:
        if (a > b).any():
            return False
        left, skipped = left[a == b], skipped + _WORD
        ended = np.maximum(lengths[left], lengths[left + 1]) <= skipped
        if (lengths[left[ended]] >= lengths[left[ended] + 1]).any():
            return False
        left = left[~ended]
        if not len(left):
            return True
        a = _words(at_each_byte, starts[left] + skipped, lengths[left] - skipped)
        b = _words(at_each_byte, starts[left + 1] + skipped, lengths[left + 1] - skipped)


def _words(at_each_byte: NDArray[Any], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the first eight bytes of strings as numbers, with zeros beyond their ends."""
    values = at_each_byte[np.minimum(starts, len(at_each_byte) - 1)].astype(np.uint64)
    return values & _KEPT[np.clip(lengths, 0, _WORD)]


def _check_seen(n_users: int, n_items: int, tensors: Mapping[str, NDArray[Any]]) -> None:
    starts = _tensor(tensors, "seen.starts", "i8", n_users + 1)
    seen = _tensor(tensors, "seen.items", "i4", -1)
    if starts[0] != 0 or starts[-1] != len(seen) or not (starts[1:] >= starts[:-1]).all():
        raise _Damage("the offsets of seen items are out of order or out of range")
    if len(seen) and (seen.min() < 0 or seen.max() >= n_items):
        raise _Damage("seen items name rows that do not exist")
