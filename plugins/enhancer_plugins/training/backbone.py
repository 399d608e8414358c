"""Base class and options of backbones that are trained in epochs."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import Field

from enhancer.contracts import Backbone, Options
from enhancer.contracts.options import refuse_without_effect

if TYPE_CHECKING:
    from enhancer.contracts import Context, Fitted, Fuser, Monitor, TrainingData
    from enhancer_plugins.training.model import RankingModel, Recipe

_LOSSES_WITH = {
    "negatives": ("softmax",),
    "in_batch": ("softmax",),
    "temperature": ("softmax", "multinomial"),
    "similarity": ("softmax", "multinomial"),
}
"""Losses that use each of these options."""
_NEUTRAL = (None, False, "dot")
"""Values of these options that have the same meaning for every loss."""


class TrainingOptions(Options):
    """Options of any backbone that is trained in epochs."""

    dim: int = Field(default=64, ge=1)
    """Length of an embedding."""
    epochs: int = Field(default=300, ge=0)
    """Maximum number of epochs."""
    loss: str = "bpr"
    """Ranking loss: pairs of items (bpr), each positive against many negatives (softmax), or each positive against all
    items (multinomial). A backbone may offer some of them only."""
    negatives: int = Field(default=256, ge=1)
    """For softmax: items sampled uniformly per step, shared by its users."""
    in_batch: bool = False
    """For softmax: whether the positives of the step's other interactions are negatives, too."""
    temperature: float | None = Field(default=None, gt=0)
    """For softmax and multinomial: divisor of the scores; by default 0.2 for cosines and 1 for inner products."""
    similarity: Literal["dot", "cosine"] = "dot"
    """For softmax and multinomial: score function. With cosine, served rows have unit length."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Step size of Adam."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the step size is constant, or falls to zero over ``epochs`` along half a cosine (Loshchilov & Hutter
    2017, eq. 5, without restarts)."""
    draws: Literal["interactions", "users"] | None = None
    """Sampling of an epoch: each interaction once, or as many uniform draws of a user with one of their items, as in
    the code of He et al. 2020 (LightGCN); users with few interactions then weigh as much as others. By default users
    for BPR, and interactions for a softmax and for a fuser with its own ranking loss."""
    regularisation: float = Field(default=1e-3, ge=0)
    """Weight of the L2 penalty on the embeddings of a step."""
    batch_size: int | None = Field(default=None, ge=1)
    """Interactions per step; by default a fortieth of all, but at least 512; for multinomial, all of them."""
    eval_every: int = Field(default=5, ge=1)
    """Epochs between validations."""
    patience: int = Field(default=6, ge=1)
    """Validations without improvement after which training stops."""
    flat_tolerance: float = Field(default=1e-4, ge=0)
    """Relative decrease of the mean training loss from 50 epochs to the next 50 below which training stops, with or
    without validation; 0 to train on."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the initial embeddings."""
    device: str = "auto"
    """auto, cpu, cuda or another torch device."""
    engine: Literal["auto", "numba", "torch"] = "auto"
    """numba (kernels for the CPU), torch (the reference, and the choice for a GPU), or auto: the faster one."""

    def in_effect(self, name: str) -> Any:
        """Return the value of an option with defaults that depend on the loss; None if the loss does not use it."""
        if self.loss not in _LOSSES_WITH.get(name, (self.loss,)):
            return None
        if name == "temperature" and self.temperature is None:
            return 0.2 if self.similarity == "cosine" else 1.0
        return super().in_effect(name)

    def without_effect(self) -> dict[str, str]:
        """Return options that were set although the loss does not use them, with the reason."""
        offered = get_args(type(self).model_fields["loss"].annotation)
        found = {}
        for name, losses in _LOSSES_WITH.items():
            if self.loss in losses or name not in self.model_fields_set or getattr(self, name) in _NEUTRAL:
                continue
            using = " or ".join(repr(loss) for loss in losses if not offered or loss in offered)
            found[name] = f"requires loss = {using}, but loss is {self.loss!r}"
        return found


class TrainedBackbone(Backbone):
    """Backbone whose model is trained by :func:`enhancer_plugins.training.loop.train`.

    A subclass sets ``options_class`` to a subclass of :class:`TrainingOptions` and implements :meth:`model`.
    """

    options_class: ClassVar[type[Options]] = TrainingOptions
    accepts = frozenset({"input", "loss", "served"})
    memory_hint = "lower [backbone] dim, or choose another [backbone] use"
    options: TrainingOptions

    def __init__(self, options: TrainingOptions, context: Context) -> None:
        super().__init__(options, context)
        refuse_without_effect(options, where="[backbone]")
        if options.similarity == "cosine":  # widening columns would change the length that embeddings are scaled to
            self.accepts = self.accepts - {"input"}

    def resolved(self, data: TrainingData) -> TrainingOptions:
        """Return the options with those replaced by numbers that follow from the data."""
        del data
        return self.options

    @abstractmethod
    def model(self, recipe: Recipe, data: TrainingData, fuser: Fuser, seed: int) -> RankingModel:
        """Return the untrained model of one run."""

    def memory(self, data: TrainingData) -> int:
        """Estimate the peak memory of :meth:`fit`, in bytes."""
        rows = data.n_users + data.n_items
        return 4 * rows * (12 * (self.options.dim + 1) + 8) + 64 * len(data.users)

    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Train the model of :meth:`model` with validation, early stopping and checkpoints."""
        from enhancer_plugins.training import loop, run
        from enhancer_plugins.training.model import Recipe, SoftmaxConfig

        own = self.resolved(data)
        softmax, over_all_items = None, own.loss == "multinomial"
        if own.loss in {"softmax", "multinomial"}:
            softmax = SoftmaxConfig(
                None if over_all_items else own.negatives,
                own.in_batch and not over_all_items,
                own.in_effect("temperature"),
                own.similarity,
            )
        recipe = Recipe(
            own.dim,
            own.learning_rate,
            own.regularisation,
            own.batch_size or (len(data.users) if over_all_items else None),
            own.init_std,
            own.device,
            own.engine,
            softmax,
            own.epochs if own.schedule == "cosine" else None,
            self._draws_by_user(fuser),
        )
        model = self.model(recipe, data, fuser, seed)
        schedule = loop.Schedule(own.epochs, own.eval_every, own.patience, loop.Flatness(tolerance=own.flat_tolerance))
        identity = run.identity(self, data, fuser, seed) if monitor.checkpoint else ""
        try:
            outcome = loop.train(
                model, schedule, monitor, identity=identity, where=self.display_name, starts=model.starts()
            )
        finally:
            model.close()
        return model.fitted(outcome, monitor)

    def _draws_by_user(self, fuser: Fuser) -> bool:
        by_default = self.options.loss == "bpr" and "ranking" not in fuser.needs
        return by_default if self.options.draws is None else self.options.draws == "users"
