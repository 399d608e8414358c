"""Find out whether a failed write was caused by a full disk or a limit on file size."""

from __future__ import annotations

import importlib
import shutil
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path


_MIN_FREE_BYTES: Final = 1 << 20
"""A disk with less free space counts as full."""


def is_full(path: Path) -> bool:
    """Return whether the disk of a file is full. LMDB and SQLite report the last, incomplete write as an I/O error."""
    try:
        return shutil.disk_usage(path.parent).free < _MIN_FREE_BYTES
    except OSError:
        return False


def at_size_limit(path: Path) -> bool:
    """Return whether a file has reached the limit on file size of this process (``ulimit -f``).

    LMDB and SQLite report an incomplete write as an I/O error.
    """
    try:
        limits = importlib.import_module("resource")  # not available on all platforms
        limit: int = limits.getrlimit(limits.RLIMIT_FSIZE)[0]
        return limit != limits.RLIM_INFINITY and path.stat().st_size >= limit
    except (ImportError, OSError):
        return False
