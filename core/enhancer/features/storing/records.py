"""Build the records that wait for their vector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.record import TEXT_ASPECT, Record
from enhancer.features.stored_hash import FALLBACK, LOW

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts.record import Kind
    from enhancer.harness.answers.entity_task import EntityTask

_NO_VECTOR = np.zeros(0, np.float32)


def embedding_text(profile: str, tags: Sequence[str]) -> str:
    """Return the text of a profile that is embedded: the profile, then its tags.

    >>> embedding_text("A warm story.", ("friendship", "toys"))
    'A warm story. friendship, toys'
    """
    return f"{profile} {', '.join(tags)}" if tags else profile


@dataclass(frozen=True, slots=True)
class UnembeddedRecord:
    """A record without its vector."""

    record: Record
    text: str
    """Text to embed."""
    is_new: bool
    """Whether the record counts as generated in this run; otherwise it was paid for before."""
    claims: tuple[str, ...] = ()
    """Claims to release once the record is stored; empty unless it is a note that was asked for."""


def note_record(case: EntityTask, *, is_new: bool) -> UnembeddedRecord:
    """Build the record of a valid answer."""
    answer, usage, note = case.answer, case.usage, case.spec.note
    assert answer is not None
    doubtful = note.knowledge == "open" and answer.confidence == "low"
    mark = FALLBACK if case.spec.is_fallback else LOW if doubtful else ""
    record = Record(
        id=case.key.id,
        kind=case.key.kind,
        aspect=case.key.aspect,
        profile=answer.profile,
        tags=answer.tags,
        vector=_NO_VECTOR,
        prompt_version=note.version,
        model=case.model,
        embedder="",
        generated_at=case.at,
        input_hash=mark + case.input_hash,
        confidence=answer.confidence,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=usage.cost_usd,
    )
    return UnembeddedRecord(record, embedding_text(answer.profile, answer.tags), is_new, case.claims)


def text_record(kind: Kind, id_: str, text: str, input_hash: str, at: str, *, is_new: bool) -> UnembeddedRecord:
    """Build the record of a raw text, as of the time ``at``."""
    record = Record(
        id=id_,
        kind=kind,
        aspect=TEXT_ASPECT,
        profile="",
        vector=_NO_VECTOR,
        embedder="",
        generated_at=at,
        input_hash=input_hash,
    )
    return UnembeddedRecord(record, text, is_new)


def reembedded_record(record: Record) -> UnembeddedRecord:
    """Copy a stored note whose vector another embedder made, to embed it again."""
    return UnembeddedRecord(replace(record), embedding_text(record.profile, record.tags), is_new=False)
