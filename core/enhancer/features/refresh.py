"""What a nightly job does: look what is new, changed and gone; make it; say what needs a person."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.errors import DataError, EnhancerError
from enhancer.harness.clock import now
from enhancer.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enhancer.contracts.record import Key, Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.generating.reports import GenerationReport, Plan
    from enhancer.features.pipeline import Pipeline
    from enhancer.features.reading.difference import Difference
    from enhancer.progress import Listener

_BATCH = 512
"""Ids in one call of the store."""
MAX_PRUNED_SHARE = 0.5
"""The share of a kind's records that one refresh may remove, unless it is told otherwise."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a refresh has found before it does anything."""

    differences: tuple[Difference, ...]
    plan: Plan

    @property
    def vanished(self) -> int:
        """Records whose entity is gone."""
        return sum(one.vanished for one in self.differences)

    @property
    def anything_to_do(self) -> bool:
        """Whether a run would do anything."""
        return bool(self.plan.to_generate or self.plan.to_embed)


@dataclass(frozen=True, kw_only=True)
class RefreshReport:
    """What one refresh found and did."""

    started: str
    """UTC, ISO 8601."""
    seconds: float
    changes: Changes
    generated: GenerationReport | None
    """None where there was nothing to do."""
    pruned: int
    """Records of vanished entities that were removed."""

    @property
    def quarantined(self) -> int:
        """Entities in quarantine, whether this run put them there or found them there."""
        return self.changes.plan.quarantined if self.generated is None else self.generated.quarantined

    def to_json(self) -> dict[str, Any]:
        """The keys that ``enhancer refresh --json`` prints."""
        return {
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "changes": [one.to_json() for one in self.changes.differences],
            "plan": self.changes.plan.to_json(),
            "generate": None if self.generated is None else self.generated.to_json(),
            "quarantined": self.quarantined,
            "vanished": self.changes.vanished,
            "pruned": self.pruned,
        }


def refresh(
    pipeline: Pipeline,
    store: FeatureStore,
    *,
    listener: Listener = silent,
    confirm: Callable[[Plan], bool] | None = None,
    on_changes: Callable[[Changes], None] | None = None,
    prune: bool = False,
    max_pruned_share: float = MAX_PRUNED_SHARE,
    retry_quarantined: bool = False,
    batch: bool = False,
    wait: bool = True,
) -> RefreshReport:
    """Bring the store up to the tables: one look at every row, and one more at all of them if anything changed.

    Args:
        pipeline: Looks and generates.
        store: What it fills.
        listener: Told of progress.
        confirm: Shown the plan before anything that may cost money; anything but True stops.
        on_changes: Called with the changes that were found, before anything is done.
        prune: Remove records of entities that the tables no longer hold. What was paid for stays in the journal.
        max_pruned_share: Share of a kind's records, above which nothing is removed: a table that was cut short must not
            empty the store.
        retry_quarantined: Ask again about entities whose answers were never valid.
        batch: Use the provider's batch API; what an earlier run submitted is collected.
        wait: With ``batch``: stay until everything is collected.

    Raises:
        BudgetError: ``max_cost`` leaves no room for the next call; what was paid for is kept.
        DataError: More would be pruned than may be; everything else is done.
        EnhancerError: What stopped the run, or ``confirm`` said no.
    """
    started, began = now(), time.perf_counter()
    found = pipeline.differences()
    plan = pipeline.plan(retry_quarantined=retry_quarantined, batch=batch, differences=found)
    pipeline.count_vanished(found)
    changes = Changes(differences=found.all(), plan=plan)
    if on_changes is not None:
        on_changes(changes)
    generated = None
    if changes.anything_to_do or (batch and plan.pending):
        if confirm is not None and not confirm(plan):
            raise EnhancerError("not confirmed: nothing was generated")
        if batch:
            generated = pipeline.generate_offline(listener, retry_quarantined=retry_quarantined, wait=wait)
        else:
            generated = pipeline.generate(listener, retry_quarantined=retry_quarantined)
    pruned = 0
    if prune and changes.vanished:
        for one in changes.differences:
            require_modest(one.name, one.vanished, one.fresh + sum(one.stale.values()) + one.vanished, max_pruned_share)
        pruned = remove(store, pipeline.vanished(found))
    return RefreshReport(
        started=started, seconds=time.perf_counter() - began, changes=changes, generated=generated, pruned=pruned
    )


def remove(store: FeatureStore, keys: Iterable[Key]) -> int:
    """Delete records by key, a batch at a time; gives how many there were."""
    waiting: dict[tuple[Kind, str], list[str]] = {}
    removed = 0
    for key in keys:
        ids = waiting.setdefault((key.kind, key.aspect), [])
        ids.append(key.id)
        if len(ids) >= _BATCH:
            removed += store.delete(ids, kind=key.kind, aspect=key.aspect)
            ids.clear()
    return removed + sum(store.delete(ids, kind=kind, aspect=aspect) for (kind, aspect), ids in waiting.items() if ids)


def require_modest(name: str, vanished: int, there: int, most: float) -> None:
    """Refuse to remove too much at once: a table that was cut short must not empty the store.

    Args:
        name: Of the kind of record.
        vanished: How many would be removed.
        there: Of how many.
        most: The share that may be removed.

    Raises:
        DataError: More would be removed than may be.
    """
    if vanished > most * there:
        raise DataError(
            f"{vanished:,} of {there:,} records of {name} have no entity in the tables any more:"
            " too many to remove unseen",
            hint="is the table whole? If it is: --prune-at-most 1",
        )
