"""No fusion: the backbone alone, the baseline of every ablation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enhancer.contracts import Fuser, Fusion, Options

if TYPE_CHECKING:
    from enhancer.contracts import TrainingData


class NoFusionOptions(Options):
    """``[fuser] use = "none"``. It has no options."""


class NoFusion(Fuser):
    """The backbone without semantic vectors."""

    options_class = NoFusionOptions
    options: NoFusionOptions
    uses_semantics = False
    ignores_seed = True

    def build(self, data: TrainingData, dim: int, *, seed: int, device: str) -> Fusion:
        """Return a fusion that overrides nothing."""
        del data, dim, seed, device
        return Fusion()
