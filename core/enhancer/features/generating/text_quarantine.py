"""Put records whose text has no vector into quarantine, and release them when they are embedded again.

Records whose vector comes later, by a batch job, are counted here too.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from enhancer.contracts.record import TEXT_ASPECT, Key
from enhancer.features.stored_hash import plain_hash
from enhancer.features.storing.records import reembedded_record, text_record
from enhancer.harness.clock import now

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from enhancer.contracts.record import Kind, Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.generating.run_counts import RunCounts
    from enhancer.features.generating.tally import EntityTally
    from enhancer.features.storing.records import UnembeddedRecord
    from enhancer.features.surveying.survey import SurveyChunk
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
        """Entities of texts without a vector, which are no notes asked for in this run."""
        self._keys: set[Key] = set()
        """The records of these texts."""

    def add(self, one: UnembeddedRecord, reason: str) -> None:
        """Put a record into quarantine, and count its entity."""
        key, counts = one.record.key, self._counts
        self._journal.quarantine(key, plain_hash(one.record.input_hash), reason=reason, raw=one.text, transient=True)
        counts.not_embedded += 1
        if one.claims:
            self._tally.not_embedded(key)
            self._tally.stored(key)
            self._journal.unclaim(one.claims)
            return
        self._keys.add(key)
        counts.answered -= one.is_new
        if (key.kind, key.id) not in self._entities:
            self._entities.add((key.kind, key.id))
            counts.texts_failed += 1
            counts.newly_quarantined += 1
            in_flight = self._tally.exclude(key.kind, key.id)
            counts.cached -= not (in_flight or one.is_new)

    def postpone(self, one: UnembeddedRecord, in_job: bool) -> None:
        """Count a record whose vector comes in a later pass or run."""
        self._counts.to_embed -= 1
        if one.claims:
            self._tally.postponed(one.record.key, pending=in_job)
            self._journal.unclaim(one.claims)
            return
        self._counts.answered -= one.is_new
        self._counts.texts_pending += one.is_new and in_job

    async def released(
        self, found: SurveyChunk, store: FeatureStore, in_thread: Callable[..., Awaitable[list[Record | None]]]
    ) -> AsyncIterator[UnembeddedRecord]:
        """Yield the records of a chunk that need a vector and no call; those in quarantine are released.

        Args:
            found: The chunk.
            store: The stored records.
            in_thread: Calls a function in another thread.
        """
        spec, at = found.spec, now()
        for aspect, ids in found.to_reembed.items():
            released = await self._release(spec.kind, aspect, ids)
            for record in await in_thread(partial(store.get, released, kind=spec.kind, aspect=aspect)):
                if record is not None:
                    yield reembedded_record(record)
        some = set(await self._release(spec.kind, TEXT_ASPECT, [row.id for row in found.to_embed]))
        for row in found.to_embed:
            if row.id in some:
                # The text of an entity that also has notes does not count as another entity.
                is_new = row.changed and not spec.notes
                yield text_record(spec.kind, row.id, row.text, row.input_hash, at, is_new=is_new)

    async def _release(self, kind: Kind, aspect: str, ids: Sequence[str]) -> list[str]:
        """Release those records of these ids that had no vector in an earlier run.

        Returns:
            The ids without those that had none in this run.
        """
        ids = [id_ for id_ in ids if Key(kind, id_, aspect) not in self._keys]
        if not ids:
            return []
        known = await asyncio.to_thread(self._journal.quarantined, kind, ids, aspect)
        if again := [(Key(kind, id_, aspect), one.input_hash) for id_, one in known.items() if one.transient]:
            await asyncio.wrap_future(self._journal.release_quarantine(again, forget_answers=False))
        return ids
