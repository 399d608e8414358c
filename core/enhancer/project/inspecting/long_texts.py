"""Count texts that are longer than the embedder reads, in a sample of the entities."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from enhancer.config.inputs import TEXT, aspect_of, stored_inputs, texts_of
from enhancer.evaluation.diagnosing.checks import DiagnosticCheck, percent
from enhancer.features.storing.records import embedding_text
from enhancer.project.notes.sample import drawn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enhancer.config.inputs import Input
    from enhancer.contracts.record import Kind
    from enhancer.data import Entity
    from enhancer.project.parts import ProjectParts

SAMPLE: Final = 1000
"""Entities of a kind that are looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LongTexts:
    """Texts of one input of one kind of entity."""

    kind: Kind
    name: Input
    """Input that is embedded: ``text``, ``profile``, ``plot+mood``."""
    texts: int
    """Texts looked at; those without a word are left out."""
    longer: list[str]
    """Ids of entities whose text is longer than the embedder reads."""

    @property
    def words(self) -> str:
        """Sentence for people."""
        if not self.longer:
            return f"the embedder reads all of the {self.texts:,} texts that were looked at"
        share = percent(len(self.longer) / self.texts)
        first = ", ".join(self.longer[:3]) + (", …" if len(self.longer) > 3 else "")
        count = f"{len(self.longer):,} of {self.texts:,} texts ({share})"
        return f"{count} are longer than the embedder reads, and their ends do not count: {first}"


def long_texts(parts: ProjectParts, *, stored: bool = True, draw: bool) -> Iterator[LongTexts]:
    """Yield the counts of each input that is embedded, as far as the embedder can tell without loading its model.

    Args:
        parts: The project.
        stored: Look at what is stored, too, not at raw text alone.
        draw: Draw the entities from all, instead of taking the first.
    """
    settings = parts.settings
    kinds: list[tuple[Kind, Sequence[Input]]] = [("item", settings.item_inputs(settings.inputs))]
    if settings.prompts.user.source == "llm":
        kinds.append(("user", settings.inputs))
    elif settings.prompts.user.source == "text":
        kinds.append(("user", [TEXT]))
    for kind, inputs in kinds:
        entities = parts.pipeline.entities(kind)
        some = drawn(entities, SAMPLE, settings.seed) if draw else list(islice(entities, SAMPLE))
        for name in stored_inputs(inputs):
            if not stored and name != TEXT:
                continue
            rows = zip(some, _texts(parts, kind, some, name), strict=True)
            texts = {entity.id: text for entity, text in rows if text.strip()}
            cut = parts.embedder.truncates(list(texts.values()))
            if texts and cut is not None:
                longer = [id_ for id_, one in zip(texts, cut, strict=True) if one]
                yield LongTexts(kind=kind, name=name, texts=len(texts), longer=longer)


def _texts(parts: ProjectParts, kind: Kind, entities: Sequence[Entity], name: Input) -> list[str]:
    """Return what is embedded of each entity; an empty text for what is not stored yet."""
    columns = []
    for text in texts_of(name):
        if text == TEXT:
            columns.append([entity.text for entity in entities])
            continue
        records = parts.read_store.get([entity.id for entity in entities], kind=kind, aspect=aspect_of(text))
        columns.append(["" if one is None else embedding_text(one.profile, one.tags) for one in records])
    return ["\n".join(part for one in row if (part := one.strip())) for row in zip(*columns, strict=True)]


def length_checks(parts: ProjectParts) -> Iterator[DiagnosticCheck]:
    """Yield a check of each input, for ``diagnose``."""
    for found in long_texts(parts, draw=True):
        yield DiagnosticCheck(
            topic="length",
            name=f"length of texts ({found.name})",
            kind=found.kind,
            level="fair" if found.longer else "good",
            words=found.words,
            source=found.name,
            values={"texts": found.texts, "longer": len(found.longer), "examples": found.longer[:10]},
        )
