"""Semantic vectors on the device of a run, and which nodes have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from enhancer.contracts import Dense, Placement
from enhancer_plugins.training.run import trained

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData
    from enhancer.contracts.record import Kind


class Semantics:
    """The vectors of users and items.

    Attributes:
        vectors: float32 ``[n, ds]`` by kind.
        known: bool ``[n]`` by kind: nodes that have a vector and a training interaction.
        counts: int64 ``[n]`` by kind: training interactions.
        dim: ``ds``.
    """

    def __init__(self, data: TrainingData, device: str) -> None:
        assert data.user_vectors is not None
        assert data.item_vectors is not None
        self._masks: dict[Kind, NDArray[np.bool_]] = dict(zip(("user", "item"), trained(data), strict=True))
        self.counts: dict[Kind, NDArray[np.int64]] = {
            "user": np.bincount(data.users, minlength=data.n_users),
            "item": np.bincount(data.items, minlength=data.n_items),
        }
        self.vectors: dict[Kind, torch.Tensor] = {
            "user": torch.from_numpy(np.asarray(data.user_vectors, np.float32)).to(device),
            "item": torch.from_numpy(np.asarray(data.item_vectors, np.float32)).to(device),
        }
        self.known: dict[Kind, torch.Tensor] = {
            kind: (rows != 0).any(1) & torch.from_numpy(self._masks[kind]).to(device)
            for kind, rows in self.vectors.items()
        }
        self.dim = int(self.vectors["item"].shape[1])

    def fitted_placement(
        self,
        kind: Kind,
        embeddings: torch.Tensor,
        *,
        ridge: float = 0.03,
        prior_strength: float = 1.0,
        length: float | None = None,
    ) -> Placement:
        """The linear map from vectors that comes nearest to the embeddings of trained nodes, by ridge regression.

        Args:
            kind: Users or items.
            embeddings: float32 ``[m, d]``: those of the nodes with a training interaction, in order.
            ridge: Penalty, in parts of the mean variance of a column.
            prior_strength: A node with ``n`` training interactions has weight ``n / (n + prior_strength)``: what
                hardly anybody touched says little of where its like belong.
            length: Of what is placed, in mean lengths of ``embeddings``. None: as the regression makes it, which is
                shorter, the less vectors tell. Then scores are the best linear guess of what a trained row would give.

        Returns:
            ``ds`` to ``d``.
        """
        has = self.known[kind].cpu().numpy()[self._masks[kind]]
        y = embeddings.detach().cpu().numpy().astype(np.float64)
        norm = None if length is None else length * float(np.linalg.norm(y, axis=1).mean())
        x = self.vectors[kind].cpu().numpy()[self._masks[kind]][has].astype(np.float64)
        y = y[has]
        counts = self.counts[kind][self._masks[kind]][has]
        if len(x) == 0:
            zero = np.zeros((self.dim, embeddings.shape[1]), np.float32)
            return Placement((Dense(zero, np.zeros(zero.shape[1], np.float32)),))
        slope, level = linear_fit(x, y, ridge=ridge, weights=counts / (counts + prior_strength))
        return Placement((Dense(slope.astype(np.float32), level.astype(np.float32)),), norm=norm)


def linear_fit(
    x: NDArray[np.float64], y: NDArray[np.float64], *, ridge: float, weights: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ridge regression with a free level.

    Args:
        x: ``[n, w]``.
        y: ``[n, k]``.
        ridge: Penalty, in parts of the mean squared length of a centred column of ``x``.
        weights: ``[n]``: what each row counts for; 1 each if None.

    Returns:
        Slope ``[w, k]`` and level ``[k]``.
    """
    weights = np.ones(len(x)) if weights is None else weights
    centre, level = np.average(x, 0, weights), np.average(y, 0, weights)
    moved = (x - centre) * np.sqrt(weights)[:, None]
    gram = moved.T @ moved
    gram[np.diag_indices_from(gram)] += ridge * max(float(np.trace(gram)) / len(gram), 1e-12)
    slope = np.asarray(np.linalg.solve(gram, moved.T @ ((y - level) * np.sqrt(weights)[:, None])), np.float64)
    return slope, level - centre @ slope
