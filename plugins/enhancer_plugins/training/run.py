"""Device, engine, random generators and identity of a training run."""

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
"""Implementation of a training step: kernels compiled for the CPU, or torch, the reference, on any device."""


def choose_device(wanted: str) -> str:
    """Return an available device for ``auto``, ``cpu`` or the name of a torch device.

    Raises:
        ConfigError: The device is not available.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=wanted)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"[backbone] device {wanted!r} is not available: {reason}", hint='set [backbone] device = "auto"'
        ) from None
    return wanted


def choose_engine(wanted: Engine, device: str) -> Literal["numba", "torch"]:
    """Return the engine to use: for ``auto``, the faster one on the device.

    Raises:
        ConfigError: The kernels do not run on the device.
    """
    if wanted == "numba" and not device.startswith("cpu"):
        raise ConfigError(
            f"[backbone] engine 'numba' runs on the CPU only, but device is {device!r}",
            hint='set device = "cpu", or engine = "torch"',
        )
    if wanted == "auto":
        return "numba" if device.startswith("cpu") else "torch"
    return wanted


def generator(seed: int, purpose: str) -> torch.Generator:
    """Return a generator for one purpose; its numbers do not depend on those drawn for other purposes."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def identity(backbone: Backbone, data: TrainingData, fuser: Fuser, seed: int) -> str:
    """Return a hash of everything that the result of a run depends on; a checkpoint stores it."""
    digest = hashlib.sha256()
    for part in (
        f"{type(backbone).__module__}:{type(backbone).__qualname__}",
        backbone.options.model_dump_json(),
        f"{type(fuser).__module__}:{type(fuser).__qualname__}",
        fuser.options.model_dump_json(),
        f"{seed} {data.n_users} {data.n_items}",
    ):
        digest.update(part.encode() + b"\0")
    for array in (data.users, data.items, data.timestamps, data.user_vectors, data.item_vectors):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).data)
    for name, side in (("users", data.user_features), ("items", data.item_features)):
        for values in () if side is None else side.arrays():
            digest.update(name.encode() + np.ascontiguousarray(values).data)
    if data.labels is not None:
        digest.update(b"labels" + np.ascontiguousarray(data.labels).data)
    return digest.hexdigest()


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Use deterministic algorithms on a GPU, so that equal arguments give equal results.

    By default, gradients of rows that a step draws several times are added in an order that depends on scheduling.
    """
    if not device.startswith("cuda"):
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this setting
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
