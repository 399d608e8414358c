"""Semantic vectors on the device of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from enhancer.contracts import Dense
from enhancer_plugins.training.semantic_vectors import SemanticVectors, view_scale

if TYPE_CHECKING:
    from enhancer.contracts import TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.placing.options import RegressionOptions


class Semantics:
    """Semantic vectors of users and items as tensors, in which no input is longer than another.

    Attributes:
        host: The vectors as they are, in numpy, with the placement by regression.
        vectors: float32 ``[n, ds]`` by kind; the columns of each input are scaled so that all have the same length.
        known: bool ``[n]`` by kind: entities with both a vector and a training interaction.
        dim: ``ds``.
    """

    def __init__(self, data: TrainingData, device: str, options: RegressionOptions | None = None) -> None:
        self.host = SemanticVectors(data, options)
        self._scale = view_scale(data)
        self.vectors: dict[Kind, torch.Tensor] = {
            kind: torch.from_numpy(rows if self._scale is None else rows * self._scale).to(device)
            for kind, rows in self.host.vectors.items()
        }
        self.known: dict[Kind, torch.Tensor] = {
            kind: torch.from_numpy(mask).to(device) for kind, mask in self.host.known.items()
        }
        self.dim = self.host.dim

    def of_raw(self, layers: tuple[Dense, ...]) -> tuple[Dense, ...]:
        """Return layers that map vectors as they are to what the given layers map :attr:`vectors` to."""
        if self._scale is None:
            return layers
        first, *rest = layers
        return Dense(first.weight * self._scale[:, None], first.bias, first.activation), *rest
