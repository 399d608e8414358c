"""Semantic vectors of a run in numpy, and the placement of unseen entities by regression on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts import Dense, Placement
from enhancer_plugins.training.interactions import interaction_counts
from enhancer_plugins.training.placing.options import RegressionOptions
from enhancer_plugins.training.placing.spread import mean_spread
from enhancer_plugins.training.placing.views import ViewRegression

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts import TrainingData
    from enhancer.contracts.fuser import Judge
    from enhancer.contracts.record import Kind


_BLOCK_ROWS = 8192
"""Rows whose lengths are computed at once."""


def view_scale(data: TrainingData) -> NDArray[np.float32] | None:
    """Return factors of the columns of vectors that give all views the same length, and whole rows the length one.

    No view then drowns another, and several side by side weigh as much as one alone, for which the defaults of fusers
    are meant.

    Args:
        data: Vectors and views. The length of a view is the root mean square over users and items that have it.

    Returns:
        float32 ``[ds]``; None with a single view, which stays as it is.
    """
    if len(data.views) <= 1:
        return None
    squares, counts = np.zeros(len(data.views)), np.zeros(len(data.views))
    for vectors in (data.user_vectors, data.item_vectors):
        for start in range(0, 0 if vectors is None else len(vectors), _BLOCK_ROWS):
            assert vectors is not None
            for number, view in enumerate(data.views):
                part = np.asarray(vectors[start : start + _BLOCK_ROWS, view.columns], np.float32)
                squares[number] += float(np.einsum("nw,nw->", part, part, dtype=np.float64))
                counts[number] += np.count_nonzero(part.any(axis=1))
    lengths = np.sqrt(squares / np.maximum(counts, 1))
    scale = np.zeros(data.views[-1].stop, np.float32)
    for view, length in zip(data.views, lengths, strict=True):
        if length > 0:
            scale[view.columns] = 1 / (length * np.sqrt(np.count_nonzero(lengths)))
    return scale


class SemanticVectors:
    """Semantic vectors of users and items, without torch.

    Args:
        data: Interactions and vectors.
        options: Form, penalty and weights of the regressions.

    Attributes:
        vectors: float32 ``[n, ds]`` by kind.
        counts: int64 ``[n]`` by kind: training interactions.
        known: bool ``[n]`` by kind: entities with both a vector and a training interaction.
        dim: ``ds``.
    """

    def __init__(self, data: TrainingData, options: RegressionOptions | None = None) -> None:
        assert data.user_vectors is not None
        assert data.item_vectors is not None
        self.vectors: dict[Kind, NDArray[np.float32]] = {
            "user": np.asarray(data.user_vectors, np.float32),
            "item": np.asarray(data.item_vectors, np.float32),
        }
        self.counts = interaction_counts(data)
        self.known: dict[Kind, NDArray[np.bool_]] = {
            kind: rows.any(axis=1) & (self.counts[kind] > 0) for kind, rows in self.vectors.items()
        }
        self.dim = int(self.vectors["item"].shape[1])
        self._views, self._options = data.views, options or RegressionOptions()
        heeded = data.item_spread if self._options.sample_spread else None
        self._spread: dict[Kind, NDArray[np.float64] | None] = {
            "user": None,
            "item": None if heeded is None else mean_spread(heeded),
        }
        self._regressions: dict[tuple[Kind, float], ViewRegression] = {}

    def fitted_placement(
        self,
        kind: Kind,
        embeddings: NDArray[np.float32],
        *,
        prior_strength: float = 1.0,
        length: float | None = None,
    ) -> Placement:
        """Return the map from vectors to embeddings that fits the trained entities best, by penalised regression.

        Args:
            kind: ``"user"`` or ``"item"``.
            embeddings: float32 ``[m, d]``: embeddings of the entities with a training interaction, in row order.
            prior_strength: An entity with ``n`` training interactions has weight ``n / (n + prior_strength)``, because
                embeddings trained on few interactions are noisy.
            length: L2 length of a placed row, as a multiple of the mean length of ``embeddings``. None keeps the length
                that the regression gives: it is shorter the less the vectors explain, and scores are then the best
                linear estimate of those of a trained row.

        Returns:
            A map from ``ds`` to ``d`` columns.
        """
        norm = None if length is None else length * float(np.linalg.norm(embeddings, axis=1).mean(dtype=np.float64))
        if not self.known[kind].any():
            d = embeddings.shape[1]
            return Placement((Dense(np.zeros((self.dim, d), np.float32), np.zeros(d, np.float32)),))
        regression = self.regression(kind, prior_strength)
        return Placement(regression.layers(self._target(kind, embeddings)), norm=norm)

    def weighed_placement(
        self,
        kind: Kind,
        embeddings: NDArray[np.float32],
        folds: Sequence[NDArray[np.int64]],
        judge: Judge,
        *,
        prior_strength: float = 1.0,
        length: float | None = None,
    ) -> Placement | None:
        """Return :meth:`fitted_placement` with weights of the views that are chosen on validation.

        Args:
            kind: ``"user"`` or ``"item"``.
            embeddings: float32 ``[m, d]``: embeddings of the entities with a training interaction, in row order.
            folds: int64 ``[r]`` each: trained entities with a vector.
            judge: Returns the validation metric of predicted rows.
            prior_strength: See :meth:`fitted_placement`.
            length: See :meth:`fitted_placement`.

        Returns:
            None without ``views = "gate"``, or if no other weights are better.
        """
        if not self.known[kind].any():
            return None
        regression = self.regression(kind, prior_strength)
        if not regression.reweigh(self._target(kind, embeddings), folds, judge):
            return None
        return self.fitted_placement(kind, embeddings, prior_strength=prior_strength, length=length)

    def left_out(
        self,
        kind: Kind,
        embeddings: NDArray[np.float32],
        rows: NDArray[np.integer],
        *,
        prior_strength: float = 1.0,
    ) -> NDArray[np.float32]:
        """Predict each of some embeddings as :meth:`fitted_placement` would if it had not seen that one.

        Args:
            kind: ``"user"`` or ``"item"``.
            embeddings: float32 ``[m, d]``: embeddings of the entities with a training interaction, in row order.
            rows: int ``[r]``: entities to predict.
            prior_strength: See :meth:`fitted_placement`.

        Returns:
            float32 ``[r, d]``.
        """
        if not self.known[kind].any():
            return np.zeros((len(rows), embeddings.shape[1]), np.float32)
        regression = self.regression(kind, prior_strength)
        return regression.left_out(self._target(kind, embeddings), rows).astype(np.float32, copy=False)

    def trust(self, kind: Kind, prior_strength: float = 1.0) -> NDArray[np.float32] | None:
        """Return the factor of the distance from the mean at which each entity is placed; None if it is 1 for all.

        Args:
            kind: ``"user"`` or ``"item"``.
            prior_strength: See :meth:`fitted_placement`.

        Returns:
            float32 ``[n]``.
        """
        found = self._regressions.get((kind, prior_strength))
        return None if found is None else found.trust

    def regression(self, kind: Kind, prior_strength: float = 1.0) -> ViewRegression:
        """Return the regression on the vectors of a kind, always the same. Some entity of the kind must be known."""
        key = kind, prior_strength
        if key not in self._regressions:
            own = self._options
            self._regressions[key] = ViewRegression(
                self.vectors[kind],
                self._views,
                weights=self.known[kind] * self.counts[kind] / (self.counts[kind] + prior_strength),
                ridge=None if own.ridge == "auto" else own.ridge,
                form=own.regression,
                weighing=own.views,
                spread=self._spread[kind],
            )
        return self._regressions[key]

    def _target(self, kind: Kind, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        target = np.zeros((len(self.counts[kind]), embeddings.shape[1]), np.float32)
        target[self.counts[kind] > 0] = embeddings
        return target
