"""A device that is not the CPU, for machines without another: as strict as a GPU, and it counts what a GPU would wait for.

Its memory is the CPU's, so its results are exactly torch's there. But a tensor on it meets no tensor of the CPU, no generator of
the CPU fills it, and numpy does not read it; what is copied has to be copied in words. What the host cannot know before the device
has finished (a number, a size that depends on values) is written down in :data:`WAITS`.

:func:`install` changes a process for good: call it in one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import library
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "standin"
WAITS: list[str] = []
"""Operations that have had to wait, in order."""
_NUMBERS = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}
_WAITING = _NUMBERS | {  # the size of what the others give, or a check of theirs, depends on values
    "aten::_unique2", "aten::bincount", "aten::masked_select", "aten::nonzero", "aten::repeat_interleave.Tensor",
    "aten::unique_consecutive", "aten::unique_dim",
}  # fmt: skip
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_COPIES = {"aten::copy_", "aten::_to_copy"}
_FACTORIES = "empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step"


class StandInTensor(torch.Tensor):
    """A tensor on the device; ``raw`` is what it holds."""

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
    """The operation on what the tensors hold, if a GPU would do it."""
    name, wanted = func._schema.name, kwargs.get("device")
    tensors: list[torch.Tensor] = []
    _each(tensors.append, (args, kwargs))
    indices: list[torch.Tensor] = []
    if name in _INDEXING:
        _each(indices.append, args[1])
    for tensor in tensors if name not in _COPIES else ():  # numbers may come from the host, and so may indices
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
    # What was written into is the same tensor as before.
    return _each(lambda tensor: homes[id(tensor)] if id(tensor) in homes else StandInTensor(tensor), out)


def _each(change: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """The same with every tensor changed. Torch's own way to do this takes most of a run's time."""
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
    """Make the device known to this process."""
    _setup_privateuseone_for_python_backend(NAME)
    for name in _FACTORIES:
        packet, _, overload = name.partition(".")
        made = _factory(getattr(getattr(torch.ops.aten, packet), overload or "default"))
        library.impl(f"aten::{name}", NAME, made)


def _factory(make: Any) -> Any:
    return lambda *args, **kwargs: StandInTensor(
        make(*args, **kwargs | {"device": torch.device("cpu"), "pin_memory": False})
    )
