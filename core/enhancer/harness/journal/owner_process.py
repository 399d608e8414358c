"""Who holds a claim: a process, named so that others on the same machine can tell whether it still lives."""

from __future__ import annotations

import os
import socket
import uuid
from functools import lru_cache
from pathlib import Path

_RUN = uuid.uuid4().hex[:8]


def owner_name() -> str:
    """Names this very run: ``host:pid:start:random``."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start(os.getpid()) or '-'}:{_RUN}{uuid.uuid4().hex[:4]}"


def has_ended(owner: str) -> bool:
    """Whether the process is known to have ended; False when that cannot be told."""
    try:
        host, pid_text, start, _ = owner.rsplit(":", 3)
        pid = int(pid_text)
    except ValueError:
        return False
    if host != socket.gethostname() or start == "-" or not _has_proc():
        return False
    # A pid is used again; together with its start time it is not.
    return _start(pid) != start


@lru_cache(maxsize=1)
def _has_proc() -> bool:
    return Path("/proc/self/stat").exists()


def _start(pid: int) -> str | None:
    """The start time of a process in clock ticks since boot, where the system tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A zombie has ended, though its parent has not looked yet.
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else None
