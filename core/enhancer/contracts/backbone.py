"""Backbones: from interactions (and semantics, through a fuser) to matrices scored by inner products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from enhancer.contracts.options import Context, Options

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts.fuser import Fuser
    from enhancer.contracts.placement import Placement

Capability = Literal["input", "loss", "embeddings", "ranking", "served"]
"""What a fuser may need of a backbone: a widened ``input``; a further ``loss`` on its embeddings; a hand in the
``embeddings`` themselves before they are propagated; a ``ranking`` loss in place of the backbone's own; a word on the
embeddings that are ``served``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingData:
    """What a backbone learns from. Users and items are row numbers; rows without interactions are allowed."""

    n_users: int
    n_items: int
    users: NDArray[np.int32]
    """int32 ``[n]``: the user of each training interaction. Pairs are unique."""
    items: NDArray[np.int32]
    """int32 ``[n]``: its item."""
    ratings: NDArray[np.float32] | None = None
    """float32 ``[n]``: its rating, where there are any."""
    user_vectors: NDArray[np.float32] | None = None
    """float32 ``[n_users, ds]``: semantic vectors; a zero row means that there is none. None without semantics."""
    item_vectors: NDArray[np.float32] | None = None
    """float32 ``[n_items, ds]``: likewise."""


@dataclass(frozen=True, eq=False)
class Factors:
    """The score of user u and item i is ``users[u] @ items[i]``: nothing else is needed to serve."""

    users: NDArray[np.float32]
    """float32 ``[n_users, k]``."""
    items: NDArray[np.float32]
    """float32 ``[n_items, k]``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """What training gives."""

    factors: Factors
    """Rows of items (users) without a training interaction are placed by their semantic vector where the fuser can."""
    place_items: Placement | None = None
    """Maps a semantic vector of an unseen item to a row of ``factors.items``; None when the fuser cannot."""
    place_users: Placement | None = None
    """Likewise for users."""
    epochs: int
    """Epochs run."""
    best_epoch: int
    """The epoch whose factors these are (from 1)."""
    history: list[dict[str, float]] = field(default_factory=list)
    """One entry an epoch: ``epoch``, ``loss``, ``seconds`` and, where validated, ``metric``."""


class Monitor(Protocol):
    """What the caller of ``fit`` watches with. The backbone calls it; it never prints by itself."""

    checkpoint: Path | None
    """A file where the backbone may keep its state, to resume after a kill; None for no checkpoints."""

    def validate(self, factors: Factors) -> float | None:
        """The validation metric (higher is better), or None when there is no validation split."""

    def epoch_finished(self, epoch: int, epochs: int, loss: float, metric: float | None) -> None:
        """Called after each epoch with its number (from 1), the most there will be, and the mean loss a step."""


class Backbone(ABC):
    """A collaborative model whose every score is an inner product."""

    options_class: ClassVar[type[Options]] = Options
    accepts: ClassVar[frozenset[Capability]] = frozenset()
    """What this backbone offers to fusers."""

    @abstractmethod
    def __init__(self, options: Options, context: Context) -> None:
        """Take the options; import and build nothing heavy yet."""

    @abstractmethod
    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Train. Equal arguments give equal factors; arms of one seed share their initialisation.

        Raises:
            FusionError: The fuser needs what this backbone does not offer.
        """
