"""Limits of the process that a library's own error does not name."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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
