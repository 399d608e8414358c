"""Find out whether stored profiles were made from training interactions, or reviews of them, only.

A record's input hash covers the prompt, and so the history or the reviews in it. The prompts of the training split are
rendered again and hashed: an equal hash proves what the model was shown. A hash that a wider history, or more reviews,
give proves a leak. An imported profile proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING

from enhancer.features.stored_hash import ADOPTED, FALLBACK, LOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.features.kind_spec import KindSpec, Renderers
    from enhancer.harness.answers.entity_task import PromptSpec
    from enhancer.prompts import Template

_CHUNK = 4096
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Provenance:
    """Number of users with a stored note, by what their notes were made from: the least proven of each counts."""

    entities: int
    proven: int
    """Made from this split's training interactions only."""
    leaking: dict[str, int] = field(default_factory=dict)
    """Made from more interactions, by which, such as ``training and validation``."""
    adopted: int = 0
    """Imported."""
    unknown: int = 0
    """Made here from an input that this split does not give: another text, template, model or split."""
    examples: tuple[str, ...] = ()
    """Ids of those whose profiles are not proven, leaking ones first."""

    @property
    def unproven(self) -> int:
        """Number of those whose profile may show held-out interactions."""
        return self.entities - self.proven


def trace(
    spec: KindSpec,
    store: FeatureStore,
    ids: Sequence[str],
    wider: Mapping[str, Callable[[], Callable[[Template], Renderers]]],
) -> Provenance:
    """Find out what the stored profiles of a kind were made from.

    Args:
        spec: Specification of the kind under this split.
        store: The stored records.
        ids: Entities of the training split.
        wider: Makes renderers (see :attr:`KindSpec.context`) that show more than training interactions, by what they
            show. Called only if a profile is not proven.
    """
    trained = set(ids)
    entities: set[str] = set()
    imported: dict[str, None] = {}
    doubtful: list[dict[str, str]] = [{} for _ in spec.notes]
    for chunk, hashes_of in _expected(spec, ids):
        for note, unexplained in zip(spec.notes, doubtful, strict=True):
            expected = hashes_of(note)
            stamps = store.stamps(chunk, kind=spec.kind, aspect=note.note.aspect)
            for place, (id_, stamp) in enumerate(zip(chunk, stamps, strict=True)):
                if stamp is None or id_ not in trained:
                    continue
                entities.add(id_)
                made_from = stamp.input_hash.removeprefix(LOW).removeprefix(FALLBACK)
                if made_from.startswith(ADOPTED):
                    imported[id_] = None
                elif all(made_from != hashes[place] for hashes in expected):
                    unexplained[id_] = made_from
    for note, unexplained in zip(spec.notes, doubtful, strict=True):
        for id_ in _shown_nothing(spec, store, note, list(unexplained)):
            del unexplained[id_]
    leaking: dict[str, int] = {}
    leaking_ids: dict[str, None] = {}
    for name, make in wider.items():
        if not any(doubtful):
            break
        shown = replace(spec, context=make())
        found = dict.fromkeys(
            id_ for note, hashes in zip(spec.notes, doubtful, strict=True) for id_ in _matching(shown, note, hashes)
        )
        if found:
            leaking[name] = len(found)
        leaking_ids |= found
        for hashes in doubtful:
            for id_ in found:
                hashes.pop(id_, None)
    unknown = {id_: None for hashes in doubtful for id_ in hashes if id_ not in leaking_ids}
    adopted = [id_ for id_ in imported if id_ not in leaking_ids and id_ not in unknown]
    return Provenance(
        entities=len(entities),
        proven=len(entities) - len(leaking_ids) - len(unknown) - len(adopted),
        leaking=leaking,
        adopted=len(adopted),
        unknown=len(unknown),
        examples=tuple([*leaking_ids, *adopted, *unknown][:_EXAMPLES]),
    )


def _expected(
    spec: KindSpec, ids: Sequence[str]
) -> Iterator[tuple[list[str], Callable[[PromptSpec], list[list[str]]]]]:
    """Yield ids in chunks, and what returns the input hashes that a note of them may have, each in their order.

    The hashes of entities of the split that have no prompt are none.
    """
    known: set[str] = set()
    entities = iter(spec.entities())
    while chunk := list(islice(entities, _CHUNK)):
        known.update(entity.id for entity in chunk)
        yield [entity.id for entity in chunk], _hashes_of(spec, chunk)
    rest = [id_ for id_ in ids if id_ not in known]
    for start in range(0, len(rest), _CHUNK):
        yield rest[start : start + _CHUNK], lambda _: []


def _hashes_of(spec: KindSpec, chunk: Sequence[Entity]) -> Callable[[PromptSpec], list[list[str]]]:
    rendered: dict[str, list[str]] = {}

    def hashes(note: PromptSpec) -> list[list[str]]:
        # Notes of one template share their prompts, which are the larger part of the work.
        template = note.note.template.fingerprint
        if template not in rendered:
            rendered[template] = spec.prompts(chunk, note)[0]
        return [one.keys.of_all(rendered[template]) for one in (note, note.fallback) if one is not None]

    return hashes


def _shown_nothing(spec: KindSpec, store: FeatureStore, note: PromptSpec, ids: Sequence[str]) -> Iterator[str]:
    """Yield the ids whose note was made by a template that shows nothing from other tables."""
    if note.note.template.context_names:
        return
    harmless = {one.note.version for one in (note, note.fallback) if one is not None}
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        records = store.get(chunk, kind=spec.kind, aspect=note.note.aspect)
        for id_, record in zip(chunk, records, strict=True):
            if record is not None and record.prompt_version in harmless:
                yield id_


def _matching(spec: KindSpec, note: PromptSpec, hashes: Mapping[str, str]) -> list[str]:
    """Return the ids whose prompt has the stored hash."""
    asked = [one for one in (note, note.fallback) if one is not None and hashes]
    return [id_ for one in asked for id_, input_hash in spec.hashes(hashes, one) if input_hash == hashes[id_]]
