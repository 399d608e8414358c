"""Backbones: from interactions (and semantics, through a fuser) to matrices scored by inner products."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from enhancer.contracts.options import Context, Options
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts.features import SideFeatures
    from enhancer.contracts.fuser import Fuser
    from enhancer.contracts.placement import Placement

Capability = Literal["input", "loss", "embeddings", "propagation", "ranking", "served"]
"""What a fuser may need of a backbone: a widened ``input``; a further ``loss`` on its embeddings; a hand in the
``embeddings`` themselves, before they are propagated where it propagates; ``propagation``, so that a node's final
embedding tells of its neighbours; a ``ranking`` loss in place of the backbone's own; a word on the embeddings that are
``served``."""

Material = Literal["features", "labels"]
"""What a backbone may take beside interactions and vectors: side ``features`` of users and items; ``labels`` of
interactions, the good and the bad ones, which it learns to tell apart."""


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
    user_features: SideFeatures | None = None
    """Side features of all users, where the configuration names any; for a backbone that takes ``"features"``."""
    item_features: SideFeatures | None = None
    """Likewise of all items."""
    labels: NDArray[np.float32] | None = None
    """float32 ``[n]``, 1 or 0: whether each training interaction was a good one. Only a backbone that takes
    ``"labels"`` is given them; any other one is given good interactions alone."""


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
    accepts: frozenset[Capability] = frozenset()
    """What this backbone offers to fusers; may depend on its options."""
    takes: frozenset[Material] = frozenset()
    """What it learns from beside interactions and vectors; may depend on its options. One that takes ``"labels"``
    scores by logits: the sigmoid of a score is a probability."""

    options: Options
    """What it was made with: finished runs are known again, and options searched, by it."""

    def __init__(self, options: Options, context: Context) -> None:
        """Keep the options. A constructor of its own must do so too, and import and build nothing heavy yet."""
        del context
        self.options = options

    @abstractmethod
    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Train. Equal arguments give equal factors; arms of one seed share their initialisation.

        Raises:
            FusionError: The fuser needs what this backbone does not offer.
        """

    def check_data(self, data: TrainingData, name: str = "this backbone") -> None:
        """Refuse what it would have to ignore, and the lack of what it cannot do without.

        Raises:
            ConfigError: Side features for a backbone that takes none, labels likewise, or no labels for one that
                learns from them.
        """
        sides = [part for part in (data.user_features, data.item_features) if part is not None]
        columns = dict.fromkeys(each.partition("=")[0] for part in sides for each in part.names)
        self.check_material(features=list(columns), labelled=data.labels is not None, name=name)
        if data.labels is not None and "labels" not in self.takes:
            raise ConfigError(
                f"backbone {name!r} does not learn from labels", hint="give it the good interactions alone"
            )

    def check_material(self, *, features: Sequence[str], labelled: bool, name: str = "this backbone") -> None:
        """Refuse, from what is configured alone, what :meth:`check_data` would refuse when all is read.

        Args:
            features: Columns of side features.
            labelled: Whether interactions have labels. A backbone that takes none is given the good ones alone.
            name: What messages call the backbone.

        Raises:
            ConfigError: Side features for a backbone that takes none, or no labels for one that learns from them.
        """
        if features and "features" not in self.takes:
            raise ConfigError(
                f"backbone {name!r} takes no side features, and [data.features] names {', '.join(features)}",
                hint="set [backbone] use = 'fm', or leave [data.features] out",
            )
        if not labelled and "labels" in self.takes:
            raise ConfigError(
                f"backbone {name!r} learns from labels, and the interactions have none",
                hint="set [data.columns] label, such as label = 'click' or label = 'rating >= 4'",
            )
