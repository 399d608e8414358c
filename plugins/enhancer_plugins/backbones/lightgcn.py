"""LightGCN: collaborative filtering by neighbourhood averaging.

He et al. 2020, "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
https://arxiv.org/abs/2002.02126.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from enhancer.errors import ConfigError
from enhancer_plugins.training.backbone import TrainedBackbone, TrainingOptions

if TYPE_CHECKING:
    from enhancer.contracts import Context, Fuser, TrainingData
    from enhancer_plugins.training.model import RankingModel, Recipe


class LightGCNOptions(TrainingOptions):
    """``[backbone] use = "lightgcn"``."""

    loss: Literal["bpr", "softmax", "multinomial"] = "bpr"
    """What ranks: pairs of items (bpr), each positive among many negatives (softmax), or each among all items: the
    multinomial likelihood of Liang et al. 2018, *Variational Autoencoders for Collaborative Filtering*, eq. 2."""
    layers: int = Field(default=3, ge=0)
    """Graph convolutions; 0 is matrix factorisation."""
    layer_weights: Literal["mean", "sum"] | list[float] = "mean"
    """How layers are combined (eq. 4): mean, 1 / (layers + 1) each; sum, 1 each, as in RLMRec's code; or one number for
    the input and one for each layer."""
    regularisation: float = Field(default=1e-3, ge=0)
    """Weight of the L2 penalty on the embeddings that a step draws, before propagation (eq. 15). For multinomial, the
    precision of their normal prior, in the mean over embeddings; 0.9 by default."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Step size of Adam; 0.08 by default for multinomial."""
    epochs: int = Field(default=300, ge=0)
    """Epochs at most; 1500 by default for multinomial, of which one is a single step."""
    eval_every: int = Field(default=5, ge=1)
    """Epochs between validations; 20 by default for multinomial."""
    precision: Literal["auto", "single", "half"] = "auto"
    """How kernels fetch rows while propagating: as float32 (single), as bfloat16 (half, where ``dim`` is even; sums and
    what is trained stay float32), or auto: half where the rows take more than eight megabytes, and waiting for memory
    decides."""

    @model_validator(mode="before")
    @classmethod
    def _by_loss(cls, data: Any) -> Any:
        """Defaults that depend on the loss: an epoch of the multinomial is one step over everything."""
        if isinstance(data, dict) and data.get("loss") == "multinomial":
            return {"learning_rate": 8e-2, "regularisation": 0.9, "epochs": 1500, "eval_every": 20} | data
        return data


class LightGCN(TrainedBackbone):
    """Embeddings of users and items, averaged over their neighbours in the interaction graph, trained to rank."""

    options_class = LightGCNOptions
    accepts = TrainedBackbone.accepts | {"embeddings", "propagation", "ranking"}
    options: LightGCNOptions

    def __init__(self, options: LightGCNOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.loss == "multinomial":  # its steps over everything are not what another ranking loss is made for
            self.accepts = self.accepts - {"ranking"}
        weights = options.layer_weights
        if isinstance(weights, list) and len(weights) != options.layers + 1:
            raise ConfigError(
                f"[backbone] layer_weights has {len(weights)} numbers for {options.layers} layers",
                hint=f"give {options.layers + 1}: one for the input and one for each layer",
            )
        if isinstance(weights, list) and not any(weights):
            raise ConfigError(
                "[backbone] layer_weights are all zero: every score would be nothing, and nothing would be trained",
                hint="give at least one layer a weight, or take layer_weights out",
            )
        if not any(self._weights()[1:]):  # of a node there is its own embedding alone
            self.accepts = self.accepts - {"propagation"}

    def model(self, recipe: Recipe, data: TrainingData, fuser: Fuser, seed: int) -> RankingModel:
        """The model of one run."""
        from enhancer_plugins.backbones.lightgcn_model import LightGCNModel

        return LightGCNModel(recipe, self._weights(), data, fuser, seed=seed, precision=self.options.precision)

    def _weights(self) -> list[float]:
        """Of each layer, the input's first."""
        count, weights = self.options.layers + 1, self.options.layer_weights
        return weights if isinstance(weights, list) else [1.0 if weights == "sum" else 1 / count] * count
