"""Count entities whose notes are asked for, answered and stored one by one.

An entity counts once, whatever the number of its notes: as quarantined if any of them is; else as pending if any is in
an open batch job; else as generated if any is new. Only entities with notes in flight, and those that are done in part,
are in memory.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enhancer.contracts.record import Key, Kind
    from enhancer.features.generating.run_counts import RunCounts


@dataclass(slots=True, eq=False)
class EntityState:
    """State of one entity in a run."""

    pass_number: int
    """Last pass over the tables that came by it."""
    held: bool = True
    """Whether the pass is still deciding about its notes."""
    unanswered: int = 0
    """Notes without an answer yet."""
    unstored: int = 0
    """Notes that wait for their vector."""
    in_flight: set[str] = field(default_factory=set)
    """Aspects of its notes that this run has taken. A later pass leaves them alone."""
    new: bool = False
    """Whether any note was answered in this run."""
    failed: bool = False
    """Whether any note is in quarantine."""
    failed_now: bool = False
    """Whether this run put any note into quarantine."""
    pending: bool = False
    """Whether any note is in an open batch job."""
    unfinished: bool = False
    """Whether any note is left for a later pass or run."""
    excluded: bool = False
    """Whether it is counted elsewhere, for a text without a vector."""
    answer_counted: bool = False
    counted_new: bool | None = None
    """Whether its answers count as new; None while they count neither as new nor as cached."""

    def take(self, aspect: str) -> None:
        """Count a note whose answer is known or about to be asked for."""
        self.unanswered += 1
        self.in_flight.add(aspect)


class EntityTally:
    """Counts the entities of one run.

    Args:
        counts: The counts to add to.
    """

    def __init__(self, counts: RunCounts) -> None:
        self._counts = counts
        self._pass = 0
        self._open: dict[tuple[Kind, str], EntityState] = {}
        self._partly_new: set[int] = set()
        """Hashes of entities with a new note, which do not count yet because others of their notes are not done."""
        self._excluded: set[tuple[Kind, str]] = set()
        """Entities that are counted elsewhere; as few as texts without a vector."""

    @property
    def unanswered(self) -> int:
        """Number of notes that are asked for and have no answer yet."""
        return sum(entity.unanswered for entity in self._open.values())

    def begin_pass(self) -> None:
        """Begin a pass over the tables: every entity that is not done comes by again."""
        self._pass += 1
        self._counts.quarantined = self._counts.pending = 0

    def open(self, kind: Kind, id_: str) -> EntityState:
        """Return the state of an entity that a pass has come by; :meth:`close` must follow."""
        entity = self._open.setdefault((kind, id_), EntityState(self._pass))
        entity.pass_number, entity.held = self._pass, True
        entity.unfinished = entity.pending = False
        entity.excluded = (kind, id_) in self._excluded
        return entity

    def close(self, kind: Kind, id_: str) -> None:
        """Say that the pass has decided about all notes of an entity."""
        self._open[kind, id_].held = False
        self._settle((kind, id_))

    def answered(self, key: Key, *, is_new: bool) -> None:
        """Count a valid answer, which is to be embedded."""
        entity = self._open.get((key.kind, key.id))
        if entity is not None:
            entity.unanswered -= 1
            entity.unstored += 1
            entity.new = entity.new or is_new
            self._settle((key.kind, key.id))

    def stored(self, key: Key) -> None:
        """Count a note that is on disk."""
        entity = self._open.get((key.kind, key.id))
        if entity is not None:
            entity.unstored -= 1
            self._settle((key.kind, key.id))

    def postponed(self, key: Key, *, pending: bool) -> None:
        """Count a note whose vector comes in a later pass or run.

        Args:
            key: Its key.
            pending: Whether its text is in a batch job.
        """
        entity = self._open.get((key.kind, key.id))
        if entity is not None:
            entity.pending, entity.unfinished = entity.pending or pending, entity.unfinished or not pending
            self._uncount(entity)
            entity.unstored -= 1
            self._settle((key.kind, key.id))

    def not_embedded(self, key: Key) -> None:
        """Count a note that was put into quarantine because its text has no vector."""
        entity = self._open.get((key.kind, key.id))
        if entity is not None:
            self._counts.newly_quarantined += not (entity.failed_now or entity.excluded)
            entity.failed = entity.failed_now = True
            self._uncount(entity)

    def exclude(self, kind: Kind, id_: str) -> bool:
        """Leave an entity out of the counts from here on, because it is counted elsewhere.

        Returns:
            Whether it is in flight.
        """
        self._excluded.add((kind, id_))
        entity = self._open.get((kind, id_))
        if entity is None:
            return False
        entity.excluded = True
        self._uncount(entity)
        return True

    def withdrawn(self, keys: Iterable[Key]) -> None:
        """Take back that the entities of notes count as pending."""
        places = {(key.kind, key.id) for key in keys}
        self._counts.pending -= len(places - self._excluded)

    def failed(self, key: Key, *, pending: bool = False) -> None:
        """Count a note that was put into quarantine.

        Args:
            key: Its key.
            pending: Whether it counts as pending so far; otherwise :meth:`EntityState.take` has counted it.
        """
        entity = self._open.get((key.kind, key.id))
        if entity is None and (key.kind, key.id) in self._excluded:
            return
        if entity is None:  # the pass has counted its entity as pending
            self._counts.pending -= 1
            self._counts.quarantined += 1
            self._counts.newly_quarantined += 1
            return
        entity.unanswered -= not pending
        self._counts.newly_quarantined += not (entity.failed_now or entity.excluded)
        entity.failed = entity.failed_now = True
        self._settle((key.kind, key.id))

    def _settle(self, place: tuple[Kind, str]) -> None:
        """Count an entity whose notes are all answered, and again when they are stored."""
        entity, counts = self._open[place], self._counts
        if entity.held or entity.unanswered:
            return
        done = not (entity.failed or entity.pending or entity.unfinished or entity.excluded)
        if not entity.answer_counted:
            entity.answer_counted = True
            new = entity.new or hash(place) in self._partly_new
            counts.answered += done and new
            counts.cached += done and not new
            entity.counted_new = new if done else None
        if entity.unstored:
            return
        del self._open[place]
        was_new = hash(place) in self._partly_new
        self._partly_new.discard(hash(place))
        if entity.excluded:
            return
        if entity.pass_number == self._pass:  # an entity of an earlier pass comes by again, and counts then
            counts.quarantined += entity.failed
            counts.pending += entity.pending and not entity.failed
        if (entity.new or was_new) and not entity.failed:
            if entity.pending or entity.unfinished:
                self._partly_new.add(hash(place))
            else:
                counts.generated += 1

    def _uncount(self, entity: EntityState) -> None:
        """Take back that an entity is done."""
        if entity.counted_new is not None:
            self._counts.answered -= entity.counted_new
            self._counts.cached -= not entity.counted_new
            entity.counted_new = None
