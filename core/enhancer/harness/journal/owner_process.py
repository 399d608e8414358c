"""Name the process that owns a claim, so that others can tell whether it is alive.

A process can look up another one only within its own PID namespace: two containers may share a host name and a volume,
and each sees its own processes alone.
"""

from __future__ import annotations

import os
import socket
import uuid
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_RUN = uuid.uuid4().hex[:8]
_UNKNOWN = "-"


class _Place(NamedTuple):
    """Where a process runs."""

    host: str
    clock: str
    """Boot of the machine and time namespace: processes that share them have the same monotonic clock."""
    namespace: str
    """PID namespace."""


def owner_name() -> str:
    """Return a unique name of this run: ``host:clock:namespace:pid:start:random``."""
    start = _start_time(os.getpid()) or _UNKNOWN
    return ":".join([*_here(), str(os.getpid()), start, f"{_RUN}{uuid.uuid4().hex[:4]}"])


def has_ended(owner: str) -> bool:
    """Check whether an owner's process is known to have ended; False if that is unknown."""
    try:
        host, clock, namespace, pid_text, start, _ = owner.rsplit(":", 5)
        pid = int(pid_text)
    except ValueError:
        return False
    place = _Place(host, clock, namespace)
    if place != _here() or _UNKNOWN in (namespace, start):
        return False
    # Process ids are reused; together with the start time they are unique.
    return _start_time(pid) != start


def shares_clock(owner: str) -> bool:
    """Check whether an owner's process has the same monotonic clock as this one."""
    fields = owner.rsplit(":", 5)
    if len(fields) < 6:  # written by a version of enhancer that named host and process alone
        return owner.rsplit(":", 3)[0] == _here().host
    host, clock = fields[:2]
    here = _here()
    return clock == here.clock and (clock != _UNKNOWN or host == here.host)


@lru_cache(maxsize=1)
def _here() -> _Place:
    boot, time_namespace = _boot_id(), _namespace("time") or "0"
    clock = _UNKNOWN if boot is None else f"{boot[:13]}/{time_namespace}"
    return _Place(socket.gethostname(), clock, _pid_namespace() or _UNKNOWN)


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _pid_namespace() -> str | None:
    """Return the PID namespace; None if it is unknown, or if ``/proc`` shows the processes of another one."""
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return None
    except OSError:
        return None
    return _namespace("pid")


def _namespace(kind: str) -> str | None:
    """Return the number of a namespace of this process. Namespaces that exist at one time have different numbers."""
    try:
        return str(Path(f"/proc/self/ns/{kind}").readlink()).partition("[")[2].rstrip("]") or None
    except OSError:
        return None


def _start_time(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot, or None if it is unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    # A zombie process has ended.
    return fields[19] if len(fields) > 19 and fields[0] != "Z" else None
