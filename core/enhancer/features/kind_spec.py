"""Describe which notes of the entities of one kind are written, and what is embedded."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from enhancer.contracts.record import Kind
    from enhancer.data import Entity
    from enhancer.features.context.reviews import ReviewNotes
    from enhancer.features.row_memory import RowMemory
    from enhancer.harness.answers.entity_task import PromptSpec
    from enhancer.prompts import Template

    Renderers = Mapping[str, Callable[[Entity], str]]

CHUNK = 1024
"""Entities processed at once."""


def shows_nothing(_: Template) -> Renderers:
    """Return no renderers, for templates that show the entity's own table alone."""
    return {}


@dataclass(frozen=True, slots=True)
class KindSpec:
    """Specification of how the entities of one kind are profiled and embedded."""

    kind: Kind
    entities: Callable[[], Iterable[Entity]]
    """Opens a stream of the entities."""
    notes: tuple[PromptSpec, ...]
    """Notes that an LLM writes of each entity, those of each sample together; none if only the text is embedded."""
    embeds_text: bool
    """Whether the raw text is embedded."""
    context: Callable[[Template], Renderers] = shows_nothing
    """Returns what renders that which prompts of a template show from other tables, such as ``history``, by the name of
    the placeholder."""

    reviews: ReviewNotes | None = None
    """Reviews that prompts show, or notes on them; None if prompts show none."""

    memory: RowMemory | None = None
    """Rows that need not be read in full; None if no rows are remembered."""

    @property
    def shows_context(self) -> bool:
        """Whether any prompt shows anything from other tables."""
        return any(self.context(spec.note.template) for spec in self.notes)

    def prompts(self, entities: Sequence[Entity], spec: PromptSpec | None = None) -> tuple[list[str], list[bool]]:
        """Return the rendered prompt of each entity, and whether it shows anything from other tables.

        Args:
            entities: The entities.
            spec: The note; by default the first.
        """
        template = (spec or self.notes[0]).note.template
        renderers = self.context(template)
        context = {name: [render(entity) for entity in entities] for name, render in renderers.items()}
        shown = [any(values) for values in zip(*context.values(), strict=True)] or [False] * len(entities)
        return template.render_all(entities, context), shown

    def hashes(self, ids: Container[str] | None = None, spec: PromptSpec | None = None) -> Iterator[tuple[str, str]]:
        """Yield id and input hash of every entity, or of those whose id is in ``ids``.

        Args:
            ids: Ids of the entities; None for all.
            spec: The note; by default the first.
        """
        chosen = spec or self.notes[0]
        entities = (entity for entity in self.entities() if ids is None or entity.id in ids)
        while chunk := list(islice(entities, CHUNK)):
            hashes = chosen.keys.of_all(self.prompts(chunk, chosen)[0])
            yield from zip((entity.id for entity in chunk), hashes, strict=True)
