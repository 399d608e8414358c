"""Bring the store up to date with the tables: generate what is new or changed, and remove what has vanished."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.errors import DataError, EnhancerError
from enhancer.features.limits import MAX_PRUNED_SHARE
from enhancer.harness.clock import now
from enhancer.progress import silent
from enhancer.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from enhancer.contracts.record import Key, Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.generating.reports import GenerationReport, Plan
    from enhancer.features.pipeline import Pipeline
    from enhancer.features.surveying.difference import Difference
    from enhancer.progress import Listener

_CHUNK = 512
"""Ids deleted in one call of the store."""


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Changes that a refresh found, before it acts on them."""

    differences: tuple[Difference, ...]
    plan: Plan

    @property
    def vanished(self) -> int:
        """Number of records whose entity is not in the tables."""
        return sum(one.vanished for one in self.differences)

    @property
    def anything_to_do(self) -> bool:
        """Whether there is anything to generate or embed."""
        return bool(self.plan.to_generate or self.plan.to_embed)


@dataclass(frozen=True, kw_only=True)
class RefreshReport(Shown):
    """Result of a refresh."""

    started: str
    """Start time, UTC, ISO 8601."""
    seconds: float
    """Wall time."""
    changes: Changes
    generated: GenerationReport | None
    """Report of the run; None if there was nothing to do."""
    pruned: int
    """Records of vanished entities that were removed."""

    @property
    def quarantined(self) -> int:
        """Number of entities in quarantine after the refresh."""
        return self.changes.plan.quarantined if self.generated is None else self.generated.quarantined

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer refresh --json`` prints."""
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

    def to_rows(self) -> list[dict[str, Any]]:
        """Return the changes: a row for each kind and aspect."""
        rows = []
        for one in self.changes.differences:
            found = one.to_json()
            rows.append(
                {
                    name: found[name]
                    for name in ("kind", "aspect", "entities", "fresh", "new", "without_text", "vanished")
                }
                | {f"stale_{reason}": number for reason, number in found["stale"].items()}
            )
        return rows

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        done = "nothing to generate" if self.generated is None else self.generated.html_lines()[0]
        return [f"{done}; {self.pruned:,} records removed"]


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
    keep_going: bool = False,
) -> RefreshReport:
    """Bring the store up to date. The tables are read once, and once more if anything changed.

    Args:
        pipeline: The pipeline of the project.
        store: The store of the pipeline.
        listener: Called with progress events.
        confirm: Called with the plan before anything that may cost money; any result but True stops the refresh.
        on_changes: Called with the changes that were found, before any action.
        prune: Whether to remove records of entities that are not in the tables. Paid answers stay in the journal.
        max_pruned_share: Largest share of a kind's records to remove. Above it none is removed, because the table may
            have been truncated.
        retry_quarantined: Ask again about entities in quarantine.
        batch: Use the provider's batch jobs; those of earlier runs are collected.
        wait: With ``batch``: wait for all results.
        keep_going: Go on although most of the first answers are not valid.

    Raises:
        BudgetError: ``max_cost`` leaves no room for the next call; paid answers are kept.
        DataError: More records would be pruned than allowed; everything else is done.
        EnhancerError: Any other error that stopped the run, or ``confirm`` did not return True.
    """
    started, began = now(), time.perf_counter()
    counter = pipeline.difference_counter()
    plan = pipeline.plan(retry_quarantined=retry_quarantined, batch=batch, counter=counter, listener=listener)
    pipeline.count_vanished(counter)
    changes = Changes(differences=counter.results(), plan=plan)
    if on_changes is not None:
        on_changes(changes)
    generated = None
    if changes.anything_to_do or (batch and plan.pending):
        if confirm is not None and not confirm(plan):
            raise EnhancerError("not confirmed: nothing was generated")
        if batch:
            generated = pipeline.generate_offline(
                listener, retry_quarantined=retry_quarantined, wait=wait, keep_going=keep_going
            )
        else:
            generated = pipeline.generate(listener, retry_quarantined=retry_quarantined, keep_going=keep_going)
    pruned = 0
    if prune and changes.vanished:
        for one in changes.differences:
            records = one.fresh + sum(one.stale.values()) + one.vanished
            refuse_mass_removal(one.name, one.vanished, records, max_pruned_share)
        pruned = remove_records(store, pipeline.vanished(counter))
    pipeline.remember_rows()
    return RefreshReport(
        started=started, seconds=time.perf_counter() - began, changes=changes, generated=generated, pruned=pruned
    )


def remove_records(store: FeatureStore, keys: Iterable[Key]) -> int:
    """Delete records by key, in chunks; return the number of records deleted."""
    waiting: dict[tuple[Kind, str], list[str]] = {}
    removed = 0
    for key in keys:
        ids = waiting.setdefault((key.kind, key.aspect), [])
        ids.append(key.id)
        if len(ids) >= _CHUNK:
            removed += store.delete(ids, kind=key.kind, aspect=key.aspect)
            ids.clear()
    return removed + sum(store.delete(ids, kind=kind, aspect=aspect) for (kind, aspect), ids in waiting.items() if ids)


def refuse_mass_removal(name: str, vanished: int, records: int, max_share: float) -> None:
    """Raise an error if too large a share of records would be removed: the table may have been truncated.

    Args:
        name: Kind of the records.
        vanished: Number of records to remove.
        records: Number of all records.
        max_share: Largest share to remove.

    Raises:
        DataError: The share is larger.
    """
    if vanished > max_share * records:
        raise DataError(
            f"{vanished:,} of {records:,} records of {name} have no entity in the tables: too many to remove unseen",
            hint="check that the table is complete; if it is, use --prune-at-most 1",
        )
