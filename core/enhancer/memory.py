"""Memory that this process may still take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_KIB, _GIB = 1 << 10, 1 << 30


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the number of bytes that can be allocated without swapping; None where the system does not tell.

    This is the least of what the machine has available (``MemAvailable``) and what the limits of the process's control
    groups (versions 1 and 2) leave. Memory of cached files counts as available, because the kernel reclaims it.

    Args:
        root: Root of the file system; tests pass another one.
    """
    amounts = [amount for amount in (_machine(root), *_groups(root)) if amount is not None]
    return max(0, min(amounts)) if amounts else None


def shown_bytes(count: int) -> str:
    """Return a number of bytes for messages.

    >>> shown_bytes(13_958_643_712)
    '13,958,643,712 bytes (13.0 GiB)'
    """
    return f"{count:,} bytes ({count / _GIB:.1f} GiB)"


def _machine(root: Path) -> int | None:
    for line in _text(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return _number(value.split()[0], _KIB)
    return None


def _groups(root: Path) -> Iterator[int | None]:
    """Yield what each limited control group that this process is in leaves, itself and those above it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        unified = not controllers
        if not unified and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("" if unified else "memory")
        limit, usage, cached = (
            ("memory.max", "memory.current", "inactive_file")
            if unified
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        own = top / path.strip("/")
        for folder in [own, *own.parents]:
            yield _left(folder, limit, usage, cached)
            if folder == top:
                break


def _left(folder: Path, limit: str, usage: str, cached: str) -> int | None:
    most, used = _number(_text(folder / limit)), _number(_text(folder / usage))
    if most is None or used is None:
        return None
    reclaimable = 0
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == cached:
            reclaimable = _number(value) or 0
    return most - used + reclaimable


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _number(text: str, unit: int = 1) -> int | None:
    """Return a number of bytes; None for ``max`` and for a file that is missing."""
    text = text.strip()
    return int(text) * unit if text.isdigit() else None
