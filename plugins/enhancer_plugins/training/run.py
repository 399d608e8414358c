"""What every run begins with: its device, its seeds, its name, and which rows take part."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from enhancer.errors import ConfigError, DataError, FusionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

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


def trained(data: TrainingData) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which users and items have a training interaction: bool ``[n_users]`` and ``[n_items]``."""
    return np.bincount(data.users, minlength=data.n_users) > 0, np.bincount(data.items, minlength=data.n_items) > 0


_NO_VECTORS = {
    "user": 'set [prompts.user] source = "pool", which needs no more than vectors of items, or [fuser] use = "none"',
    "item": 'run `enhancer generate` first, or set [fuser] use = "none"',
}


def check_data(data: TrainingData, fuser: Fuser) -> None:
    """Refuse what cannot be trained on.

    Raises:
        DataError: No interactions, or rows or vectors that do not fit the counts.
        FusionError: The fuser needs vectors and there are none.
    """
    if len(data.users) == 0:
        raise DataError("there are no training interactions")
    if len(data.users) != len(data.items):
        raise DataError(f"training data holds {len(data.users)} users but {len(data.items)} items")
    for name, rows, n in (("user", data.users, data.n_users), ("item", data.items, data.n_items)):
        if rows.min() < 0 or rows.max() >= n:
            raise DataError(f"training data names {name} row {rows.min() if rows.min() < 0 else rows.max()} of {n}")
    if not fuser.uses_semantics:
        return
    for name, vectors, n in (("user", data.user_vectors, data.n_users), ("item", data.item_vectors, data.n_items)):
        if vectors is None:
            raise FusionError(
                f"this fuser needs {name} vectors and there are none",
                hint=_NO_VECTORS[name],
            )
        if vectors.ndim != 2 or len(vectors) != n:
            raise DataError(f"{name} vectors have shape {list(vectors.shape)}, not [{n}, ds]")
        if not np.isfinite(vectors).all():
            raise DataError(f"{name} vectors hold NaN or infinite values")


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
