"""The request for one training run, and the record of a finished one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enhancer.config.inputs import Input
    from enhancer.evaluation.measuring.metrics import Scores
    from enhancer.evaluation.measuring.panels import ScoresByStratum
    from enhancer.evaluation.running.arms import Arm

    RunCallback = Callable[[Arm, "ArmRun"], None]
    """Called with an arm and one of its finished runs."""


class RunRequest(NamedTuple):
    """One training run to do."""

    arm: Arm
    seed: int
    trial: int | None = None
    """Number of the search trial; None for a run that is tested. A trial is validated and never tested."""
    ridges: tuple[tuple[Input, ...], ...] = ()
    """Inputs for which a ridge onto the factors of this run is measured on held-out items."""

    @property
    def name(self) -> str:
        """Name of the run, such as ``align/seed0`` or ``align/trial3``."""
        return f"{self.arm.name}/seed{self.seed}" if self.trial is None else f"{self.arm.name}/trial{self.trial}"

    @property
    def tested(self) -> bool:
        """Whether the run is measured on the test part."""
        return self.trial is None


@dataclass(frozen=True, eq=False, kw_only=True)
class ArmRun:
    """One finished training run: an arm trained with one seed."""

    arm: str
    seed: int
    seconds: float
    """Wall time of training."""
    epochs: int
    best_epoch: int
    validation: float | None
    """The first metric on the validation part at the best epoch; None without a validation part or after a failure."""
    history: list[dict[str, float]]
    """One entry per epoch; see :class:`~enhancer.contracts.Fitted`."""
    scores: ScoresByStratum
    """Metrics of each user, by stratum; empty for a search trial."""
    beyond_accuracy: dict[str, float]
    """``coverage``, ``gini`` and ``novelty`` of the recommended lists over all warm items, and the share of held-out
    items in lists over all items, if there are any; empty for a search trial."""
    stopped: str | None = None
    """See :attr:`enhancer.contracts.Fitted.stopped`."""
    groups: tuple[str, ...] = ()
    """Keys of the groups of items that were measured apart; see
    :class:`~enhancer.evaluation.measuring.strata.ItemGroup`."""
    ridges: Mapping[str, Scores] = field(default_factory=dict)
    """Metrics of ridges onto the factors of this run, by name of the content baseline."""

    @property
    def name(self) -> str:
        """Name of the run, such as ``align/seed0``."""
        return f"{self.arm}/seed{self.seed}"


Run = ArmRun
"""Earlier name of :class:`ArmRun`."""
