"""Initial embeddings from the leading singular vectors of the normalised interaction matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from enhancer_plugins.training import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData
    from enhancer_plugins.training.graph import BipartiteGraph

_ITERATIONS = 6
"""Subspace iterations; the last vectors need not have converged."""
_SCORES, _USERS = 1 << 17, 64
"""Scores of the sample of users by which the scale is chosen, and the fewest users of it."""
_COARSE, _FINE = 2.0 ** np.arange(-3, 7), 2.0 ** np.array([-0.5, -0.25, 0.0, 0.25, 0.5])
"""Scales that are tried, as multiples of the scale at which rows have the mean length 1."""


class Likelihood(NamedTuple):
    """Loss that training minimises, by which the scale of the initial embeddings is chosen."""

    weights: Sequence[float]
    """Weights of the layers of propagation."""
    temperature: float
    penalty: float
    """L2 penalty per interaction."""


def spectral_start(data: TrainingData, graph: BipartiteGraph, dim: int, seed: int, by: Likelihood) -> torch.Tensor:
    """Return initial embeddings float32 ``[n_users + n_items, dim]``, on the CPU.

    With singular vectors ``U`` and ``V`` and singular values ``S`` of ``D^-1/2 R D^-1/2``, they are ``c U S`` and
    ``c V S``, with the ``c`` at which the penalised multinomial loss of a sample of users is smallest. Columns beyond
    the rank are zero.

    Args:
        data: Training interactions.
        graph: Normalised adjacency matrix on the CPU.
        dim: Length of an embedding.
        seed: Seed of the first subspace.
        by: The loss.
    """
    rows = _singular_rows(graph, dim, seed)
    mean = float(torch.linalg.vector_norm(rows, dim=1).mean())
    return rows * (_scale(data, graph, rows / mean, by) / mean)


def _singular_rows(graph: BipartiteGraph, dim: int, seed: int) -> torch.Tensor:
    """Return ``[U S; V S]`` by subspace iteration, float32 ``[n, dim]``.

    Products over the graph map ``[X; 0]`` to ``[R R' X; 0]`` and to ``[0; R' X]``.
    """
    n_users = graph.n_users
    stacked = torch.zeros(graph.n, dim)
    stacked[:n_users] = torch.randn(n_users, dim, generator=run.generator(seed, "spectral"))
    for _ in range(_ITERATIONS):
        stacked[:n_users] = _orthonormal(stacked[:n_users])
        stacked = graph.apply(stacked, (0.0, 0.0, 1.0))
    users = _orthonormal(stacked[:n_users])
    stacked[:n_users], stacked[n_users:] = users, 0.0
    items = graph.apply(stacked, (0.0, 1.0))[n_users:]
    squares, rotation = torch.linalg.eigh((items.T @ items).double())
    values = squares.clamp(min=0).sqrt()
    return torch.cat([users @ (rotation * values).float(), items @ rotation.float()])


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    """Return an orthonormal basis of the columns; zero columns in place of dependent ones."""
    squares, rotation = torch.linalg.eigh((columns.T @ columns).double())
    kept = squares > 1e-10 * squares[-1]
    scale = torch.where(kept, squares.clamp(min=1e-300).rsqrt(), 0.0)
    basis: torch.Tensor = columns @ (rotation * scale).float()
    return basis


def _scale(data: TrainingData, graph: BipartiteGraph, rows: torch.Tensor, by: Likelihood) -> float:
    """Return the scale of ``rows`` at which the penalised loss is smallest."""
    users, items = torch.split(graph.apply(rows, by.weights), [data.n_users, data.n_items])
    counts = np.bincount(data.users, minlength=data.n_users), np.bincount(data.items, minlength=data.n_items)
    trained, candidates = (np.flatnonzero(count) for count in counts)
    some = _spread(trained, max(_SCORES // len(candidates), _USERS))
    scores = users[torch.from_numpy(some)] @ items[torch.from_numpy(candidates)].T
    taken = np.isin(data.users, some)
    position = np.full(data.n_users, -1)
    position[some] = np.arange(len(some))
    places = np.searchsorted(candidates, data.items[taken]), position[data.users[taken]]
    observed = float(scores[torch.from_numpy(places[1]), torch.from_numpy(places[0])].mean(dtype=torch.float64))
    shares = torch.from_numpy(counts[0][some] / counts[0][some].sum())
    degrees = torch.from_numpy(np.concatenate(counts)).double()
    squares = float(degrees @ rows.square().sum(1).double()) / len(data.users)

    def loss(scale: float) -> float:
        factor = scale**2 / by.temperature
        normaliser = torch.logsumexp(scores * factor, 1).double() @ shares
        return float(normaliser) - factor * observed + by.penalty / 2 * scale**2 * squares

    best = min(_COARSE.tolist(), key=loss)
    return float(min((best * _FINE).tolist(), key=loss))


def _spread(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most ``most`` of the rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
