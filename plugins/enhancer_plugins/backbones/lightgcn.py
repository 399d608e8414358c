"""LightGCN: embeddings propagated over the interaction graph.

He et al. 2020, "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
https://arxiv.org/abs/2002.02126.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from enhancer.errors import ConfigError
from enhancer_plugins.training.backbone import TrainedBackbone, TrainingOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.contracts import Context, Fuser, TrainingData
    from enhancer_plugins.training.model import RankingModel, Recipe


class LightGCNOptions(TrainingOptions):
    """``[backbone] use = "lightgcn"``."""

    loss: Literal["bpr", "softmax", "multinomial"] = "bpr"
    """Ranking loss: pairs of items (bpr), each positive against many negatives (softmax), or the multinomial likelihood
    over all items of Liang et al. 2018, *Variational Autoencoders for Collaborative Filtering*, eq. 2."""
    layers: int = Field(default=3, ge=0)
    """Graph convolutions; 0 is matrix factorisation."""
    layer_weights: Literal["mean", "sum"] | list[float] = "mean"
    """Weights of the layers in the final embedding (eq. 4): mean, 1 / (layers + 1) each; sum, 1 each, as in RLMRec's
    code; or a list with one number for the input and one for each layer."""
    regularisation: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"  # type: ignore[assignment]
    """Weight of the L2 penalty on the embeddings that a step draws, before propagation (eq. 15). For multinomial, the
    precision of their normal prior, in the mean over embeddings. By default it follows from the loss and the mean
    number of interactions of a user or item (:func:`default_regularisation`)."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Step size of Adam; 0.12 by default for multinomial."""
    epochs: int = Field(default=300, ge=0)
    """Maximum number of epochs; 1500 by default for multinomial, where an epoch is a single step."""
    eval_every: int = Field(default=5, ge=1)
    """Epochs between validations; 20 by default for multinomial."""
    start: Literal["spectral", "random"] | None = None
    """Initial embeddings: random, or random ones plus the leading singular vectors of the normalised interactions
    (spectral), scaled to the smallest loss, from where the multinomial takes a quarter of the epochs. By default
    spectral for multinomial over inner products, and random otherwise."""
    precision: Literal["auto", "single", "half"] = "auto"
    """Precision in which kernels read rows while propagating: float32 (single), bfloat16 (half, if ``dim`` is even;
    sums and parameters stay float32), or auto: half if the embeddings take more than 8 MB, when memory limits the
    speed."""

    def in_effect(self, name: str) -> Any:
        """Return the value of an option with defaults that depend on the loss; None if the loss does not use it."""
        if name == "start" and self.start is None:
            return "spectral" if self._may_start_spectrally() else "random"
        return super().in_effect(name)

    def without_effect(self) -> dict[str, str]:
        """Return options that were set although the loss does not use them, with the reason."""
        found = super().without_effect()
        if self.start == "spectral" and not self._may_start_spectrally():
            found["start"] = "requires loss = 'multinomial' and similarity = 'dot', whose value determines the scale"
        return found

    def _may_start_spectrally(self) -> bool:
        return self.loss == "multinomial" and self.similarity == "dot"

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_loss(cls, data: Any) -> Any:
        """Apply the defaults of the multinomial loss, whose epoch is one step over all interactions."""
        if isinstance(data, dict) and data.get("loss") == "multinomial":
            return {"learning_rate": 0.12, "epochs": 1500, "eval_every": 20} | data
        return data


def default_regularisation(loss: str, data: TrainingData) -> float:
    """Return the strength of the penalty for the density of the data.

    For multinomial it is 0.9 from thirty interactions per user and item on, and rises to 2 where there are few. The
    other losses draw users and items as often as these occur, and one value suits them all.

    Args:
        loss: The ranking loss.
        data: Training data.
    """
    if loss != "multinomial":
        return 1e-3
    entities = len(np.unique(data.users)) + len(np.unique(data.items))
    mean = 2 * len(data.users) / max(entities, 1)
    return float(f"{np.clip(0.9 * (30 / max(mean, 1)) ** 0.4, 0.9, 2):.2g}")


class LightGCN(TrainedBackbone):
    """Embeddings of users and items, averaged over their neighbours in the interaction graph and trained to rank."""

    options_class = LightGCNOptions
    accepts = TrainedBackbone.accepts | {"embeddings", "propagation", "ranking"}
    candidates: ClassVar[tuple[Mapping[str, object], ...]] = ({"loss": "bpr"}, {"loss": "multinomial"})
    options: LightGCNOptions

    def __init__(self, options: LightGCNOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.loss == "multinomial":  # other ranking losses are not designed for steps over all interactions
            self.accepts = self.accepts - {"ranking"}
        weights = options.layer_weights
        if isinstance(weights, list) and len(weights) != options.layers + 1:
            raise ConfigError(
                f"[backbone] layer_weights has {len(weights)} numbers for {options.layers} layers",
                hint=f"set {options.layers + 1} numbers: one for the input and one for each layer",
            )
        if isinstance(weights, list) and not any(weights):
            raise ConfigError(
                "[backbone] layer_weights are all zero, so that every score would be zero",
                hint="set at least one weight to a non-zero number, or remove layer_weights",
            )
        if not any(self._weights()[1:]):  # final embeddings do not depend on neighbours
            self.accepts = self.accepts - {"propagation"}

    def resolved(self, data: TrainingData) -> LightGCNOptions:
        """Return the options with the penalty for these data."""
        own = self.options
        if own.regularisation != "auto":
            return own
        return own.model_copy(update={"regularisation": default_regularisation(own.loss, data)})

    def model(self, recipe: Recipe, data: TrainingData, fuser: Fuser, seed: int) -> RankingModel:
        """Return the untrained model of one run."""
        from enhancer_plugins.backbones.lightgcn_model import LightGCNModel

        own = self.options
        spectral = own.in_effect("start") == "spectral"
        return LightGCNModel(
            recipe, self._weights(), data, fuser, seed=seed, precision=own.precision, spectral=spectral
        )

    def _weights(self) -> list[float]:
        """Return the weights of the layers, the input first."""
        count, weights = self.options.layers + 1, self.options.layer_weights
        return weights if isinstance(weights, list) else [1.0 if weights == "sum" else 1 / count] * count
