"""Fusers: how semantic vectors enter a backbone.

A :class:`Fuser` is the configured plugin: it declares what it needs. At the start of a training run it is built into
a :class:`Fusion`, which owns the run's trainable parts. A fuser may

- widen the backbone's input (:meth:`Fusion.inputs`): need ``"input"``;
- add a term to the loss (:meth:`Fusion.loss`): need ``"loss"``;
- change the backbone's own embeddings before it propagates them (:meth:`Fusion.embeddings`): need ``"embeddings"``;
- learn from what the neighbours tell of a node: need ``"propagation"``;
- rank by a loss of its own (:meth:`Fusion.ranking_loss`): need ``"ranking"``;
- correct the embeddings that are served (:meth:`Fusion.settle`): need ``"served"``;
- place an entity that the backbone has never seen (:meth:`Fusion.place`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from enhancer.contracts.options import Context, Options
from enhancer.errors import FusionError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from enhancer.contracts.backbone import Backbone, Capability, TrainingData
    from enhancer.contracts.placement import Placement
    from enhancer.contracts.record import Kind


@dataclass(frozen=True, eq=False)
class WideInput:
    """Columns to set beside the backbone's own embeddings, ``[e; s]``."""

    users: torch.Tensor
    """float32 ``[n_users, w]``."""
    items: torch.Tensor
    """float32 ``[n_items, w]``."""
    constant: bool
    """Whether it never changes during the run, so that what depends on it alone may be computed once."""


@dataclass(frozen=True, eq=False)
class Batch:
    """One training step, as a fuser's loss sees it."""

    users: torch.Tensor
    """int64 ``[b]``: row numbers of the step's users."""
    positives: torch.Tensor
    """int64 ``[b]``: their positive items."""
    negatives: torch.Tensor
    """int64 ``[m]``: sampled items; none where the backbone's loss takes none."""
    user_embeddings: torch.Tensor
    """float32 ``[n_users, d]``: collaborative embeddings after propagation, of all users, with gradient."""
    item_embeddings: torch.Tensor
    """float32 ``[n_items, d]``: likewise."""


class Fusion:
    """The live half of a fuser, for one training run."""

    learning_rate: float | None = None
    """Step size for its parameters; None for the backbone's."""
    similarity: Literal["dot", "cosine"] = "dot"
    """What scores are: with ``cosine`` (need ``"ranking"``) the backbone serves rows of unit length."""

    def parameters(self) -> Iterable[torch.Tensor]:
        """What the optimiser shall train beside the backbone."""
        return ()

    def inputs(self) -> WideInput | None:
        """Columns that widen the backbone's input; asked once if constant, else at every step."""
        return None

    def inputs_of(self, users: torch.Tensor, items: torch.Tensor) -> WideInput | None:
        """:meth:`inputs` of some users and items alone, for a backbone whose step takes no others.

        Worth answering in a way of its own where columns are trained: by default those of all are made.

        Args:
            users: int64 ``[m]``: their row numbers.
            items: int64 ``[k]``: likewise.

        Returns:
            Columns ``[m, w]`` and ``[k, w]``.
        """
        wide = self.inputs()
        if wide is None:
            return None
        return WideInput(wide.users.index_select(0, users), wide.items.index_select(0, items), wide.constant)

    def loss(self, batch: Batch) -> torch.Tensor | None:
        """A scalar to be added to the backbone's loss, already weighted; None for none."""
        del batch
        return None

    def embeddings(
        self, users: torch.Tensor, items: torch.Tensor, *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the backbone propagates in place of its own embeddings; asked at every step.

        Args:
            users: float32 ``[n_users, d]``: the backbone's own, with gradient.
            items: float32 ``[n_items, d]``: likewise.
            training: Whether this is a step of training, in which nodes may be masked; False for what is served.

        Returns:
            As much as was given, of the same shapes.
        """
        del training
        return users, items

    def ranking_loss(self, batch: Batch) -> torch.Tensor | None:
        """A scalar in place of the backbone's own ranking loss; None leaves that alone."""
        del batch
        return None

    def settle(self, kind: Kind, embeddings: torch.Tensor) -> torch.Tensor:
        """The embeddings to be served, and validated by, from the trained ones; training itself goes on without it.

        Args:
            kind: Users or items.
            embeddings: float32 ``[n, d]``: final collaborative embeddings of all of that kind, without gradient.

        Returns:
            As much, of the same shape; what is given is not changed.
        """
        del kind
        return embeddings

    def place(self, kind: Kind, embeddings: torch.Tensor) -> Placement | None:
        """How an unseen entity's semantic vector becomes a row.

        Args:
            kind: Users or items.
            embeddings: float32 ``[n, d]``: final collaborative embeddings of the entities that training saw, from
                which a typical row or length may be taken.

        Returns:
            For a fuser that adds a loss: a map into the collaborative space, ``ds`` to ``d``; likewise for
                one that changes the embeddings. For one that widens the
            input: a map into the widening columns, ``ds`` to ``w``; the backbone sets them beside a neutral embedding.
            None when the fuser cannot.
        """
        del kind, embeddings
        return None

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that a checkpoint must keep, by name."""
        return {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Inverse of :meth:`state`."""
        del state


class Fuser(ABC):
    """A way for semantics to enter."""

    options_class: ClassVar[type[Options]] = Options
    needs: ClassVar[frozenset[Capability]] = frozenset()
    """What the backbone must offer."""
    uses_semantics: ClassVar[bool] = True
    """False for the fuser that ignores the vectors: then none have to exist."""
    carries_semantics: ClassVar[bool] = False
    """Whether serving must carry the semantic columns (they are part of the served factors)."""

    options: Options
    """What it was made with: finished runs are known again, and options searched, by it."""

    def __init__(self, options: Options, context: Context) -> None:
        """Keep the options. A constructor of its own must do so too, and import and build nothing heavy yet."""
        del context
        self.options = options

    @abstractmethod
    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Begin a run.

        Args:
            data: Interactions and semantic vectors.
            dim: Width ``d`` of the backbone's collaborative embeddings.
            seed: Draws the fuser's own initial parameters, from a generator of its own.
            device: Torch device of the run.
        """

    def check(self, backbone: Backbone | type[Backbone], name: str = "this fuser", of: str = "this backbone") -> None:
        """Refuse a backbone that does not offer what this fuser needs, before any training.

        Raises:
            FusionError: Says what is missing.
        """
        missing = sorted(self.needs - backbone.accepts)
        if missing:
            words: dict[Capability, str] = {
                "input": "a widened input",
                "loss": "a further loss on its embeddings",
                "embeddings": "a hand in its embeddings before they are propagated",
                "propagation": "embeddings that tell of their neighbours (propagation)",
                "ranking": "a ranking loss in place of its own",
                "served": "a word on the embeddings that are served",
            }
            raise FusionError(
                f"fuser {name!r} needs {' and '.join(words[m] for m in missing)}, which backbone {of!r} does not offer "
                "as it is configured",
                hint="choose another pair of [fuser] use and [backbone] use, or another [backbone] loss, similarity or "
                "layers",
            )
