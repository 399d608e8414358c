"""Counts of one run, as progress and report tell them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enhancer.features.generating.reports import GenerationReport
from enhancer.harness.clock import now

if TYPE_CHECKING:
    from enhancer.harness.calls.spending import Spent
    from enhancer.progress import Detail


@dataclass(slots=True)
class Tally:
    """What a run has counted so far. Nothing in it grows with the catalogue."""

    entities: int = 0
    passed: int = 0
    """Entities that needed no asking."""
    answered: int = 0
    """Entities that have new content, stored or about to be."""
    generated: int = 0
    """Those of them that are stored."""
    handed_on: int = 0
    """Records that wait for their vector or have it."""
    embedded: int = 0
    quarantined: int = 0
    """Entities in quarantine, as the scout's present pass sees them."""
    without_text: int = 0
    """Entities that there is nothing to describe by."""
    pending: int = 0
    """Entities that are out in an offline batch, as the scout's present pass sees them."""
    newly_quarantined: int = 0
    """Those of them that this run put there."""
    started: str = field(default_factory=now)
    began: float = field(default_factory=time.monotonic)

    @property
    def done(self) -> int:
        """Entities that nothing more is to be asked about."""
        return self.passed + self.answered + self.quarantined + self.without_text

    def detail(self, spent: Spent | None) -> dict[str, Detail]:
        """What progress shows beside the count."""
        return {
            "cached": self.passed,
            "generated": self.answered,
            "failed": self.newly_quarantined,
            "tokens": _tokens(spent),
            "cost_usd": _cost(spent),
        }

    def report(self, spent: Spent | None, *, finished: bool) -> GenerationReport:
        """What was done.

        Args:
            spent: What calls came to; None if there were none.
            finished: Whether everything was looked at. Then whoever is neither generated nor in quarantine is cached,
                also those that another process paid for meanwhile.
        """
        cached = self.passed
        if finished:
            cached = self.entities - self.generated - self.quarantined - self.without_text - self.pending
        prompt_tokens, completion_tokens = spent.tokens if spent else (0, 0)
        return GenerationReport(
            entities=self.entities,
            cached=max(0, cached),
            generated=self.generated,
            quarantined=self.quarantined,
            requests=spent.calls if spent else 0,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=_cost(spent),
            seconds=round(time.monotonic() - self.began, 3),
            embedded=self.embedded,
            without_text=self.without_text,
            pending=self.pending,
        )


def _tokens(spent: Spent | None) -> int | None:
    prompt, completion = spent.tokens if spent else (0, 0)
    return None if prompt is None or completion is None else prompt + completion


def _cost(spent: Spent | None) -> float | None:
    """USD; None if any call's cost is not known."""
    if spent is None:
        return 0.0
    # A sum of many small numbers ends in digits that nobody charges.
    return None if spent.unknown_cost else round(spent.cost_usd, 12)
