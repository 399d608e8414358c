"""Limits of the process that a library's own error does not name."""

from __future__ import annotations

import importlib
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path


_NO_ROOM: Final = 1 << 20
"""Bytes with which a disk counts as full."""


def is_full(path: Path) -> bool:
    """Whether there is hardly room beside a file: the last write before that is an I/O error to LMDB and SQLite."""
    try:
        return shutil.disk_usage(path.parent).free < _NO_ROOM
    except OSError:
        return False


def at_size_limit(path: Path) -> bool:
    """Whether a file has grown to as much as this process may write (``ulimit -f``).

    A write that was cut short there is no more than an I/O error to LMDB and SQLite.
    """
    try:
        limits = importlib.import_module("resource")  # not everywhere
        limit: int = limits.getrlimit(limits.RLIMIT_FSIZE)[0]
        return limit != limits.RLIM_INFINITY and path.stat().st_size >= limit
    except (ImportError, OSError):
        return False
