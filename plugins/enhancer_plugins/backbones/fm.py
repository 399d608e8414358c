"""Factorisation machine, for ranking and for click-through rates.

Rendle 2010, "Factorization Machines", ICDM, eq. 1; trained by BPR (Rendle et al. 2009), or by log loss over labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from enhancer.errors import ConfigError
from enhancer_plugins.training.backbone import TrainedBackbone, TrainingOptions

if TYPE_CHECKING:
    from enhancer.contracts import Context, Fuser, TrainingData
    from enhancer.contracts.backbone import Material
    from enhancer_plugins.training.model import RankingModel, Recipe


class FMOptions(TrainingOptions):
    """``[backbone] use = "fm"``."""

    loss: Literal["bpr", "softmax", "log"] = "bpr"
    """What ranks: pairs of items (bpr), each positive among many negatives (softmax); or log, which tells good
    interactions from others by ``[data.columns] label``, so that the sigmoid of a score is a probability."""
    field_learning_rate: float = Field(default=5e-4, gt=0)
    """Step size for what belongs to dense fields and side features: every step moves them, but only some of the ids."""
    regularisation: float = Field(default=1e-2, ge=0)
    """Weight of the L2 penalty on the factors and weights of the fields that a step draws; by log loss 0.03."""
    init_std: float = Field(default=0.03, gt=0)
    """Standard deviation of the initial factors."""
    eval_every: int = Field(default=5, ge=1)
    """Epochs between validations; by log loss 1, as it is at its best after some ten of them."""

    @model_validator(mode="before")
    @classmethod
    def _by_loss(cls, data: Any) -> Any:
        """Defaults that depend on the loss."""
        if isinstance(data, dict) and data.get("loss") == "log":
            return {"regularisation": 3e-2, "eval_every": 1} | data
        return data

    def without_effect(self) -> dict[str, str]:
        """As of every loss; a cosine is refused with any, in words of its own."""
        found = super().without_effect()
        found.pop("similarity", None)
        return found


class FM(TrainedBackbone):
    """A factorisation machine over user id, item id, side features and, with a fuser that widens the input, vectors."""

    options_class = FMOptions
    options: FMOptions

    def __init__(self, options: FMOptions, context: Context) -> None:
        super().__init__(options, context)
        labels: tuple[Material, ...] = ("labels",) if options.loss == "log" else ()
        self.takes = frozenset({"features", *labels})
        if labels and options.draws == "users":
            raise ConfigError(
                "[backbone] draws = 'users' does not go with loss = 'log', which learns from every label alike",
                hint="take draws out, or set loss = 'bpr'",
            )
        if options.similarity == "cosine":
            raise ConfigError(
                "[backbone] similarity = 'cosine' is not for a factorisation machine: its linear terms have no angle",
                hint="set similarity = 'dot', or use = 'lightgcn'",
            )

    def model(self, recipe: Recipe, data: TrainingData, fuser: Fuser, seed: int) -> RankingModel:
        """The model of one run."""
        from enhancer_plugins.backbones.factorisation.click_model import ClickModel
        from enhancer_plugins.backbones.factorisation.model import FMModel

        model = ClickModel if self.options.loss == "log" else FMModel
        return model(recipe, data, fuser, seed=seed, field_rate=self.options.field_learning_rate)
