"""Make the specification of each kind of entity from the configuration."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from enhancer.config.inputs import all_texts, stored_inputs, texts_of
from enhancer.features.kind_spec import KindSpec
from enhancer.features.note_specs import UNUSED_REVIEWS, note_specs, review_notes
from enhancer.features.sources import resolve_inputs
from enhancer.features.storing.joint_texts import JointSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from enhancer.config.inputs import Input
    from enhancer.config.schema import Settings
    from enhancer.contracts.llm import LLMProvider
    from enhancer.contracts.record import Kind
    from enhancer.features.sources import Sources
    from enhancer.harness.answers.entity_task import PromptSpec

KINDS: tuple[Kind, ...] = ("item", "user")


class KindSpecs:
    """Makes specifications. Constructing it opens nothing.

    Args:
        settings: The configuration.
        root: Folder that relative paths are resolved against.
        sources: The entities.
        inputs: Inputs to store; by default ``[embedder] input``.
        warn: Gives a warning, once.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        sources: Sources,
        inputs: Collection[Input] | None,
        warn: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._root = root
        self._sources = sources
        self._warn = warn
        chosen = settings.joined_inputs(None) if inputs is None else tuple(inputs)
        self._inputs = all_texts(chosen)
        self._joint = tuple(name for name in stored_inputs(chosen) if len(texts_of(name)) > 1)

    @property
    def has_notes(self) -> bool:
        """Whether an LLM writes any notes."""
        return any(map(self._notes, KINDS))

    def make(self, provider: LLMProvider | None) -> list[KindSpec]:
        """Return the specification of each kind of which anything is stored.

        Args:
            provider: Tells what enters the hashes of requests; None if an LLM writes no notes.
        """
        specs = []
        for kind in KINDS:
            entities, names = self._sources.of(kind), self._notes(kind)
            embeds_text = "text" in self._needs(kind)
            if entities is None or not (names or embeds_text):
                continue
            notes: tuple[PromptSpec, ...] = ()
            reviews = None
            if names:
                assert provider is not None
                prompt, llm = getattr(self._settings.prompts, kind), self._settings.llm
                notes = note_specs(kind, prompt, names, llm, provider, self._root)
                if self._sources.reviews is not None and any(
                    "reviews" in one.note.template.context_names for one in notes
                ):
                    reviews = review_notes(prompt, llm, provider, self._root, self._sources.reviews)
            show = None if reviews is None else reviews.context.show
            spec = KindSpec(kind, entities, notes, embeds_text, partial(self._sources.shown_by, reviews=show), reviews)
            for one in notes:
                spec.context(one.note.template)  # raises an error here rather than at the first entity
            specs.append(spec)
            if kind == "item" and notes and reviews is None and self._sources.reviews is not None:
                self._warn(UNUSED_REVIEWS)
        return specs

    def joint(self) -> list[JointSpec]:
        """Return the joint texts of each kind that has notes of its own among their parts."""
        found = []
        for kind in KINDS:
            notes, entities = {*self._written(kind)}, self._sources.of(kind)
            names = tuple(name for name in self._joint if not notes.isdisjoint(texts_of(name)))
            if names and entities is not None:
                found.append(JointSpec(kind, entities, names))
        return found

    def _needs(self, kind: Kind) -> tuple[Input, ...]:
        if self._sources.of(kind) is None:
            return ()
        return resolve_inputs(getattr(self._settings.prompts, kind).source, self._inputs)

    def _notes(self, kind: Kind) -> list[Input]:
        """Return the notes that an LLM writes: those of the kind that any input consists of."""
        needs = self._needs(kind)
        return [name for name in self._written(kind) if name in needs]

    def _written(self, kind: Kind) -> tuple[Input, ...]:
        return (*self._settings.notes(kind), *self._settings.closed_notes(kind))
