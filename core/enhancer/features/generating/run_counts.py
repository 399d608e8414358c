"""Count the entities and records of one run, for progress and report."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from enhancer.features.generating.reports import GenerationReport
from enhancer.harness.clock import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from enhancer.contracts.record import Record
    from enhancer.harness.calls.cost_tracking import UsageTotals
    from enhancer.progress import Detail


_LATEST, _SHOWN = 3, 200
"""Number of the last notes that progress shows, and characters of each."""


@dataclass(slots=True)
class RunCounts:
    """Counts of a run so far. Memory does not grow with the catalogue."""

    entities: int = 0
    cached: int = 0
    """Entities whose content was paid for before this run."""
    answered: int = 0
    """Entities with new content, stored or waiting for a vector."""
    generated: int = 0
    """Entities with new content that is stored."""
    to_embed: int = 0
    """Records handed to the embedding stage."""
    embedded: int = 0
    """Records embedded and stored."""
    not_embedded: int = 0
    """Records whose text has no vector."""
    texts_failed: int = 0
    """Entities with such a record, beside those among ``quarantined``."""
    texts_pending: int = 0
    """Entities that lack nothing but a vector of a batch job, beside those among ``pending``."""
    quarantined: int = 0
    """Entities in quarantine, in the current pass over the tables."""
    without_text: int = 0
    """Entities with neither text nor history."""
    pending: int = 0
    """Entities in open batch jobs, in the current pass over the tables."""
    newly_quarantined: int = 0
    """Entities that this run quarantined."""
    notes: int | None = None
    """New notes that are stored; None if every entity has one."""
    started: str = field(default_factory=now)
    began: float = field(default_factory=time.monotonic)
    latest: deque[str] = field(default_factory=lambda: deque(maxlen=_LATEST))
    """Beginnings of the last new notes, each after its id."""

    def show(self, records: Iterable[Record]) -> None:
        """Keep the beginnings of new notes for progress events."""
        self.latest.extend(f"{one.id}: {' '.join(one.profile[:_SHOWN].split())}" for one in records if one.profile)

    @property
    def done(self) -> int:
        """Entities that need no further call."""
        return self.cached + self.answered + self.quarantined + self.texts_failed + self.without_text

    def details(self, spent: UsageTotals | None, embedding: UsageTotals | None = None) -> dict[str, Detail]:
        """Return the details of progress events."""
        return {
            "cached": self.cached,
            "generated": self.answered,
            "failed": self.newly_quarantined,
            "tokens": _tokens(spent),
            "cost_usd": _total(spent, embedding),
        }

    def textless_words(self, named: Sequence[str]) -> str:
        """Return the warning about entities without text.

        Args:
            named: Ids of some of them.
        """
        more = "" if self.without_text <= len(named) else ", …"
        ids = ", ".join(map(repr, named))
        count = self.without_text
        return f"{count} without text: they have neither text nor history, so they get no profile ({ids}{more})"

    def report(
        self, spent: UsageTotals | None, *, finished: bool, embedding: UsageTotals | None = None
    ) -> GenerationReport:
        """Return the report.

        Args:
            spent: Tokens and cost of the calls; None without calls.
            embedding: Tokens and cost of a remote embedder; None without one.
            finished: Whether all entities were surveyed. Then every entity in no other count is cached, including
                those that another process paid for meanwhile.
        """
        cached, quarantined = self.cached, self.quarantined + self.texts_failed
        pending = self.pending + self.texts_pending
        generated = self.generated
        if finished:
            # An entity whose note was stored before its text turned out to have no vector is in quarantine.
            generated = min(generated, self.entities - quarantined - self.without_text - pending)
            cached = self.entities - generated - quarantined - self.without_text - pending
        prompt_tokens, completion_tokens = spent.tokens if spent else (0, 0)
        return GenerationReport(
            entities=self.entities,
            cached=max(0, cached),
            generated=generated,
            quarantined=quarantined,
            requests=spent.calls if spent else 0,
            failed_requests=spent.failed if spent else 0,
            unanswered_usd=sum(one.unanswered_usd for one in (spent, embedding) if one is not None),
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=_total(spent, embedding),
            seconds=round(time.monotonic() - self.began, 3),
            embedded=self.embedded,
            without_text=self.without_text,
            pending=pending,
            notes=self.notes,
            embedding_requests=None if embedding is None else embedding.calls,
            embedding_failed_requests=0 if embedding is None else embedding.failed,
            embedding_tokens=None if embedding is None else embedding.tokens[0],
            embedding_cost_usd=_cost(embedding) if embedding is not None else None,
        )


def _tokens(spent: UsageTotals | None) -> int | None:
    prompt, completion = spent.tokens if spent else (0, 0)
    return None if prompt is None or completion is None else prompt + completion


def _cost(spent: UsageTotals | None) -> float | None:
    """Return the cost in USD; None if the cost of any call is unknown."""
    if spent is None:
        return 0.0
    # Rounding removes the floating-point error of a long sum.
    return None if spent.unknown_cost else round(spent.cost_usd, 12)


def _total(spent: UsageTotals | None, embedding: UsageTotals | None) -> float | None:
    """Return the cost of calls and embeddings in USD; None if any of it is unknown."""
    one, other = _cost(spent), _cost(embedding)
    return None if one is None or other is None else round(one + other, 12)
