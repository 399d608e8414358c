"""Find out in chunks which entities lack a current note or vector. Nothing is remembered about any of them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby, islice
from typing import TYPE_CHECKING, NamedTuple

from enhancer.contracts.record import TEXT_ASPECT
from enhancer.features.kind_spec import CHUNK
from enhancer.features.sources import EntityTable
from enhancer.features.stored_hash import FALLBACK, LOW, is_current
from enhancer.harness.calls.cache_key import text_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from enhancer.contracts.record import Stamp
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.features.kind_spec import KindSpec
    from enhancer.features.row_memory import RowMemory
    from enhancer.harness.answers.entity_task import PromptSpec
    from enhancer.harness.answers.usage import EntityUsage


class ToAsk(NamedTuple):
    """A note of an entity that is not current in the store."""

    id: str
    input_hash: str
    prompt: str
    empty: bool
    """Whether the entity has neither text nor anything from other tables; it is then not asked about."""
    spec: PromptSpec
    """Question that asks for the note."""
    fallback_hash: str | None = None
    """Input hash of the request that follows an answer of low confidence, if one follows."""
    surcharge: EntityUsage | None = None
    """Its share of what was paid for notes on reviews that its prompt shows."""

    @property
    def hashes(self) -> tuple[str, ...]:
        """Input hashes of the requests that may be made for the note."""
        return (self.input_hash,) if self.fallback_hash is None else (self.input_hash, self.fallback_hash)


class ToEmbed(NamedTuple):
    """An entity without a current vector of its raw text."""

    id: str
    input_hash: str
    text: str
    changed: bool
    """Whether the text is new or changed; otherwise only the embedder has changed."""


@dataclass(slots=True)
class SurveyChunk:
    """Result of a survey of one chunk of entities."""

    spec: KindSpec
    ids: Sequence[str]
    """Ids of all entities of the chunk."""
    stored: dict[str, int] = field(default_factory=dict)
    """Number of stored records of each aspect, current or not."""
    to_ask: list[ToAsk] = field(default_factory=list)
    """Notes to ask for; those of one entity follow one another."""
    to_reembed: dict[str, list[str]] = field(default_factory=dict)
    """Ids of entities with a current note and a vector of another embedder, by aspect."""
    to_embed: list[ToEmbed] = field(default_factory=list)
    """Raw texts whose vector is missing, outdated or of another embedder."""
    empty_texts: list[ToEmbed] = field(default_factory=list)
    """Entities without text, if their kind has no notes."""

    textless: list[str] = field(default_factory=list)
    """Ids of entities without text, if their kind has notes."""

    @property
    def outdated(self) -> set[str]:
        """Ids of the entities that lack any current record."""
        rows = (row.id for rows in (self.to_ask, self.to_embed, self.empty_texts) for row in rows)
        return {*rows, *chain.from_iterable(self.to_reembed.values()), *self.textless}

    @property
    def entities(self) -> int:
        """Number of entities."""
        return len(self.ids)

    def asks(self) -> Iterator[list[ToAsk]]:
        """Yield the notes to ask for, entity by entity."""
        return rows_by_entity(self.to_ask)


def rows_by_entity(rows: Iterable[ToAsk]) -> Iterator[list[ToAsk]]:
    """Yield the rows of each entity; they follow one another."""
    return (list(own) for _, own in groupby(rows, key=lambda row: row.id))


def survey(spec: KindSpec, store: FeatureStore, embedder: str | None) -> Iterator[SurveyChunk]:
    """Compare the entities of one kind with the store, a chunk at a time.

    Args:
        spec: The entities, and how they are profiled and embedded.
        store: The stored records.
        embedder: Fingerprint of the embedder; None to ignore which embedder made a vector.
    """
    if spec.memory is not None and isinstance(spec.entities, EntityTable) and embedder is not None:
        yield from _survey_remembering(spec, spec.entities, spec.memory, store, embedder)
        return
    entities = iter(spec.entities())
    while chunk := list(islice(entities, CHUNK)):
        yield _compare(spec, chunk, store, embedder)


def _survey_remembering(
    spec: KindSpec, table: EntityTable, memory: RowMemory, store: FeatureStore, embedder: str
) -> Iterator[SurveyChunk]:
    """Survey a table without reading rows in full that are known to have current records."""
    aspects = [*(one.note.aspect for one in spec.notes), *([TEXT_ASPECT] if spec.embeds_text else [])]
    one_pass = memory.begin(partial(_read_in_full, table))
    for block in table.blocks(one_pass.wanted):
        if known := one_pass.take_known():
            yield SurveyChunk(spec, known, dict.fromkeys(aspects, len(known)))
        while chunk := list(islice(block, CHUNK)):
            found = _compare(spec, chunk, store, embedder)
            one_pass.add(found.ids, found.outdated)
            yield found
    memory.finish(one_pass)


def _read_in_full(table: EntityTable) -> None:
    """Read all rows, which raises an error if an id occurs with different texts."""
    deque(table(), maxlen=0)


def _compare(spec: KindSpec, chunk: Sequence[Entity], store: FeatureStore, embedder: str | None) -> SurveyChunk:
    found = SurveyChunk(spec, [entity.id for entity in chunk])
    if spec.notes:
        _compare_notes(found, chunk, store, embedder)
    if spec.embeds_text:
        _compare_texts(found, chunk, _stamps(found, store, TEXT_ASPECT), embedder)
    return found


def _stamps(found: SurveyChunk, store: FeatureStore, aspect: str) -> Sequence[Stamp | None]:
    stamps = store.stamps(found.ids, kind=found.spec.kind, aspect=aspect)
    found.stored[aspect] = len(stamps) - stamps.count(None)
    return stamps


def _compare_notes(found: SurveyChunk, chunk: Sequence[Entity], store: FeatureStore, embedder: str | None) -> None:
    rendered: dict[str, tuple[list[str], list[bool]]] = {}
    asks: dict[int, list[ToAsk]] = {}
    for spec in found.spec.notes:
        template = spec.note.template
        if template.fingerprint not in rendered:
            rendered[template.fingerprint] = found.spec.prompts(chunk, spec)
        prompts, shown = rendered[template.fingerprint]
        stamps = _stamps(found, store, spec.note.aspect)
        hashes = spec.keys.of_all(prompts)
        # Nearly all records are current, so the fastest possible loop picks out the others.
        doubtful = [
            place
            for place, (stamp, input_hash) in enumerate(zip(stamps, hashes, strict=True))
            if stamp is None or stamp[0] != input_hash or stamp[1] != embedder
        ]
        for place in doubtful:
            stamp, input_hash, entity, prompt = stamps[place], hashes[place], chunk[place], prompts[place]
            lower = None if spec.fallback is None else spec.fallback.keys.of(prompt)
            if stamp is not None and _is_answered(stamp.input_hash, input_hash, lower):
                if embedder is not None and stamp.embedder != embedder:
                    found.to_reembed.setdefault(spec.note.aspect, []).append(entity.id)
                continue
            empty = not shown[place] and not entity.text.strip()
            row = ToAsk(entity.id, input_hash, prompt, empty, spec, lower)
            low = stamp is not None and stamp.input_hash == LOW + input_hash
            if low and spec.fallback is not None and lower is not None:  # stored before there was a fallback
                row = ToAsk(entity.id, lower, prompt, empty, spec.fallback)
            asks.setdefault(place, []).append(row)
    found.to_ask = [row for place in sorted(asks) for row in asks[place]]


def _is_answered(stored: str, wanted: str, fallback: str | None) -> bool:
    """Check whether a stored note is current: that of the prompt or, with a fallback, that of the fallback."""
    if fallback is None:
        return is_current(stored, wanted)
    # A note from the text alone that an earlier configuration asked for is none: the model was not asked what it knows.
    return (stored != LOW + wanted and is_current(stored, wanted)) or stored == FALLBACK + fallback


def _compare_texts(
    found: SurveyChunk, chunk: Sequence[Entity], stamps: Sequence[Stamp | None], embedder: str | None
) -> None:
    for entity, stamp in zip(chunk, stamps, strict=True):
        input_hash = text_hash(entity.text)
        changed = stamp is None or stamp.input_hash != input_hash
        if not changed and (embedder is None or (stamp is not None and stamp.embedder == embedder)):
            continue
        row = ToEmbed(entity.id, input_hash, entity.text, changed)
        if not entity.text.strip():
            # A kind that also has notes may lack text: that part of its row in the table stays zero.
            if found.spec.notes:
                found.textless.append(entity.id)
            else:
                found.empty_texts.append(row)
            continue
        found.to_embed.append(row)
