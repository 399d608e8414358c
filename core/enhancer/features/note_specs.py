"""Turn ``[prompts.item]`` and ``[prompts.user]`` into the notes to ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from enhancer.config.inputs import PROFILE, is_closed_version, note_of
from enhancer.data import Entity
from enhancer.errors import ConfigError, did_you_mean
from enhancer.features.context.reviews import ReviewContext, ReviewNotes
from enhancer.harness.answers.answer_validator import AnswerValidator
from enhancer.harness.answers.entity_task import PromptSpec
from enhancer.harness.calls.cache_key import KeyMaker
from enhancer.prompts import Note, Template

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from enhancer.config.schema import LLMConfig, PromptConfig
    from enhancer.contracts.llm import LLMProvider
    from enhancer.contracts.record import Kind
    from enhancer.data.reviews.index import ReviewIndex
    from enhancer.prompts.request_text import Knowledge

UNUSED_REVIEWS = (
    "[data] reviews is set, but no template of [prompts.item] shows {{ reviews }}: profiles are written without them"
    " (template = 'item/reviews' shows them)"
)
"""Warning about a table of reviews that no prompt shows."""


def note_specs(
    kind: Kind, prompt: PromptConfig, names: Sequence[str], llm: LLMConfig, provider: LLMProvider, root: Path
) -> tuple[PromptSpec, ...]:
    """Return how each note of a kind is asked for.

    Args:
        kind: The kind.
        prompt: ``[prompts.KIND]``.
        names: Names of the notes, closed versions among them.
        llm: ``[llm]``.
        provider: The provider, whose endpoint and sampling options are part of the cache keys.
        root: Folder that paths of templates are resolved against.

    Raises:
        ConfigError: A template does not exist or is not valid, or lacks an aspect.
    """

    def knowledge(name: str) -> Knowledge:
        return "closed" if prompt.knowledge == "closed" or is_closed_version(name) else "open"

    def spec(note: Note, *, is_fallback: bool = False) -> PromptSpec:
        keys = KeyMaker(note, llm, endpoint=provider.endpoint, sampling=provider.sampling, sample=note.sample)
        fallback = None
        if note.knowledge == "open" and prompt.fallback is not None:
            fallback = spec(replace(note, knowledge=prompt.fallback), is_fallback=True)
        return PromptSpec(note, AnswerValidator.of(note), keys, fallback, is_fallback)

    notes = _by_template(kind, prompt, names, root)
    return tuple(
        spec(replace(note, knowledge=knowledge(note.name), sample=sample))
        for sample in range(1, prompt.samples + 1)
        for note in notes
    )


def review_notes(
    prompt: PromptConfig, llm: LLMConfig, provider: LLMProvider, root: Path, index: Callable[[], ReviewIndex]
) -> ReviewNotes:
    """Return the reviews that prompts of items show, and how notes on them are asked for.

    Args:
        prompt: ``[prompts.item]``.
        llm: ``[llm]``.
        provider: The provider, whose endpoint and sampling options are part of the cache keys.
        root: Folder that paths of templates are resolved against.
        index: Returns the reviews.

    Raises:
        ConfigError: The template of ``condense`` does not exist or is not valid, or shows anything but reviews.
    """
    template = Template.load(prompt.condense, root)
    if template.value_names != ("reviews",) or template.kind != "item" or template.aspects:
        raise ConfigError(
            f"[prompts.item] condense: template {template.name!r} must show {{{{ reviews }}}} alone, be of kind 'item'"
            " and ask for a profile",
            hint="item/condense is an example",
        )
    note = Note(template, PROFILE)
    keys = KeyMaker(note, llm, endpoint=provider.endpoint, sampling=provider.sampling)
    nothing = Entity(kind="item", id="", text="")
    context = ReviewContext(
        index, prompt, render=lambda lines: template.render(nothing, reviews=lines), hash_of=keys.of
    )
    return ReviewNotes(context, PromptSpec(note, AnswerValidator.of(note), keys))


def _by_template(kind: Kind, prompt: PromptConfig, names: Sequence[str], root: Path) -> list[Note]:
    shared = Template.load(prompt.template, root)
    notes = []
    for name in names:
        aspect = note_of(name)
        own = prompt.templates.get(aspect)
        template = shared if own is None else Template.load(own, root)
        # A template without aspects writes one text, which may be that of any aspect that has the template to itself.
        if aspect not in template.aspects and (template.aspects or (own is None and aspect != PROFILE)):
            raise _lacking(kind, prompt, template, aspect)
        notes.append(Note(template, name, alone=own is not None or prompt.calls == "each"))
    return notes


def _lacking(kind: Kind, prompt: PromptConfig, template: Template, name: str) -> ConfigError:
    table = f"[prompts.{kind}]"
    if not prompt.aspects:
        names = ", ".join(f'"{known}"' for known in template.aspects)
        return ConfigError(
            f"{table}: template {template.name!r} has no profile, and no aspects are chosen",
            hint=f"choose what to ask for: aspects = [{names}]",
        )
    if not template.aspects:
        return ConfigError(
            f"{table}: template {template.name!r} asks for a profile, not for {name!r}",
            hint=f"use a template with aspects, such as {kind}/v2, or give {name!r} one: templates = "
            f'{{{name} = "{name}.toml"}}',
        )
    return ConfigError(
        f"{table}: template {template.name!r} has no aspect {name!r}", hint=did_you_mean(name, template.aspects)
    )
