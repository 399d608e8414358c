"""Factorisation machine, for ranking.

Rendle 2010, "Factorization Machines", ICDM, eq. 1; trained by BPR (Rendle et al. 2009).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from enhancer.contracts import Backbone, Options

if TYPE_CHECKING:
    from enhancer.contracts import Context, Fitted, Fuser, Monitor, TrainingData


class FMOptions(Options):
    """``[backbone] use = "fm"``."""

    dim: int = Field(default=64, ge=1)
    """Length of a factor."""
    epochs: int = Field(default=200, ge=0)
    """Epochs at most."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Step size of Adam."""
    field_learning_rate: float = Field(default=5e-4, gt=0)
    """Step size for what belongs to dense fields: every step moves them, but only some of the ids."""
    regularisation: float = Field(default=1e-2, ge=0)
    """Weight of the L2 penalty on the factors and weights of the fields that a step draws."""
    batch_size: int | None = Field(default=None, ge=1)
    """Interactions a step; by default a tenth of them all, between 512 and 8192."""
    eval_every: int = Field(default=5, ge=1)
    """Epochs between validations."""
    patience: int = Field(default=4, ge=1)
    """Validations without a new best after which training stops."""
    init_std: float = Field(default=0.03, gt=0)
    """Standard deviation of the initial factors."""
    device: str = "auto"
    """auto, cpu, cuda or another torch device."""


class FM(Backbone):
    """A factorisation machine over user id, item id and, with a fuser that widens the input, dense semantic fields."""

    options_class = FMOptions
    accepts = frozenset({"input", "loss"})

    def __init__(self, options: FMOptions, context: Context) -> None:
        del context
        self.options = options

    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Train (see :class:`~enhancer.contracts.Backbone`).

        Raises:
            DataError: There is nothing to train on.
            FusionError: The fuser needs what is not there.
        """
        from enhancer_plugins.backbones.fm_model import FMModel
        from enhancer_plugins.training import loop, run
        from enhancer_plugins.training.model import Recipe

        fuser.check(self)
        run.check_data(data, fuser)
        own = self.options
        recipe = Recipe(own.dim, own.learning_rate, own.regularisation, own.batch_size, own.init_std, own.device)
        model = FMModel(recipe, data, fuser, seed=seed, field_rate=own.field_learning_rate)
        schedule = loop.Schedule(own.epochs, own.eval_every, own.patience)
        name = run.identity(self, own, data, fuser, seed) if monitor.checkpoint else ""
        return model.fitted(loop.train(model, schedule, monitor, identity=name))
