"""LightGCN: collaborative filtering by neighbourhood averaging.

He et al. 2020, "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
https://arxiv.org/abs/2002.02126.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from enhancer.contracts import Backbone, Options
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from enhancer.contracts import Context, Fitted, Fuser, Monitor, TrainingData


class LightGCNOptions(Options):
    """``[backbone] use = "lightgcn"``."""

    dim: int = Field(default=64, ge=1)
    """Length of an embedding."""
    layers: int = Field(default=3, ge=0)
    """Graph convolutions; 0 is matrix factorisation."""
    layer_weights: list[float] | None = None
    """Weight of each layer's embeddings, the input's first; by default 1 / (layers + 1) each (eq. 4)."""
    epochs: int = Field(default=200, ge=0)
    """Epochs at most."""
    learning_rate: float = Field(default=2e-2, gt=0)
    """Step size of Adam."""
    regularisation: float = Field(default=1e-3, ge=0)
    """Weight of the L2 penalty on the embeddings that a step draws, before propagation (eq. 15)."""
    batch_size: int | None = Field(default=None, ge=1)
    """Interactions a step; by default a tenth of them all, between 512 and 8192."""
    eval_every: int = Field(default=5, ge=1)
    """Epochs between validations."""
    patience: int = Field(default=4, ge=1)
    """Validations without a new best after which training stops."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the initial embeddings."""
    device: str = "auto"
    """auto, cpu, cuda or another torch device."""


class LightGCN(Backbone):
    """Embeddings of users and items, averaged over their neighbours in the interaction graph, trained by BPR."""

    options_class = LightGCNOptions
    accepts = frozenset({"input", "loss"})

    def __init__(self, options: LightGCNOptions, context: Context) -> None:
        del context
        if options.layer_weights is not None and len(options.layer_weights) != options.layers + 1:
            raise ConfigError(
                f"[backbone] layer_weights has {len(options.layer_weights)} numbers for {options.layers} layers",
                hint=f"give {options.layers + 1}: one for the input and one for each layer",
            )
        self.options = options

    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Train (see :class:`~enhancer.contracts.Backbone`).

        Raises:
            DataError: There is nothing to train on.
            FusionError: The fuser needs what is not there.
        """
        from enhancer_plugins.backbones.lightgcn_model import LightGCNModel
        from enhancer_plugins.training import loop, run
        from enhancer_plugins.training.model import Recipe

        fuser.check(self)
        run.check_data(data, fuser)
        own = self.options
        weights = own.layer_weights or [1 / (own.layers + 1)] * (own.layers + 1)
        recipe = Recipe(own.dim, own.learning_rate, own.regularisation, own.batch_size, own.init_std, own.device)
        model = LightGCNModel(recipe, weights, data, fuser, seed=seed)
        schedule = loop.Schedule(own.epochs, own.eval_every, own.patience)
        name = run.identity(self, own, data, fuser, seed) if monitor.checkpoint else ""
        return model.fitted(loop.train(model, schedule, monitor, identity=name))
