"""No fusion: the backbone alone, the baseline of every ablation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.contracts import Fuser, Fusion, Options

if TYPE_CHECKING:
    from enhancer.contracts import Context, TrainingData


class NoFusionOptions(Options):
    """``[fuser] use = "none"``: there is nothing to choose."""


class NoFusion(Fuser):
    """Ignores the semantic vectors; none have to exist."""

    options_class = NoFusionOptions
    uses_semantics = False

    def __init__(self, options: NoFusionOptions, context: Context) -> None:
        del context
        self.options = options

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Begin a run."""
        del data, dim, seed, device
        return Fusion()
