"""What every run begins with: its device, its seeds and its name."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enhancer.contracts import Backbone, Fuser, TrainingData


Engine = Literal["auto", "numba", "torch"]
"""What computes a step: kernels compiled for this CPU, or torch, which is the reference and runs on every device."""


def choose_device(wanted: str) -> str:
    """``auto``, ``cpu`` or a torch device, to a device that is there.

    Raises:
        ConfigError: The device is not there.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"[backbone] device {wanted!r} cannot be used: {reason}", hint='try device = "auto"'
        ) from None
    return wanted


def choose_engine(wanted: Engine, device: str) -> Literal["numba", "torch"]:
    """``auto`` to the engine that is faster on a device.

    Raises:
        ConfigError: The kernels do not run there.
    """
    if wanted == "numba" and not device.startswith("cpu"):
        raise ConfigError(
            f"[backbone] engine 'numba' runs on the CPU, and device is {device!r}",
            hint='set device = "cpu", or engine = "torch"',
        )
    if wanted == "auto":
        return "numba" if device.startswith("cpu") else "torch"
    return wanted


def generator(seed: int, purpose: str) -> torch.Generator:
    """A random stream of its own for each purpose, so that drawing for one never moves another."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def identity(backbone: Backbone, data: TrainingData, fuser: Fuser, seed: int) -> str:
    """A name for everything that a run's result depends on, by which a checkpoint knows its run."""
    digest = hashlib.sha256()
    for told in (
        f"{type(backbone).__module__}:{type(backbone).__qualname__}",
        backbone.options.model_dump_json(),
        f"{type(fuser).__module__}:{type(fuser).__qualname__}",
        fuser.options.model_dump_json(),
        f"{seed} {data.n_users} {data.n_items}",
    ):
        digest.update(told.encode() + b"\0")
    for array in (data.users, data.items, data.user_vectors, data.item_vectors):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    for name, side in (("users", data.user_features), ("items", data.item_features)):
        for part in () if side is None else side.arrays():
            digest.update(name.encode() + np.ascontiguousarray(part).data)
    if data.labels is not None:
        digest.update(b"labels" + np.ascontiguousarray(data.labels).data)
    return digest.hexdigest()


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Have a GPU add up in the same order every time, so that equal arguments give equal results there as well.

    By default rows that a step draws more than once get their gradients in the order in which threads come by.
    """
    if not device.startswith("cuda"):
        yield
        return
    # Two streams of matrix products could share memory that one of them needs: cuBLAS asks to be told.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
