"""Concatenation of embedding and vector, ``[e; s]``, as input of the backbone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from enhancer.contracts import Dense, Fuser, Fusion, Options, Placement, WideInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch
    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData
    from enhancer.contracts.record import Kind


class ConcatOptions(Options):
    """``[fuser] use = "concat"``."""

    scale: float = Field(default=2.0, gt=0)
    """Factor of the semantic vectors; their part of a score grows with its square."""
    projection: int | None = Field(default=None, ge=1)
    """Columns of a trained linear projection of the vectors; by default there is no projection."""


class Concat(Fuser):
    """Semantic vectors, raw or projected, beside the embeddings. Inputs of different length are given the same one.

    The semantic columns are part of the served factors.
    """

    options_class = ConcatOptions
    options: ConcatOptions
    needs = frozenset({"input"})
    carries_semantics = True

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return the fusion of one run."""
        del dim
        import torch

        from enhancer_plugins.training.run import generator
        from enhancer_plugins.training.semantic_vectors import view_scale

        assert data.user_vectors is not None
        assert data.item_vectors is not None
        even = view_scale(data)
        scale = np.full(data.item_vectors.shape[1], self.options.scale, np.float32)
        scale *= 1 if even is None else even
        users = torch.from_numpy(data.user_vectors * scale).to(device)
        items = torch.from_numpy(data.item_vectors * scale).to(device)
        if self.options.projection is None:
            return _Raw(users, items, scale)
        ds, width = users.shape[1], self.options.projection
        weight = torch.randn(ds, width, generator=generator(seed, "concat")) / math.sqrt(width)
        return _Projected(users, items, scale, weight.to(device))


class _Raw(Fusion):
    def __init__(self, users: torch.Tensor, items: torch.Tensor, scale: NDArray[np.float32]) -> None:
        self._wide = WideInput(users, items, constant=True)
        self._scale = scale

    def inputs(self) -> WideInput:
        return self._wide

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        del kind, embeddings
        width = self._wide.items.shape[1]
        return Placement((Dense(np.diag(self._scale), np.zeros(width, np.float32)),))


class _Projected(Fusion):
    def __init__(
        self, users: torch.Tensor, items: torch.Tensor, scale: NDArray[np.float32], weight: torch.Tensor
    ) -> None:
        self._users, self._items, self._scale, self._weight = users, items, scale, weight

    def parameters(self) -> Iterable[torch.Tensor]:
        return (self._weight,)

    def inputs(self) -> WideInput:
        return WideInput(self._users @ self._weight, self._items @ self._weight, constant=False)

    def inputs_of(self, users: torch.Tensor, items: torch.Tensor) -> WideInput:
        some = self._users.index_select(0, users), self._items.index_select(0, items)
        return WideInput(some[0] @ self._weight, some[1] @ self._weight, constant=False)

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement:
        del kind, embeddings
        weight = self._weight.detach().cpu().numpy() * self._scale[:, None]
        return Placement((Dense(weight, np.zeros(weight.shape[1], np.float32)),))

    def state(self) -> dict[str, torch.Tensor]:
        return {"weight": self._weight.detach()}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        self._weight.data.copy_(state["weight"])
