"""Read the paid answers and the quarantine of one entity."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from enhancer.harness.journal.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.harness.journal.completion_writer import PaidAnswer
    from enhancer.harness.journal.journal import Quarantined


@dataclass(frozen=True, slots=True)
class StoredAnswers:
    """Paid answers to the questions about one entity, and its notes in quarantine."""

    answers: Mapping[str, Sequence[PaidAnswer]] = field(default_factory=dict)
    """By input hash, oldest first."""
    quarantined: Sequence[Quarantined] = ()

    @classmethod
    def read(
        cls, store: FeatureStore, kind: Kind, id_: str, input_hashes: Sequence[str], aspects: Sequence[str] = ()
    ) -> Self:
        """Read them from the journal of a store, which is not created.

        Args:
            store: The store.
            kind: Kind of the entity.
            id_: Its id.
            input_hashes: Input hashes of its notes.
            aspects: Aspects that may be in quarantine, besides the profile.
        """
        if (found := Journal.find(store)) is None:
            return cls()
        with found as journal:
            held = (journal.quarantined(kind, [id_], aspect).get(id_) for aspect in dict.fromkeys(["", *aspects]))
            return cls(journal.paid_answers(list(input_hashes)), [one for one in held if one is not None])


def all_quarantined(store: FeatureStore) -> Iterator[Quarantined]:
    """Stream the notes in quarantine; none if there is no journal, which is not created."""
    if (found := Journal.find(store)) is not None:
        with found as journal:
            yield from journal.all_quarantined()
