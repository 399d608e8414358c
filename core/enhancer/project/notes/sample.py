"""Read the notes of a sample of entities, with what the model was shown when it wrote them."""

from __future__ import annotations

import hashlib
import heapq
import json
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from enhancer.config.inputs import aspect_of
from enhancer.evaluation.diagnosing.note_checks import SAMPLE, Notes
from enhancer.evaluation.diagnosing.wording import ProfileAndText

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from enhancer.contracts.record import Kind, Record
    from enhancer.data import Entity
    from enhancer.evaluation.running.vectors import FloatMatrix
    from enhancer.features.kind_spec import KindSpec
    from enhancer.project.parts import ProjectParts

_KINDS: tuple[Kind, ...] = ("item", "user")
_CHUNK = 1024


def sampled_notes(parts: ProjectParts, *, sample: int = SAMPLE) -> Iterator[Notes]:
    """Yield the stored notes of each kind of entity that an LLM writes about.

    Args:
        parts: The project.
        sample: Maximum number of entities of a kind; of more with a note, a sample is drawn by the project's seed.
    """
    settings = parts.settings
    for kind in _KINDS:
        knowledge = getattr(settings.prompts, kind).knowledge
        written: list[tuple[Sequence[str], Literal["closed", "open"]]] = [
            (settings.notes(kind), "closed" if knowledge == "closed" else "open"),
            (settings.closed_notes(kind), "closed"),
        ]
        spec = parts.pipeline.spec(kind) if written[0][0] else None
        for names, source in written:
            found = None if spec is None or not names else _notes_of(parts, spec, names, source, sample)
            if found is not None:
                yield found


def _notes_of(
    parts: ProjectParts, spec: KindSpec, names: Sequence[str], knowledge: Literal["closed", "open"], sample: int
) -> Notes | None:
    """Return the stored notes with some names of a sample of the entities; None without any."""
    kind, aspects = spec.kind, [aspect_of(name) for name in names]
    entities = drawn(_with_notes(parts, kind, aspects), sample, parts.settings.seed)
    asked = {one.note.aspect: one for one in reversed(spec.notes)}
    ids = [entity.id for entity in entities]
    by_aspect, vectors = {}, {}
    for name, aspect in zip(names, aspects, strict=True):
        records = parts.read_store.get(ids, kind=kind, aspect=aspect)
        if not any(records):
            continue
        shown = parts.pipeline.prompts(spec, entities, asked.get(aspect))
        by_aspect[name] = [
            ProfileAndText(id_, "" if record is None else record.profile, text)
            for id_, record, text in zip(ids, records, shown, strict=True)
        ]
        vectors[name] = _vectors(records)
    return Notes(kind=kind, by_aspect=by_aspect, vectors=vectors, knowledge=knowledge) if by_aspect else None


def _with_notes(parts: ProjectParts, kind: Kind, aspects: Sequence[str]) -> Iterator[Entity]:
    """Yield the entities that have a note, in the order of the table."""
    entities = iter(parts.pipeline.entities(kind))
    while chunk := list(islice(entities, _CHUNK)):
        ids = [entity.id for entity in chunk]
        stamps = [parts.read_store.stamps(ids, kind=kind, aspect=aspect) for aspect in aspects]
        for entity, *found in zip(chunk, *stamps, strict=True):
            if any(stamp is not None for stamp in found):
                yield entity


def drawn(entities: Iterable[Entity], sample: int, seed: int) -> list[Entity]:
    """Draw entities at random in one pass, in the order of the table; see :func:`draw_order`."""
    numbered = enumerate(entities)
    kept = heapq.nsmallest(sample, numbered, key=lambda one: draw_order(one[1].id, seed))
    return [entity for _, entity in sorted(kept, key=lambda one: one[0])]


def draw_order(id_: str, seed: int) -> int:
    """Return the place of an entity in a random order.

    It depends on the id and the seed alone, so a larger sample holds a smaller one, and what was paid for serves it.
    """
    return drawn_number(id_, str(seed))


def drawn_number(id_: str, purpose: str) -> int:
    """Return a number below 2^64 that is random for the id and the purpose, and always the same."""
    text = json.dumps([id_, purpose]).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _vectors(records: list[Record | None]) -> FloatMatrix:
    width = next(len(record.vector) for record in records if record is not None)
    table = np.zeros((len(records), width), np.float32)
    for row, record in enumerate(records):
        if record is not None:
            table[row] = record.vector
    return table
