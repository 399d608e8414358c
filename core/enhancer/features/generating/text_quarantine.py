"""Put records whose text has no vector into quarantine, and release them when they are embedded again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from enhancer.contracts.record import Key
from enhancer.features.stored_hash import plain_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts.record import Kind
    from enhancer.features.generating.run_counts import RunCounts
    from enhancer.features.generating.tally import EntityTally
    from enhancer.features.storing.records import UnembeddedRecord
    from enhancer.harness.journal.journal import Journal


class TextQuarantine:
    """Quarantine of texts without a vector, in one run.

    Its entries are transient: the next run embeds the same texts again, and asks no LLM.

    Args:
        journal: Keeps the entries.
        counts: Counts of the run.
        tally: Counts the entities that are in flight.
    """

    def __init__(self, journal: Journal, counts: RunCounts, tally: EntityTally) -> None:
        self._journal = journal
        self._counts = counts
        self._tally = tally
        self._entities: set[tuple[Kind, str]] = set()
        """Entities that were not in flight; as few as texts without a vector."""

    def add(self, one: UnembeddedRecord, reason: str) -> None:
        """Put a record into quarantine, and count its entity."""
        key, counts = one.record.key, self._counts
        self._journal.quarantine(key, plain_hash(one.record.input_hash), reason=reason, raw=one.text, transient=True)
        counts.not_embedded += 1
        in_flight = self._tally.not_embedded(key)
        if one.claims:
            self._tally.stored(key)
            self._journal.unclaim(one.claims)
            return
        counts.answered -= one.is_new
        if not in_flight and (key.kind, key.id) not in self._entities:
            self._entities.add((key.kind, key.id))
            counts.texts_failed += 1
            counts.newly_quarantined += 1
            counts.cached -= not one.is_new

    async def release(self, kind: Kind, aspect: str, ids: Sequence[str]) -> None:
        """Release those records of these ids that had no vector."""
        if not ids:
            return
        known = await asyncio.to_thread(self._journal.quarantined, kind, ids, aspect)
        if again := [(Key(kind, id_, aspect), one.input_hash) for id_, one in known.items() if one.transient]:
            await asyncio.wrap_future(self._journal.release_quarantine(again, forget_answers=False))
