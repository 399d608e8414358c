"""Describe how the entities of one kind are profiled and embedded."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from enhancer.contracts.record import Kind
    from enhancer.data import Entity
    from enhancer.harness.answers.entity_task import PromptSpec
    from enhancer.harness.calls.cache_key import KeyMaker

CHUNK = 1024
"""Entities processed at once."""


@dataclass(frozen=True, slots=True)
class KindSpec:
    """Specification of how the entities of one kind are profiled and embedded."""

    kind: Kind
    entities: Callable[[], Iterable[Entity]]
    """Opens a stream of the entities."""
    ask: PromptSpec | None
    """Prompt template and answer validator; None if no profiles are wanted."""
    keys: KeyMaker | None
    """Computes the input hash of a prompt; None if no profiles are wanted."""
    embeds_text: bool
    """Whether the raw text is embedded."""
    context: Mapping[str, Callable[[Entity], str]] = field(default_factory=dict)
    """Renders what prompts show from other tables, such as ``history``, by the name of the placeholder."""

    def prompts(self, entities: Sequence[Entity]) -> tuple[list[str], list[bool]]:
        """Return the rendered prompt of each entity, and whether it shows anything from other tables."""
        assert self.ask is not None
        context = {name: [render(entity) for entity in entities] for name, render in self.context.items()}
        shown = [any(values) for values in zip(*context.values(), strict=True)] or [False] * len(entities)
        return self.ask.template.render_all(entities, context), shown

    def hashes(self, ids: Container[str] | None = None) -> Iterator[tuple[str, str]]:
        """Yield id and input hash of every entity, or of those whose id is in ``ids``."""
        assert self.keys is not None
        entities = (entity for entity in self.entities() if ids is None or entity.id in ids)
        while chunk := list(islice(entities, CHUNK)):
            yield from zip((entity.id for entity in chunk), self.keys.of_all(self.prompts(chunk)[0]), strict=True)
