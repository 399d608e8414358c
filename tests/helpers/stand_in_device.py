"""A torch device that behaves like a GPU, for machines without one.

It computes on the CPU, so results equal the CPU's. But like a GPU it rejects mixing its tensors with CPU tensors, CPU
generators, and conversion to numpy without an explicit copy. Operations for which the host must wait on the device (a
number, a size that depends on values) are recorded in :data:`WAITS`.

:func:`install` changes the process permanently: call it in a separate process, and end that process by :func:`leave`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import library
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
WAITS: list[str] = []
"""Operations that synchronised host and device, in order."""
_NUMBERS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}
_WAITING = _NUMBERS | {  # the size of the result, or a check, depends on values
    "aten::_unique2", "aten::bincount", "aten::masked_select", "aten::nonzero", "aten::repeat_interleave.Tensor",
    "aten::unique_consecutive", "aten::unique_dim",
}  # fmt: skip
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_COPIES = {"aten::copy_", "aten::_to_copy"}
_FACTORIES = "empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step"


class StandInTensor(torch.Tensor):
    """A tensor on the device; ``raw`` is the CPU tensor behind it."""

    @staticmethod
    def __new__(cls, raw: torch.Tensor) -> Self:
        assert type(raw) is torch.Tensor
        shape: dict[str, Any] = {"layout": raw.layout, "dispatch_layout": True}
        if raw.layout == torch.strided:
            shape = {"strides": raw.stride(), "storage_offset": raw.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, raw.shape, dtype=raw.dtype, device=f"{NAME}:0", **shape)
        made.raw = raw
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"standin({self.raw!r})"

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(f"a tensor on {NAME} has to be copied to the CPU first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.layout.default:
            return args[0].raw.layout
        return _run(func, args, kwargs or {})


def _run(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU tensors, if a GPU would accept it."""
    name, wanted = func._schema.name, kwargs.get("device")
    tensors: list[torch.Tensor] = []
    _each(tensors.append, (args, kwargs))
    indices: list[torch.Tensor] = []
    if name in _INDEXING:
        _each(indices.append, args[1])
    for tensor in tensors if name not in _COPIES else ():  # scalars and indices may be CPU tensors
        if not isinstance(tensor, StandInTensor) and tensor.ndim and not any(tensor is index for index in indices):
            raise RuntimeError(f"{name}: a tensor {list(tensor.shape)} of the CPU among those on {NAME}")
    if kwargs.get("generator") is not None:
        raise RuntimeError(f"{name}: a generator of the CPU for a tensor on {NAME}")
    fetched = wanted is not None and torch.device(wanted).type == "cpu"
    fetched = fetched or (name == "aten::copy_" and not isinstance(args[0], StandInTensor))
    masked = any(index.dtype == torch.bool for index in indices)
    if fetched or masked or name in _WAITING or f"{name}.{func._overloadname}" in _WAITING:
        WAITS.append(name)
    if wanted is not None:
        kwargs = kwargs | {"device": torch.device("cpu")}
    homes = {id(getattr(tensor, "raw", tensor)): tensor for tensor in tensors}
    out = func(*_each(_raw, args), **_each(_raw, kwargs))
    if fetched or name in _NUMBERS:
        return out
    # An in-place operation returns the tensor that it was given.
    return _each(lambda tensor: homes[id(tensor)] if id(tensor) in homes else StandInTensor(tensor), out)


def _each(change: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """Apply a function to every tensor in a nested value; ``tree_map`` of torch is much slower."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)([_each(change, part) for part in value])
    if type(value) is dict:
        return {key: _each(change, part) for key, part in value.items()}
    return value


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.raw if isinstance(tensor, StandInTensor) else tensor


def install() -> None:
    """Register the device in this process."""
    _setup_privateuseone_for_python_backend(NAME)
    for name in _FACTORIES:
        packet, _, overload = name.partition(".")
        made = _factory(getattr(getattr(torch.ops.aten, packet), overload or "default"))
        library.impl(f"aten::{name}", NAME, made)


def leave() -> None:
    """End the process without finalising Python.

    Autograd keeps a thread for the device. If it asks for the interpreter's lock during finalisation, the process aborts.
    """
    sys.stdout.flush()
    os._exit(0)


def _factory(make: Any) -> Any:
    return lambda *args, **kwargs: StandInTensor(
        make(*args, **kwargs | {"device": torch.device("cpu"), "pin_memory": False})
    )
