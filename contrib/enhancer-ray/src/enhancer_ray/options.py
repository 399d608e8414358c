"""Options of ``[runner] use = "ray"``."""

from __future__ import annotations

from pydantic import Field

from enhancer.contracts import Options


class RayOptions(Options):
    """The cluster, and what a task takes of it."""

    address: str = Field(default="auto", min_length=1)
    """``auto``: the running cluster that this machine belongs to; ``local``: processes of this machine, started and
    ended with the command; else the address of a cluster: ``ray://HOST:10001`` from outside, ``HOST:6379`` on one of
    its machines."""
    cpus: float = Field(default=1.0, ge=0.01)
    """Cores that Ray sets aside for one task."""
    gpus: float = Field(default=0.0, ge=0)
    """GPUs that Ray sets aside for one task."""
    workers: int | None = Field(default=None, ge=1)
    """Largest number of tasks at a time; by default as many as the cluster has room for."""
    retries: int = Field(default=3, ge=0)
    """Times that a task is done again after the process or machine that did it was lost."""
