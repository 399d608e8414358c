"""The outcome of a hyper-parameter search: trials and the best options of one arm."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.evaluation.running.arms import Arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training run of a search."""

    options: Mapping[str, Mapping[str, Any]]
    """The options tried, by ``backbone`` or ``fuser`` and then by name."""
    value: float | None
    """The first metric on the validation part; None if training failed."""
    seconds: float
    """Wall time of training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Trials of one arm, and the arm with the best options."""

    arm: Arm
    """The arm with the best options."""
    trials: list[Trial] = field(default_factory=list)
    """In the order of the search; the first one is the arm as configured."""
    sign: int = 1
    """1 if a higher metric is better, -1 if a lower one is."""

    @property
    def best(self) -> Trial:
        """The trial whose options are used: the best on validation, the earliest among equals."""
        return max(self.trials, key=lambda trial: -math.inf if trial.value is None else self.sign * trial.value)

    def to_json(self) -> dict[str, Any]:
        """Return the best options, the validation metric before and after the search, and every trial."""
        return {
            "best": {part: dict(values) for part, values in self.best.options.items()},
            "validation": self.best.value,
            "configured": self.trials[0].value,
            "trials": [
                {"options": {p: dict(v) for p, v in t.options.items()}, "validation": t.value, "seconds": t.seconds}
                for t in self.trials
            ],
        }
