"""Find out whether this machine's CPU multiplies matrices in bfloat16, without a library that computes."""

from __future__ import annotations

from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")
_INSTRUCTIONS = {"flags": frozenset({"avx512_bf16", "amx_bf16"}), "Features": frozenset({"bf16"})}
"""Instructions by the name of the line that lists them: of x86, and of ARM."""


def has_bfloat16(cpu_info: Path | None = None) -> bool:
    """Return whether the CPU has instructions for bfloat16; False where that cannot be read, as outside of Linux.

    Args:
        cpu_info: File with the properties of the CPU; by default ``/proc/cpuinfo``.
    """
    try:
        text = (_CPU_INFO if cpu_info is None else cpu_info).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    for line in text.splitlines():
        name, _, values = line.partition(":")
        wanted = _INSTRUCTIONS.get(name.strip())
        if wanted is not None:
            return not wanted.isdisjoint(values.split())
    return False
