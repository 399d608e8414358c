"""Count stored notes by aspect, and find all records of one entity."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from enhancer.config.inputs import PROFILE, TEXT, aspect_of, stored_inputs
from enhancer.contracts.record import holds_note

if TYPE_CHECKING:
    from enhancer.contracts.record import Kind, Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.project.parts import ProjectParts

LEVELS: Final = ("high", "medium", "low")
"""Levels of confidence that a record may have."""


@dataclass(slots=True)
class NoteCount:
    """Records of one kind and aspect that hold a note."""

    name: str
    """``kind`` for profiles, else ``kind/aspect``."""
    records: int = 0
    tokens: int | None = 0
    """Prompt and completion tokens; None if those of any record are unknown."""
    cost_usd: float | None = 0.0
    """Cost in USD; None if that of any record is unknown."""
    confidence: Counter[str] = field(default_factory=Counter)
    """Records by confidence; the empty one is that of records without any."""

    def add(self, record: Record) -> None:
        """Count a record."""
        known = record.prompt_tokens is not None and record.completion_tokens is not None
        own = (record.prompt_tokens or 0) + (record.completion_tokens or 0)
        self.records += 1
        self.tokens = self.tokens + own if known and self.tokens is not None else None
        both = self.cost_usd is not None and record.cost_usd is not None
        self.cost_usd = (self.cost_usd or 0) + (record.cost_usd or 0) if both else None
        self.confidence[record.confidence] += 1

    def to_json(self) -> dict[str, Any]:
        """Return the counts as JSON values."""
        return {**asdict(self), "confidence": {level: self.confidence[level] for level in LEVELS}}


def count_notes(store: FeatureStore) -> list[NoteCount]:
    """Return the counts of each kind and aspect that holds notes; reads every record."""
    found: dict[str, NoteCount] = {}
    for record in store.scan():
        if holds_note(record.aspect):
            name = f"{record.kind}/{record.aspect}" if record.aspect else record.kind
            found.setdefault(name, NoteCount(name)).add(record)
    return [found[name] for name in sorted(found)]


def records_of(parts: ProjectParts, kind: Kind, id_: str) -> list[Record]:
    """Return the records of one entity, of all aspects that the configuration names: notes first, then texts."""
    from enhancer.features import inputs_wanted

    prompt = getattr(parts.settings.prompts, kind)
    named = [PROFILE, *prompt.aspects, *prompt.closed_notes, TEXT, *inputs_wanted(parts.settings)]
    wanted = [aspect_of(name) for name in stored_inputs(named)]
    notes = [aspect for aspect in wanted if holds_note(aspect)]
    samples = [f"{aspect}#{sample}" for aspect in notes for sample in range(2, prompt.samples + 1)]
    texts = [aspect for aspect in wanted if not holds_note(aspect)]
    found = (parts.store.get([id_], kind=kind, aspect=aspect)[0] for aspect in (*notes, *samples, *texts))
    return [record for record in found if record is not None]
