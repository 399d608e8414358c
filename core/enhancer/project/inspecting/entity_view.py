"""Collect everything that is known about one item or user: texts, notes, prompt, answers, cost and neighbours."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.config.inputs import PROFILE
from enhancer.contracts.record import holds_note
from enhancer.errors import DataError, EnhancerError, did_you_mean
from enhancer.evaluation.diagnosing.agreement import interaction_columns
from enhancer.features.reading.answers import StoredAnswers
from enhancer.project.inspecting.nearest_items import nearest_items
from enhancer.project.inspecting.stored_notes import records_of
from enhancer.project.inspecting.titles import item_called
from enhancer.project.profile_gallery import system_text
from enhancer.shown import Shown, html_lines, html_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.contracts.record import Kind, Record
    from enhancer.data import Entity
    from enhancer.project.parts import ProjectParts

_COMPARED = 200
"""Users of an item (or items of a user) whose other interactions are counted, at most; of more, the first."""
_NEAR_IDS = 10_000
"""Ids that a misspelt one is compared with."""


@dataclass(frozen=True, kw_only=True)
class NoteView:
    """One stored note of an entity."""

    name: str
    """``profile``, or the name of the aspect, with the number of the sample from the second on."""
    text: str
    tags: tuple[str, ...]
    model: str
    prompt_version: str
    generated_at: str
    tokens: int | None
    cost_usd: float | None
    confidence: str
    current: bool | None
    """Whether its prompt is that of today; None if that is not known."""


@dataclass(frozen=True, kw_only=True)
class EntityView(Shown):
    """Everything that is known about one entity. Neighbours are of its own kind, nearest first."""

    id: str
    kind: Kind
    title: str | None
    text: str | None
    """Text of its row in the table; None if the table has no such row."""
    interactions: int | None
    """Number of its training interactions; None if there are none to read."""
    notes: list[NoteView] = field(default_factory=list)
    system: str = ""
    """System text of the prompt; empty if no LLM is asked."""
    prompt: str = ""
    """Rendered prompt of the first note; empty if no LLM is asked."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    """Paid answers, oldest first: ``notes``, ``text``, ``model``, ``at``, ``finish_reason``, tokens, ``cost_usd``."""
    quarantined: list[dict[str, str]] = field(default_factory=list)
    """Notes in quarantine: ``note``, ``reason``, ``raw``, ``at``."""
    by_meaning: list[tuple[str, float, str | None]] = field(default_factory=list)
    """Id, cosine and title of the items nearest by stored vectors."""
    by_behaviour: list[tuple[str, float, str | None]] = field(default_factory=list)
    """Id, cosine of co-occurrence and title of those nearest by interactions."""

    @property
    def cost_usd(self) -> float | None:
        """Cost of its stored notes in USD; None if that of any is unknown."""
        costs = [note.cost_usd for note in self.notes]
        return None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs)

    def to_json(self) -> dict[str, Any]:
        """Return what ``enhancer show --json`` prints."""
        return {
            "id": self.id,
            "kind": self.kind,
            "title": self.title,
            "text": self.text,
            "interactions": self.interactions,
            "notes": [{name: getattr(note, name) for name in NoteView.__dataclass_fields__} for note in self.notes],
            "cost_usd": self.cost_usd,
            "system": self.system,
            "prompt": self.prompt,
            "answers": self.answers,
            "quarantined": self.quarantined,
            "by_meaning": _neighbours(self.by_meaning),
            "by_behaviour": _neighbours(self.by_behaviour),
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each note."""
        return [{name: getattr(note, name) for name in NoteView.__dataclass_fields__} for note in self.notes]

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        named = f": {self.title}" if self.title else ""
        held = [f"In quarantine, {one['note']}: {one['reason']}" for one in self.quarantined]
        return [f"{self.kind} {self.id}{named}", self.text or "", *held]

    def html_rows(self) -> list[dict[str, Any]]:
        """See :meth:`enhancer.shown.Shown.html_rows`."""
        return [
            {"note": note.name, "text": note.text, "tags": note.tags, "current": note.current} for note in self.notes
        ]

    def html_more(self) -> str:
        """Return the neighbours, by meaning and by behaviour."""
        near = [("Nearest by meaning", self.by_meaning), ("Nearest by behaviour", self.by_behaviour)]
        return "".join(
            html_lines([title]) + html_table([{"id": i, "title": t, "similarity": s} for i, s, t in rows])
            for title, rows in near
            if rows
        )


def view_entity(parts: ProjectParts, given: str, kind: Kind = "item", *, neighbours: int = 5) -> EntityView:
    """Collect what is known about one entity. Calls no LLM and embeds nothing.

    Args:
        parts: The parts of the project.
        given: Id of the entity; for an item also its title.
        kind: Kind of the entity.
        neighbours: Number of neighbours of each sort.

    Raises:
        DataError: Neither a table nor the store nor the interactions know it, or several items have the title.
    """
    titles = parts.titles if kind == "item" else {}
    id_ = item_called(given, titles) if kind == "item" else given
    entity = next((entity for entity in parts.pipeline.entities(kind) if entity.id == id_), None)
    records = records_of(parts, kind, id_)
    count, by_behaviour = _by_behaviour(parts, id_, kind, neighbours)
    if entity is None and not records and count is None:
        near, other = did_you_mean(given, list(titles)[:_NEAR_IDS]), _other(kind)
        raise DataError(
            f"neither the tables nor the store have {kind} {given!r}",
            hint=f"{near}; a {other} is shown with --kind {other}" if near else f"is it a {other}? pass --kind {other}",
        )
    return EntityView(
        id=id_,
        kind=kind,
        title=titles.get(id_) or (None if entity is None else entity.title),
        text=None if entity is None else entity.text,
        interactions=count,
        by_meaning=_by_meaning(parts, id_, kind, neighbours),
        by_behaviour=[(one, score, titles.get(one)) for one, score in by_behaviour],
        **_about_notes(parts, entity, id_, kind, records),
    )


def _about_notes(
    parts: ProjectParts, entity: Entity | None, id_: str, kind: Kind, records: Sequence[Record]
) -> dict[str, Any]:
    """Return the fields about notes, prompt, answers and quarantine."""
    spec = parts.pipeline.spec(kind) if getattr(parts.settings.prompts, kind).source == "llm" else None
    prompts: dict[str, str] = {}
    hashes: dict[str, str] = {}
    system = ""
    if spec is not None:
        system = system_text([one.note for one in spec.notes])
    if spec is not None and entity is not None:
        for one in spec.notes:
            name = one.note.aspect or PROFILE
            prompts[name] = parts.pipeline.prompts(spec, [entity], one)[0]
            if spec.reviews is None:  # with notes on reviews, the hash is that of the reviews themselves
                hashes[name] = one.keys.of_all([prompts[name]])[0]
    notes = [record for record in records if holds_note(record.aspect)]
    asked = dict.fromkeys([*(record.input_hash for record in notes), *hashes.values()])
    names = {value: name for name, value in hashes.items()}
    names |= {record.input_hash: record.aspect or PROFILE for record in notes}
    aspects = [record.aspect for record in notes] + [one.note.aspect for one in (() if spec is None else spec.notes)]
    found = StoredAnswers.read(parts.store, kind, id_, list(asked), aspects)
    return {
        "notes": [_note(record, hashes) for record in notes],
        "system": system,
        "prompt": next(iter(prompts.values()), ""),
        "answers": _answers(found, names),
        "quarantined": [
            {"note": one.aspect or PROFILE, "reason": one.reason, "raw": one.raw, "at": one.at}
            for one in found.quarantined
        ],
    }


def _answers(found: StoredAnswers, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return each paid answer once, oldest first, with the notes that it answers."""
    by_number: dict[int, dict[str, Any]] = {}
    for input_hash, answers in found.answers.items():
        for one in answers:
            answer = by_number.setdefault(one.completion, {**one._asdict(), "notes": []})
            answer["notes"].append(names[input_hash])
    wanted = ("notes", "text", "model", "at", "finish_reason", "prompt_tokens", "completion_tokens", "cost_usd")
    return [{name: by_number[number][name] for name in wanted} for number in sorted(by_number)]


def _note(record: Record, hashes: dict[str, str]) -> NoteView:
    name = record.aspect or PROFILE
    known = record.prompt_tokens is not None and record.completion_tokens is not None
    return NoteView(
        name=name,
        text=record.profile,
        tags=record.tags,
        model=record.model,
        prompt_version=record.prompt_version,
        generated_at=record.generated_at,
        tokens=(record.prompt_tokens or 0) + (record.completion_tokens or 0) if known else None,
        cost_usd=record.cost_usd,
        confidence=record.confidence,
        current=None if name not in hashes else record.input_hash == hashes[name],
    )


def _by_meaning(parts: ProjectParts, id_: str, kind: Kind, k: int) -> list[tuple[str, float, str | None]]:
    """Return the items with the nearest vectors; none for a user, or without a vector."""
    settings = parts.settings
    if kind != "item":
        return []
    with contextlib.suppress(EnhancerError):
        inputs = settings.item_inputs(settings.inputs)
        samples = settings.prompts.item.samples
        return nearest_items(parts.store, id_, inputs, k, parts.titles, samples=samples).items
    return []


def _by_behaviour(parts: ProjectParts, id_: str, kind: Kind, k: int) -> tuple[int | None, list[tuple[str, float]]]:
    """Return the number of training interactions, and the nearest entities by the cosine of co-occurrence.

    The cosine is the number of common users (for users: items), divided by the square root of the product of both
    numbers of them.
    """
    if parts.settings.data.interactions is None:
        return None, []
    train = parts.split.train
    ids = train.item_ids if kind == "item" else train.user_ids
    row = next((row for row, known in enumerate(ids) if known == id_), None)
    if row is None:
        return None, []
    own, others = interaction_columns(train, kind)
    counts = np.bincount(own, minlength=len(ids))
    mine = np.unique(others[own == row])[:_COMPARED]
    common = np.bincount(own[np.isin(others, mine)], minlength=len(ids)).astype(np.float64)
    common[row] = 0
    cosines = common / np.sqrt(np.maximum(counts, 1) * max(int(counts[row]), 1))
    best = [int(one) for one in np.argsort(-cosines, kind="stable")[:k] if cosines[one] > 0]
    return int(counts[row]), [(ids[one], float(cosines[one])) for one in best]


def _neighbours(found: Sequence[tuple[str, float, str | None]]) -> list[dict[str, Any]]:
    return [{"id": id_, "similarity": score, "title": title} for id_, score, title in found]


def _other(kind: Kind) -> Kind:
    return "user" if kind == "item" else "item"
