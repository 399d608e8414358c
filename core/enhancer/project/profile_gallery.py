"""Collect profiles, prompts and costs for the report's gallery."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from enhancer.contracts.record import PROFILE_ASPECT
from enhancer.evaluation.measuring.views import Views
from enhancer.evaluation.reporting.gallery import ItemDescription, build_gallery
from enhancer.features import feature_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts.record import Record
    from enhancer.evaluation.reporting.gallery import Gallery
    from enhancer.project.parts import ProjectParts


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

    def titles(rows: Sequence[int]) -> list[str]:
        return [parts.titles.get(ids[row]) or ids[row] for row in rows]

    def describe(rows: Sequence[int]) -> dict[int, ItemDescription]:
        chosen = {ids[row]: row for row in rows}
        entities = {entity.id: entity for entity in parts.pipeline.entities("item") if entity.id in chosen}
        records = parts.read_store.get(list(chosen), kind="item")
        described = {}
        for (id_, row), title, record in zip(chosen.items(), titles(rows), records, strict=True):
            entity = entities.get(id_)
            described[row] = ItemDescription(
                title=title,
                text="" if entity is None else entity.text,
                prompt="" if spec is None or entity is None else parts.pipeline.prompts(spec, [entity])[0],
                profile="" if record is None else record.profile,
                tags=() if record is None else record.tags,
                about="" if record is None else _origin(record),
            )
        return described

    system = "" if spec is None else spec.notes[0].note.text.system
    gallery = build_gallery(vectors, Views(split), describe, titles, system=system, seed=settings.seed)
    cost, tokens = _total_cost(parts)
    return replace(gallery, cost_usd=cost, tokens=tokens)


def _total_cost(parts: ProjectParts) -> tuple[float | None, int]:
    """Return the cost in USD of all stored profiles (None if that of any is unknown), and their tokens."""
    cost: float | None = 0.0
    tokens = 0
    for record in parts.read_store.scan(aspect=PROFILE_ASPECT):
        tokens += (record.prompt_tokens or 0) + (record.completion_tokens or 0)
        cost = None if cost is None or record.cost_usd is None else cost + record.cost_usd
    return cost, tokens


def _origin(record: Record) -> str:
    """Return model, prompt, tokens, cost and time of a profile on one line."""
    facts = [record.model or "made elsewhere", record.prompt_version]
    if record.prompt_tokens is not None and record.completion_tokens is not None:
        facts.append(f"{record.prompt_tokens:,} + {record.completion_tokens:,} tokens")
    if record.cost_usd is not None:
        facts.append(f"${record.cost_usd:.6f}")
    return ", ".join(fact for fact in [*facts, record.generated_at] if fact)
