"""What backbones trained by this kit have in common: the options of training, and the way through a run."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import Field

from enhancer.contracts import Backbone, Options
from enhancer.contracts.options import refuse_without_effect

if TYPE_CHECKING:
    from enhancer.contracts import Context, Fitted, Fuser, Monitor, TrainingData
    from enhancer_plugins.training.model import RankingModel, Recipe

_LOSSES_OF = {
    "negatives": ("softmax",),
    "in_batch": ("softmax",),
    "temperature": ("softmax", "multinomial"),
    "similarity": ("softmax", "multinomial"),
}
"""Options that are of some losses alone, and of which."""
_SAYING_NOTHING = (None, False, "dot")
"""Values of these that hold for every loss: whoever sets one is not ignored."""


class TrainingOptions(Options):
    """How a model is trained, whatever it is."""

    dim: int = Field(default=64, ge=1)
    """Length of an embedding."""
    epochs: int = Field(default=300, ge=0)
    """Epochs at most."""
    loss: str = "bpr"
    """What ranks: pairs of items (bpr), each positive among many negatives (softmax), or each among all items
    (multinomial). A subclass says which of them it has."""
    negatives: int = Field(default=256, ge=1)
    """Of softmax: items drawn evenly for a step, against all its users."""
    in_batch: bool = False
    """Of softmax: whether the positives of a step's other interactions are negatives as well."""
    temperature: float | None = Field(default=None, gt=0)
    """Of a softmax: divides the scores; by default 0.2 for cosines and 1 for inner products."""
    similarity: Literal["dot", "cosine"] = "dot"
    """Of a softmax: what scores are, in training and in serving (then rows of unit length are served)."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Step size of Adam."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Whether the step size stays, or falls to nothing over ``epochs`` along half a cosine (Loshchilov & Hutter 2017,
    eq. 5, without restarts)."""
    draws: Literal["interactions", "users"] | None = None
    """What an epoch goes through: each interaction once, or as many draws of a user, evenly, with one of their items
    (then users with few interactions weigh as much as others), as in the code of He et al. 2020 (LightGCN). By default
    users for BPR; interactions for a softmax and for a fuser that ranks in its own way."""
    regularisation: float = Field(default=1e-3, ge=0)
    """Weight of the L2 penalty on what a step draws."""
    batch_size: int | None = Field(default=None, ge=1)
    """Interactions a step; by default a fortieth of them all, 512 at least, and all of them for multinomial."""
    eval_every: int = Field(default=5, ge=1)
    """Epochs between validations."""
    patience: int = Field(default=6, ge=1)
    """Validations without a new best after which training stops."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the initial embeddings."""
    device: str = "auto"
    """auto, cpu, cuda or another torch device."""
    engine: Literal["auto", "numba", "torch"] = "auto"
    """numba (kernels for the CPU), torch (the reference, and the way on a GPU), or auto: the faster one."""

    def in_effect(self, name: str) -> Any:
        """As the loss has it."""
        if self.loss not in _LOSSES_OF.get(name, (self.loss,)):
            return None
        if name == "temperature" and self.temperature is None:
            return 0.2 if self.similarity == "cosine" else 1.0
        return super().in_effect(name)

    def without_effect(self) -> dict[str, str]:
        """Options of another loss than the one that is trained by."""
        there = get_args(type(self).model_fields["loss"].annotation)
        found = {}
        for name, losses in _LOSSES_OF.items():
            if self.loss in losses or name not in self.model_fields_set or getattr(self, name) in _SAYING_NOTHING:
                continue
            those = " or ".join(repr(loss) for loss in losses if not there or loss in there)
            found[name] = f"goes with loss = {those} alone, and loss is {self.loss!r}"
        return found


class TrainedBackbone(Backbone):
    """A backbone whose model is trained by :func:`enhancer_plugins.training.loop.train`.

    A subclass names its options (a :class:`TrainingOptions`) and makes its model.
    """

    options_class: ClassVar[type[Options]] = TrainingOptions
    accepts = frozenset({"input", "loss", "served"})
    options: TrainingOptions

    def __init__(self, options: TrainingOptions, context: Context) -> None:
        super().__init__(options, context)
        refuse_without_effect(options, where="[backbone]")
        if options.similarity == "cosine":  # columns beside the embeddings would lend them their length
            self.accepts = self.accepts - {"input"}

    @abstractmethod
    def model(self, recipe: Recipe, data: TrainingData, fuser: Fuser, seed: int) -> RankingModel:
        """The model of one run, before its first epoch."""

    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Train the model of :meth:`model` with validation, early stopping and checkpoints."""
        from enhancer_plugins.training import loop, run
        from enhancer_plugins.training.model import Recipe, Softmax

        own = self.options
        softmax, whole = None, own.loss == "multinomial"
        if own.loss in {"softmax", "multinomial"}:
            drawn = None if whole else own.negatives
            softmax = Softmax(drawn, own.in_batch and not whole, own.in_effect("temperature"), own.similarity)
        recipe = Recipe(
            own.dim,
            own.learning_rate,
            own.regularisation,
            own.batch_size or (len(data.users) if whole else None),
            own.init_std,
            own.device,
            own.engine,
            softmax,
            own.epochs if own.schedule == "cosine" else None,
            self._by_user(fuser),
        )
        model = self.model(recipe, data, fuser, seed)
        schedule = loop.Schedule(own.epochs, own.eval_every, own.patience)
        name = run.identity(self, data, fuser, seed) if monitor.checkpoint else ""
        try:
            outcome = loop.train(model, schedule, monitor, identity=name, where=self.display_name)
        finally:
            model.close()
        return model.fitted(outcome)

    def _by_user(self, fuser: Fuser) -> bool:
        """Whether an epoch draws by user."""
        by_default = self.options.loss == "bpr" and "ranking" not in fuser.needs
        return by_default if self.options.draws is None else self.options.draws == "users"
