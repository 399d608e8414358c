"""Fusers: plugins that add semantic vectors to a backbone.

A :class:`Fuser` is the configured plugin and declares what it needs of a backbone. For each training run it builds a
:class:`Fusion`, which holds the trainable parameters of that run. The methods that a fusion overrides determine the
needs:

====================================  ====================
overridden method                     need
====================================  ====================
:meth:`Fusion.inputs`                 ``"input"``
:meth:`Fusion.loss`                   ``"loss"``
:meth:`Fusion.embeddings`             ``"embeddings"``
:meth:`Fusion.ranking_loss`           ``"ranking"``
:meth:`Fusion.settle`                 ``"served"``
:meth:`Fusion.place`                  none
:meth:`Fusion.weigh`                  none
:meth:`Fusion.trust`                  none
====================================  ====================

A fuser that trains on final embeddings of neighbours needs ``"propagation"`` as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from enhancer.contracts.options import Context, Options
from enhancer.errors import DataError, FusionError, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import torch
    from numpy.typing import NDArray

    from enhancer.contracts.placement import Placement
    from enhancer.contracts.record import Kind
    from enhancer.contracts.training import Capability, TrainingData

_NEED_OF: dict[str, Capability] = {
    "inputs": "input",
    "loss": "loss",
    "embeddings": "embeddings",
    "ranking_loss": "ranking",
    "settle": "served",
}
"""Need that overriding each method of :class:`Fusion` implies."""

_DESCRIPTION: dict[Capability, str] = {
    "input": "a widened input",
    "loss": "a further loss on its embeddings",
    "embeddings": "replacing its embeddings before they are propagated",
    "propagation": "embeddings that depend on a node's neighbours (propagation)",
    "ranking": "a ranking loss in place of its own",
    "served": "adjusting the served embeddings",
}

_NO_VECTORS = {
    "user": 'set [prompts.user] source = "pool", which needs item vectors only, or [fuser] use = "none"',
    "item": 'run `enhancer generate` first, or set [fuser] use = "none"',
}


class AcceptsFusers(Protocol):
    """Part of a backbone that :meth:`Fuser.check` uses."""

    @property
    def accepts(self) -> frozenset[Capability]:
        """Extension points offered to fusers."""

    @property
    def options_class(self) -> type[Options]:
        """Class of the backbone's options."""

    @property
    def display_name(self) -> str:
        """Name for error messages."""


class Judge(Protocol):
    """Judges rows of entities that a map has not seen, by validation."""

    def __call__(self, rows: NDArray[np.int64], placed: NDArray[np.float32]) -> float:
        """Return the validation metric of some entities ranked among themselves, higher is better.

        Args:
            rows: int64 ``[r]``: row numbers of the entities.
            placed: float32 ``[r, d]``: their rows, as a placement would return them.
        """


@dataclass(frozen=True, eq=False)
class WideInput:
    """Columns beside the backbone's own embeddings, ``[e; s]``."""

    users: torch.Tensor
    """float32 ``[n_users, w]``."""
    items: torch.Tensor
    """float32 ``[n_items, w]``."""
    constant: bool
    """Whether the columns stay the same during the run, so that results that depend on them alone can be reused."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """Normal prior of embeddings, given their vectors."""

    mean: NDArray[np.float32]
    """float32 ``[n, d]``: expected embedding of each entity; zero for one without a vector."""
    strength: NDArray[np.float32]
    """float32 ``[n]``: weight of the squared distance from the mean, as a multiple of the backbone's L2 penalty; 1 for
    an entity without a vector."""


@dataclass(frozen=True, eq=False)
class TrainingStep:
    """One training step as a fuser's loss sees it."""

    users: torch.Tensor
    """int64 ``[b]``: row numbers of the step's users."""
    positives: torch.Tensor
    """int64 ``[b]``: a positive item of each."""
    negatives: torch.Tensor
    """int64 ``[m]``: sampled items; empty if the backbone's loss takes none."""
    user_embeddings: torch.Tensor
    """float32 ``[n_users, d]``: final collaborative embeddings of all users, with gradient."""
    item_embeddings: torch.Tensor
    """float32 ``[n_items, d]``: final collaborative embeddings of all items, with gradient."""


Batch = TrainingStep
"""Former name of :class:`TrainingStep`."""


class Fusion:
    """The part of a fuser that belongs to one training run."""

    learning_rate: float | None = None
    """Step size for its parameters; None for the backbone's."""
    similarity: Literal["dot", "cosine"] = "dot"
    """Score function. With ``"cosine"`` (which needs ``"ranking"``) the backbone serves rows of unit length."""

    def parameters(self) -> Iterable[torch.Tensor]:
        """Return the parameters that the optimiser trains together with the backbone's."""
        return ()

    def inputs(self) -> WideInput | None:
        """Return columns that widen the backbone's input. Called once if they are constant, else at every step."""
        return None

    def inputs_of(self, users: torch.Tensor, items: torch.Tensor) -> WideInput | None:
        """Return :meth:`inputs` of some users and items only, for a backbone whose step draws some rows.

        Override it for trained columns: the default computes the columns of all rows.

        Args:
            users: int64 ``[m]``: row numbers of users.
            items: int64 ``[k]``: row numbers of items.

        Returns:
            Columns ``[m, w]`` and ``[k, w]``.
        """
        wide = self.inputs()
        if wide is None:
            return None
        return WideInput(wide.users.index_select(0, users), wide.items.index_select(0, items), wide.constant)

    def loss(self, step: TrainingStep) -> torch.Tensor | None:
        """Return a weighted scalar to add to the backbone's loss, or None."""
        del step
        return None

    def embeddings(
        self, users: torch.Tensor, items: torch.Tensor, *, training: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the embeddings to propagate in place of the backbone's own. Called at every step.

        Args:
            users: float32 ``[n_users, d]``: the backbone's own, with gradient.
            items: float32 ``[n_items, d]``: the backbone's own, with gradient.
            training: True in a training step, in which nodes may be masked; False when factors are computed.

        Returns:
            Two tensors of the same shapes.
        """
        del training
        return users, items

    def ranking_loss(self, step: TrainingStep) -> torch.Tensor | None:
        """Return a scalar in place of the backbone's ranking loss, or None to keep the backbone's."""
        del step
        return None

    def settle(self, kind: Kind, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Adjust trained embeddings before they are validated or served. Training continues from the unadjusted ones.

        Args:
            kind: ``"user"`` or ``"item"``.
            embeddings: float32 ``[n, d]``: final collaborative embeddings of all entities of the kind. Not to be
                modified.

        Returns:
            float32 ``[n, d]``.
        """
        del kind
        return embeddings

    def expect(self, kind: Kind, embeddings: NDArray[np.float32]) -> Expectation | None:
        """Return the prior of embeddings, for a backbone that solves for them given those of the other kind.

        Such a backbone calls it between its rounds, penalises the distance from the expected embeddings instead of
        that from zero, and then does not call :meth:`settle` for this kind. It must work without it, so it is no need.

        Args:
            kind: ``"user"`` or ``"item"``.
            embeddings: float32 ``[m, d]``: current embeddings of the entities with a training interaction, in row
                order. In the first call, they were solved for without a prior. Not to be modified.

        Returns:
            The prior of all entities; None without a prior, and it is not asked again for this kind.
        """
        del kind, embeddings
        return None

    def left_out(
        self, kind: Kind, embeddings: NDArray[np.float32], rows: NDArray[np.integer]
    ) -> NDArray[np.float32] | None:
        """Return the rows at which trained entities would be placed by maps that have not seen them.

        Backbones compare them with trained rows on validation to calibrate :meth:`place`.

        Args:
            kind: ``"user"`` or ``"item"``.
            embeddings: As for :meth:`place`.
            rows: int ``[r]``: row numbers of trained entities with a vector.

        Returns:
            float32 ``[r, d]``; None if this fusion cannot tell.
        """
        del kind, embeddings, rows
        return None

    def place(self, kind: Kind, embeddings: NDArray[np.float32]) -> Placement | None:
        """Return a map from the semantic vector of an unseen entity to its row.

        Args:
            kind: ``"user"`` or ``"item"``.
            embeddings: float32 ``[m, d]``: final collaborative embeddings of the entities with a training interaction,
                in row order, before :meth:`settle`. Not to be modified.

        Returns:
            A map from ``ds`` to ``d`` columns. From ``ds`` to ``w`` columns for a fusion that widens the input: the
            backbone puts the result beside a mean embedding. None if this fusion cannot place unseen entities.
        """
        del kind, embeddings
        return None

    def weigh(
        self, kind: Kind, embeddings: NDArray[np.float32], folds: Sequence[NDArray[np.int64]], judge: Judge
    ) -> Placement | None:
        """Choose by validation how :meth:`place` weighs what it reads, and return it anew.

        Later calls of :meth:`left_out` follow the choice.

        Args:
            kind: ``"user"`` or ``"item"``.
            embeddings: As for :meth:`place`.
            folds: int ``[r]`` each: row numbers of trained entities with a vector; no row is in two folds.
            judge: Returns the validation metric of such rows.

        Returns:
            The placement; None if there is nothing to choose, or nothing is better than what is.
        """
        del kind, embeddings, folds, judge
        return None

    def trust(self, kind: Kind) -> NDArray[np.float32] | None:
        """Return how far from the mean each unseen entity is placed, as a share of where :meth:`place` has it.

        Called after :meth:`place`, for entities whose vectors are known to be uncertain.

        Returns:
            float32 ``[n]``; None to place all of them as they are.
        """
        del kind
        return None

    def state(self) -> dict[str, torch.Tensor]:
        """Return all tensors that a checkpoint must keep, by name."""
        return {}

    def load_state(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the tensors of :meth:`state`."""
        del state


class Fuser(ABC):
    """A way of adding semantic vectors to a backbone.

    A plugin implements :meth:`build`. Backbones call :meth:`build_checked`.
    """

    options_class: ClassVar[type[Options]] = Options
    needs: frozenset[Capability] = frozenset()
    """Extension points that the backbone must offer; may depend on the options. They must match the methods that the
    built :class:`Fusion` overrides."""
    uses_semantics: ClassVar[bool] = True
    """Whether it uses semantic vectors. If False, none have to exist."""
    ignores_seed: ClassVar[bool] = False
    """Whether what it builds is the same for every seed; see :meth:`enhancer.contracts.Backbone.ignores_seed`."""
    carries_semantics: ClassVar[bool] = False
    """Whether the served factors contain semantic columns."""
    plugin_name: str = ""
    """Name that the plugin is registered under; set by the plugin host."""

    options: Options
    """Options of this instance. Finished runs and hyper-parameter searches are identified by them."""

    def __init__(self, options: Options, context: Context) -> None:
        """Store the options. A constructor that overrides this one must do so too, and must load nothing heavy."""
        del context
        self.options = options

    @property
    def display_name(self) -> str:
        """Name for error messages, such as ``fuser 'align'``."""
        return f"fuser {self.plugin_name or type(self).__name__!r}"

    @abstractmethod
    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Build the fusion of one training run.

        Args:
            data: Interactions and semantic vectors.
            dim: Width ``d`` of the backbone's collaborative embeddings.
            seed: Seed of the fusion's initial parameters, for a generator of its own.
            device: Torch device of the run; ``"cpu"`` for a backbone without torch.
        """

    def build_checked(self, data: TrainingData, dim: int, *, seed: int, device: str = "cpu") -> Fusion:
        """Call :meth:`build` and check that the declared :attr:`needs` match the methods that the fusion overrides.

        Args:
            data: Interactions and semantic vectors.
            dim: Width ``d`` of the backbone's collaborative embeddings.
            seed: Seed of the fusion's initial parameters.
            device: Torch device of the run; ``"cpu"`` for a backbone without torch.

        Raises:
            PluginError: A need is missing, or is declared and not used.
        """
        fusion = self.build(data, dim, seed=seed, device=device)
        for method, need in _NEED_OF.items():
            overridden = getattr(getattr(fusion, method), "__func__", None) is not getattr(Fusion, method)
            if overridden and need not in self.needs:
                raise PluginError(
                    f"{self.display_name}: its fusion overrides {method}(), but needs does not contain {need!r}",
                    hint=f"add {need!r} to needs, or backbones will ignore {method}()",
                )
            if need in self.needs and not overridden:
                raise PluginError(
                    f"{self.display_name}: needs contains {need!r}, but its fusion does not override {method}()",
                    hint=f"override {method}(), or remove {need!r} from needs",
                )
        return fusion

    def check(self, backbone: AcceptsFusers, name: str | None = None, of: str | None = None) -> None:
        """Check that a backbone offers what this fuser needs.

        Args:
            backbone: A backbone with its options.
            name: Name of the fuser in messages, by default its own.
            of: Name of the backbone in messages, by default its own.

        Raises:
            FusionError: The backbone does not offer an extension point that the fuser needs.
        """
        missing = sorted(self.needs - backbone.accepts)
        if not missing:
            return
        fuser = self.display_name if name is None else f"fuser {name!r}"
        other = backbone.display_name if of is None else f"backbone {of!r}"
        options = backbone.options_class.model_fields
        deciding = [option for option in ("loss", "similarity", "layers", "scores") if option in options]
        further = f", or another [backbone] {' or '.join(deciding)}" if deciding else ""
        error = FusionError(
            f"{fuser} needs {' and '.join(_DESCRIPTION[need] for need in missing)}, which {other} does not offer "
            "with its current options",
            hint=f"choose another pair of [fuser] use and [backbone] use{further}",
        )
        error.accepts = (backbone.accepts,)
        raise error

    def check_vectors(self, data: TrainingData) -> None:
        """Check that the data have the semantic vectors that this fuser uses.

        Raises:
            FusionError: There are no vectors.
            DataError: Vectors have a wrong shape, or contain NaN or infinite values.
        """
        if not self.uses_semantics:
            return
        import numpy as np

        for kind, vectors, n in (("user", data.user_vectors, data.n_users), ("item", data.item_vectors, data.n_items)):
            if vectors is None:
                raise FusionError(
                    f"{self.display_name} needs {kind} vectors and there are none", hint=_NO_VECTORS[kind]
                )
            if vectors.ndim != 2 or len(vectors) != n:
                raise DataError(f"{kind} vectors have shape {list(vectors.shape)}, expected [{n}, ds]")
            if not np.isfinite(vectors).all():
                raise DataError(f"{kind} vectors contain NaN or infinite values")
