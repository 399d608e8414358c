"""Name the process that owns a claim, so that others on the same machine can check whether it is alive."""

from __future__ import annotations

import os
import socket
import uuid
from functools import lru_cache
from pathlib import Path

_RUN = uuid.uuid4().hex[:8]


def owner_name() -> str:
    """Return a unique name of this run: ``host:pid:start:random``."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid()) or '-'}:{_RUN}{uuid.uuid4().hex[:4]}"


def has_ended(owner: str) -> bool:
    """Check whether an owner's process is known to have ended; False if that is unknown."""
    try:
        host, pid_text, start, _ = owner.rsplit(":", 3)
        pid = int(pid_text)
    except ValueError:
        return False
    if host != socket.gethostname() or start == "-" or not _has_proc():
        return False
    # Process ids are reused; together with the start time they are unique.
    return _start_time(pid) != start


@lru_cache(maxsize=1)
def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()


def _start_time(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot, or None if it is unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A zombie process has ended.
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else None
