"""Training data, the factors that training yields, and the monitor of a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np

from enhancer.errors import DataError, DivergenceError, PluginError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from enhancer.contracts.features import SideFeatures
    from enhancer.contracts.placement import Placement

Capability = Literal["input", "loss", "embeddings", "propagation", "ranking", "served"]
"""Extension points that a backbone may offer and a fuser may need.

- ``input``: columns beside the embeddings, in training and in serving;
- ``loss``: a further loss term on the final embeddings;
- ``embeddings``: replacing the embeddings before they are propagated;
- ``propagation``: final embeddings that depend on a node's neighbours;
- ``ranking``: a ranking loss in place of the backbone's own;
- ``served``: adjusting the served embeddings after training.
"""

Material = Literal["features", "labels"]
"""Optional training data: side ``features`` of users and items; ``labels`` of interactions (1 positive, 0 negative)."""

_MATRIX = 2
"""Dimensions of a matrix."""


class View(NamedTuple):
    """Columns of the semantic vectors that come from one input, such as ``plot``."""

    name: str
    """Name of the input."""
    start: int
    """First column."""
    stop: int
    """Column after the last."""

    @property
    def columns(self) -> slice:
        """The columns, to index a matrix by."""
        return slice(self.start, self.stop)


class SemanticVectors(NamedTuple):
    """Semantic vectors of users and items, in the same columns."""

    users: NDArray[np.float32] | None
    """float32 ``[n_users, ds]``; None if users have none of their own."""
    items: NDArray[np.float32]
    """float32 ``[n_items, ds]``; a zero row means no vector."""
    views: tuple[View, ...] = ()
    """Columns of each input, from left to right; empty if all columns are one view."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingData:
    """Input of a training run. Users and items are row numbers; rows without interactions are allowed.

    Interactions are in the order of the file. A pair that the file has several times is there once, with the latest
    rating and time. ``np.argsort(timestamps, kind="stable")`` is their order in time.
    """

    n_users: int
    n_items: int
    users: NDArray[np.int32]
    """int32 ``[n]``: user of each training interaction. Pairs are unique."""
    items: NDArray[np.int32]
    """int32 ``[n]``: item of each training interaction."""
    ratings: NDArray[np.float32] | None = None
    """float32 ``[n]``: rating of each training interaction; None without ratings."""
    timestamps: NDArray[np.int64] | None = None
    """int64 ``[n]``: time of each training interaction, in the unit of the file (seconds for dates), or a power of
    ten finer if the file has fractions. None without timestamps."""
    user_vectors: NDArray[np.float32] | None = None
    """float32 ``[n_users, ds]``: semantic vectors; a zero row means no vector. None without semantics."""
    item_vectors: NDArray[np.float32] | None = None
    """float32 ``[n_items, ds]``: semantic vectors; a zero row means no vector. None without semantics."""
    views: tuple[View, ...] = ()
    """Columns of each input in both matrices of vectors, from left to right. An entity may lack a vector of one view:
    its columns are zero. Without a value, all columns are one view; empty without semantics."""
    item_spread: NDArray[np.float32] | None = None
    """float32 ``[n_items, n_views]``: variance of the vectors of the samples of each note around their mean, from 0
    (alike) to about 1; NaN where fewer than two samples are there. None if notes have one sample."""
    user_features: SideFeatures | None = None
    """Side features of all users; only for a backbone that takes ``"features"``. None if none are configured."""
    item_features: SideFeatures | None = None
    """Side features of all items; only for a backbone that takes ``"features"``. None if none are configured."""
    labels: NDArray[np.float32] | None = None
    """float32 ``[n]``: 1 for a positive training interaction, 0 for a negative one. Only for a backbone that takes
    ``"labels"``; other backbones get the positive interactions alone."""

    def __post_init__(self) -> None:
        """Make all columns one view if no views are given."""
        vectors = self.user_vectors if self.item_vectors is None else self.item_vectors
        if vectors is None:
            object.__setattr__(self, "views", ())
        elif not self.views and vectors.ndim == _MATRIX:
            object.__setattr__(self, "views", (View("", 0, vectors.shape[1]),))

    def check(self) -> None:
        """Check the interactions against each other and against the numbers of users and items.

        Raises:
            DataError: There are no interactions, lengths differ, a rating or label is not finite, a row number is out
                of range, or the views do not cover the columns of the vectors.
        """
        if len(self.users) == 0:
            raise DataError("there are no training interactions")
        for name in ("items", "ratings", "timestamps", "labels"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.users):
                raise DataError(f"training data has {len(self.users)} users but {len(column)} {name}")
        for name in ("ratings", "labels"):
            column = getattr(self, name)
            if column is not None and not np.isfinite(column).all():
                row = int(np.flatnonzero(~np.isfinite(column))[0])
                raise DataError(
                    f"{name} of the training data contain NaN or infinite values, first at interaction {row}",
                    hint="correct or leave out these interactions",
                )
        for name, rows, n in (("user", self.users, self.n_users), ("item", self.items, self.n_items)):
            low, high = int(rows.min()), int(rows.max())
            if low < 0 or high >= n:
                raise DataError(f"training data contains {name} row {low if low < 0 else high}, but there are {n} rows")
        spread, shape = self.item_spread, (self.n_items, len(self.views))
        if spread is not None and spread.shape != shape:
            raise DataError(
                f"item_spread has shape {list(spread.shape)}, expected {list(shape)}: a row for each item and a column"
                " for each view"
            )
        edges = [0, *(view.stop for view in self.views)]
        for name, vectors in (("user", self.user_vectors), ("item", self.item_vectors)):
            if vectors is None or vectors.ndim != _MATRIX:
                continue
            if [view.start for view in self.views] != edges[:-1] or edges[-1] != vectors.shape[1]:
                raise DataError(
                    f"views {', '.join(f'{view.start}:{view.stop}' for view in self.views)} do not cover the"
                    f" {vectors.shape[1]} columns of the {name} vectors from left to right"
                )


@dataclass(frozen=True, eq=False)
class Factors:
    """User and item factors. The score of user u and item i is ``users[u] @ items[i]``."""

    users: NDArray[np.float32]
    """float32 ``[n_users, k]``."""
    items: NDArray[np.float32]
    """float32 ``[n_items, k]``."""


def check_factors(factors: Factors, data: TrainingData, *, where: str) -> None:
    """Check types, shapes, dtypes and values.

    Args:
        factors: User and item factors.
        data: Training data that they were fitted to.
        where: Start of the messages, such as ``backbone 'lightgcn'``.

    Raises:
        PluginError: A type, shape or dtype is wrong.
        DivergenceError: A factor is NaN or infinite.
    """
    if not isinstance(factors, Factors):
        raise PluginError(f"{where}: factors are {type(factors).__name__}, not Factors")
    for name, rows, n in (("users", factors.users, data.n_users), ("items", factors.items, data.n_items)):
        if not isinstance(rows, np.ndarray):
            raise PluginError(f"{where}: factors.{name} is {type(rows).__name__}, not a numpy array")
        if rows.ndim != 2 or len(rows) != n:
            raise PluginError(
                f"{where}: factors.{name} has shape {list(rows.shape)}, expected [{n}, k]: one row per {name[:-1]}"
            )
        if rows.dtype != np.float32:
            raise PluginError(f"{where}: factors.{name} has dtype {rows.dtype}, expected float32")
    if factors.users.shape[1] != factors.items.shape[1]:
        raise PluginError(
            f"{where}: factors.users has shape {list(factors.users.shape)} and factors.items has shape "
            f"{list(factors.items.shape)}, expected as many columns in both"
        )
    for name, rows in (("user", factors.users), ("item", factors.items)):
        with np.errstate(over="ignore", invalid="ignore"):
            finite = bool(np.isfinite(rows.sum()))
        if not finite and not np.isfinite(rows).all():  # a sum may overflow, too; it needs no table of truth values
            row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise DivergenceError(f"{where}: the factors of {name} row {row} are not finite")


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """Result of a training run."""

    factors: Factors
    """Final factors. Rows without a training interaction are placed by their semantic vector if the fuser can."""
    place_items: Placement | None = None
    """Maps the semantic vector of an unseen item to a row of ``factors.items``; None if the fuser cannot place."""
    place_users: Placement | None = None
    """Maps the semantic vector of an unseen user to a row of ``factors.users``; None if the fuser cannot place."""
    epochs: int = 1
    """Epochs run. 1 for a closed-form backbone."""
    best_epoch: int = 1
    """Epoch that the factors were taken from, counted from 1; 0 for a simple model that training did not improve."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry per epoch: ``epoch``, ``loss``, ``seconds`` and, if validated, ``metric``; before them, for a backbone
    that validates a simple model first, an entry for epoch 0 without ``loss``. A closed-form backbone may leave it
    empty: :meth:`~enhancer.contracts.Backbone.fit_checked` then validates the result and adds an entry."""
    serving: Callable[[], Factors] | None = None
    """Returns factors with fewer columns to serve, where ``factors`` are the model's exact scores and too wide for
    that; None to serve ``factors``. Placements must go with the result. ``train`` reports what it costs."""
    stopped: str | None = None
    """Why training stopped before the last epoch, such as ``validation did not improve in 6 validations``; None if it
    did not."""

    def check(self, data: TrainingData, *, where: str) -> None:
        """Check factors and placements.

        Args:
            data: Training data that this is the result of.
            where: Start of the messages, such as ``backbone 'lightgcn'``.

        Raises:
            PluginError: A type, shape or dtype is wrong.
            DivergenceError: A factor is NaN or infinite.
        """
        check_factors(self.factors, data, where=where)
        for name, placement, rows, vectors in (
            ("place_users", self.place_users, self.factors.users, data.user_vectors),
            ("place_items", self.place_items, self.factors.items, data.item_vectors),
        ):
            if placement is None:
                continue
            if placement.outputs != rows.shape[1]:
                raise PluginError(
                    f"{where}: {name} returns {placement.outputs} columns, but factors have {rows.shape[1]}"
                )
            if vectors is not None and placement.inputs != vectors.shape[1]:
                raise PluginError(
                    f"{where}: {name} takes {placement.inputs} columns, but vectors have {vectors.shape[1]}"
                )


class Monitor(Protocol):
    """Callbacks of a training run. The backbone calls them and prints nothing itself."""

    checkpoint: Path | None
    """File for the state of an interrupted run, so that it can be resumed; None for no checkpoints."""
    repeats: int | None
    """Number of epochs that validation chose in an earlier run, which this one repeats on more data; None to let
    validation choose. With a number, train so many epochs, neither validate nor stop between them, and keep the last;
    with 0, keep the best model that needs no training. A run that reports more epochs is not used."""

    def validate(self, factors: Factors) -> float | None:
        """Return the validation metric (higher is better), or None without a validation split.

        The factors are only valid during the call: copy what is to be kept, and modify nothing. It may raise an
        exception of its own to end a trial early. Let that pass.
        """

    def epoch_finished(self, epoch: int, epochs: int, loss: float, metric: float | None) -> None:
        """Report a finished epoch.

        Args:
            epoch: Its number, from 1.
            epochs: Maximum number of epochs.
            loss: Mean loss per training step.
            metric: Validation metric; None if the epoch was not validated.
        """
