"""Factorisation machine, for ranking and for click-through rates.

Rendle 2010, "Factorization Machines", ICDM, eq. 1; trained by BPR (Rendle et al. 2009), a sampled softmax, or log loss
over labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from enhancer.errors import ConfigError
from enhancer_plugins.training.backbone import TrainedBackbone, TrainingOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts import Context, Fuser, TrainingData
    from enhancer.contracts.training import Material
    from enhancer_plugins.training.model import RankingModel, Recipe


class FMOptions(TrainingOptions):
    """``[backbone] use = "fm"``."""

    loss: Literal["bpr", "softmax", "log"] = "bpr"
    """Loss: pairs of items (bpr), each positive against many negatives (softmax), or log loss over
    ``[data.columns] label`` (log), with which the sigmoid of a score is a probability."""
    field_learning_rate: float = Field(default=5e-4, gt=0)
    """Step size for dense fields and side features, which every step updates; ids are updated in few steps."""
    regularisation: float = Field(default=1e-2, ge=0)
    """Weight of the L2 penalty on the factors and weights of the fields that a step draws; 0.03 by default for log,
    whose weights of ids and side features have fitted priors instead."""
    init_std: float = Field(default=0.03, gt=0)
    """Standard deviation of the initial factors."""
    eval_every: int = Field(default=5, ge=1)
    """Epochs between validations; 1 by default for log, which is at its best after about ten epochs."""

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_loss(cls, data: Any) -> Any:
        """Apply the defaults of log loss."""
        if isinstance(data, dict) and data.get("loss") == "log":
            return {"regularisation": 3e-2, "eval_every": 1} | data
        return data

    def without_effect(self) -> dict[str, str]:
        """Return options that the loss does not use; the constructor of :class:`FM` refuses a cosine itself."""
        found = super().without_effect()
        found.pop("similarity", None)
        return found


class FM(TrainedBackbone):
    """Factorisation machine on user id, item id, side features and, if a fuser widens the input, vectors."""

    options_class = FMOptions
    options: FMOptions
    candidates: ClassVar[tuple[Mapping[str, object], ...]] = ({"loss": "log"}, {"loss": "bpr"})

    def __init__(self, options: FMOptions, context: Context) -> None:
        super().__init__(options, context)
        labels: tuple[Material, ...] = ("labels",) if options.loss == "log" else ()
        self.takes = frozenset({"features", *labels})
        if labels and options.draws == "users":
            raise ConfigError(
                "[backbone] draws = 'users' has no effect with loss = 'log', which uses every label once per epoch",
                hint="remove draws, or set loss = 'bpr'",
            )
        if options.similarity == "cosine":
            raise ConfigError(
                "[backbone] similarity = 'cosine' is not possible for a factorisation machine: it has linear terms",
                hint="set similarity = 'dot', or use = 'lightgcn'",
            )

    def unsuited(self, data: TrainingData) -> str | None:
        """Return that a ranking loss without side features is a matrix factorisation, which others train faster."""
        if self.options.loss == "log" or data.user_features is not None or data.item_features is not None:
            return None
        return "without side features it is a matrix factorisation, and others train those faster"

    def model(self, recipe: Recipe, data: TrainingData, fuser: Fuser, seed: int) -> RankingModel:
        """Return the untrained model of one run."""
        from enhancer_plugins.backbones.factorisation.click_model import ClickModel
        from enhancer_plugins.backbones.factorisation.model import FMModel

        model = ClickModel if self.options.loss == "log" else FMModel
        return model(recipe, data, fuser, seed=seed, field_rate=self.options.field_learning_rate)
