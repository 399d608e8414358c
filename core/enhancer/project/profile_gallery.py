"""Collect profiles, prompts and costs for the report's gallery."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from enhancer.config.inputs import PROFILE, aspect_of
from enhancer.evaluation.measuring.views import Views
from enhancer.evaluation.reporting.gallery import ItemDescription, build_gallery
from enhancer.features import feature_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.contracts.record import Record
    from enhancer.evaluation.reporting.gallery import Gallery
    from enhancer.project.parts import ProjectParts
    from enhancer.prompts import Note


def profile_gallery(parts: ProjectParts) -> Gallery | None:
    """Return the gallery of item profiles; None if items have no vectors."""
    settings, split = parts.settings, parts.split
    if settings.prompts.item.source not in ("llm", "text"):
        return None
    ids = split.train.item_ids
    inputs = settings.item_inputs(settings.inputs)
    vectors = feature_table(parts.read_store, ids, "item", inputs, parts.embedder.fingerprint)
    if not vectors.any():
        return None
    spec = parts.pipeline.spec("item") if settings.prompts.item.source == "llm" else None
    names = settings.notes("item") or (PROFILE,)

    def titles(rows: Sequence[int]) -> list[str]:
        return [parts.titles.get(ids[row]) or ids[row] for row in rows]

    def describe(rows: Sequence[int]) -> dict[int, ItemDescription]:
        chosen = {ids[row]: row for row in rows}
        entities = {entity.id: entity for entity in parts.pipeline.entities("item") if entity.id in chosen}
        stored = {name: parts.read_store.get(list(chosen), kind="item", aspect=aspect_of(name)) for name in names}
        described = {}
        for place, ((id_, row), title) in enumerate(zip(chosen.items(), titles(rows), strict=True)):
            entity = entities.get(id_)
            notes = {name: record for name, records in stored.items() if (record := records[place]) is not None}
            record = next(iter(notes.values()), None)
            described[row] = ItemDescription(
                title=title,
                text="" if entity is None else entity.text,
                prompt="" if spec is None or entity is None else parts.pipeline.prompts(spec, [entity])[0],
                profile=_text(notes),
                tags=() if record is None else record.tags,
                about="" if record is None else _origin(record),
            )
        return described

    system = "" if spec is None else system_text([one.note for one in spec.notes])
    gallery = build_gallery(vectors, Views(split), describe, titles, system=system, seed=settings.seed)
    cost, tokens = _total_cost(parts)
    return replace(gallery, cost_usd=cost, tokens=tokens)


def _total_cost(parts: ProjectParts) -> tuple[float | None, int]:
    """Return the cost in USD of all stored notes (None if that of any is unknown), and their tokens."""
    cost: float | None = 0.0
    tokens = 0
    for record in parts.read_store.scan():
        if not record.profile:  # a raw or joint text, which no LLM wrote
            continue
        tokens += (record.prompt_tokens or 0) + (record.completion_tokens or 0)
        cost = None if cost is None or record.cost_usd is None else cost + record.cost_usd
    return cost, tokens


def _text(notes: Mapping[str, Record]) -> str:
    """Return the notes of an item as one text, each under its name unless the profile is the only one."""
    if list(notes) == [PROFILE]:
        return notes[PROFILE].profile
    return "\n".join(f"{name}: {record.profile}" for name, record in notes.items())


def system_text(notes: Sequence[Note]) -> str:
    """Return the system text of the request for the first note and those that share it."""
    first = notes[0]
    shared = [note.field for note in notes if note.lane == first.lane]
    return first.template.request(*shared, knowledge=first.knowledge).system


def _origin(record: Record) -> str:
    """Return model, prompt, tokens, cost and time of a profile on one line."""
    facts = [record.model or "made elsewhere", record.prompt_version]
    if record.prompt_tokens is not None and record.completion_tokens is not None:
        facts.append(f"{record.prompt_tokens:,} + {record.completion_tokens:,} tokens")
    if record.cost_usd is not None:
        facts.append(f"${record.cost_usd:.6f}")
    return ", ".join(fact for fact in [*facts, record.generated_at] if fact)
