"""Semantic vectors on the device of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from enhancer_plugins.training.semantic_vectors import SemanticVectors

if TYPE_CHECKING:
    from enhancer.contracts import TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.placing.options import RegressionOptions


class Semantics:
    """Semantic vectors of users and items as tensors.

    Attributes:
        host: The same vectors in numpy, with the placement by regression.
        vectors: float32 ``[n, ds]`` by kind.
        known: bool ``[n]`` by kind: entities with both a vector and a training interaction.
        dim: ``ds``.
    """

    def __init__(self, data: TrainingData, device: str, options: RegressionOptions | None = None) -> None:
        self.host = SemanticVectors(data, options)
        self.vectors: dict[Kind, torch.Tensor] = {
            kind: torch.from_numpy(rows).to(device) for kind, rows in self.host.vectors.items()
        }
        self.known: dict[Kind, torch.Tensor] = {
            kind: torch.from_numpy(mask).to(device) for kind, mask in self.host.known.items()
        }
        self.dim = self.host.dim
