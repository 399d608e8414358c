"""Find out in chunks which entities lack a current profile or vector. Nothing is remembered about any of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from enhancer.contracts.record import PROFILE_ASPECT, TEXT_ASPECT
from enhancer.features.kind_spec import CHUNK
from enhancer.features.stored_hash import is_current
from enhancer.harness.calls.cache_key import text_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enhancer.contracts.record import Stamp
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.features.kind_spec import KindSpec


class ToAsk(NamedTuple):
    """An entity without a current profile in the store."""

    id: str
    input_hash: str
    prompt: str
    empty: bool
    """Whether the entity has neither text nor anything from other tables; it is then not asked about."""


class ToEmbed(NamedTuple):
    """An entity without a current vector of its raw text."""

    id: str
    input_hash: str
    text: str
    changed: bool
    """Whether the text is new or changed; otherwise only the embedder has changed."""


@dataclass(slots=True)
class SurveyChunk:
    """Result of a survey of one chunk of entities."""

    spec: KindSpec
    ids: Sequence[str]
    """Ids of all entities of the chunk."""
    profiles: int = 0
    """Number of stored profiles, current or not."""
    texts: int = 0
    """Number of stored records of raw texts, current or not."""
    to_ask: list[ToAsk] = field(default_factory=list)
    to_reembed: list[str] = field(default_factory=list)
    """Ids of entities with a current profile and a vector of another embedder."""
    to_embed: list[ToEmbed] = field(default_factory=list)
    """Raw texts whose vector is missing, outdated or of another embedder."""
    empty_texts: list[ToEmbed] = field(default_factory=list)
    """Entities without text, if their kind has no profiles."""

    @property
    def entities(self) -> int:
        """Number of entities."""
        return len(self.ids)


def survey(spec: KindSpec, store: FeatureStore, embedder: str | None) -> Iterator[SurveyChunk]:
    """Compare the entities of one kind with the store, a chunk at a time.

    Args:
        spec: The entities, and how they are profiled and embedded.
        store: The stored records.
        embedder: Fingerprint of the embedder; None to ignore which embedder made a vector.
    """
    entities = iter(spec.entities())
    while chunk := list(islice(entities, CHUNK)):
        ids = [entity.id for entity in chunk]
        found = SurveyChunk(spec, ids)
        if spec.ask is not None:
            stamps = store.stamps(ids, kind=spec.kind, aspect=PROFILE_ASPECT)
            found.profiles = len(stamps) - stamps.count(None)
            _compare_profiles(found, chunk, stamps, embedder)
        if spec.embeds_text:
            stamps = store.stamps(ids, kind=spec.kind, aspect=TEXT_ASPECT)
            found.texts = len(stamps) - stamps.count(None)
            _compare_texts(found, chunk, stamps, embedder)
        yield found


def _compare_profiles(
    found: SurveyChunk, chunk: Sequence[Entity], stamps: Sequence[Stamp | None], embedder: str | None
) -> None:
    spec = found.spec
    assert spec.keys is not None
    prompts, shown = spec.prompts(chunk)
    hashes = spec.keys.of_all(prompts)
    # Nearly all records are current, so the fastest possible loop picks out the others.
    doubtful = [
        place
        for place, (stamp, input_hash) in enumerate(zip(stamps, hashes, strict=True))
        if stamp is None or stamp[0] != input_hash or stamp[1] != embedder
    ]
    for place in doubtful:
        stamp, input_hash, entity = stamps[place], hashes[place], chunk[place]
        if stamp is None or not is_current(stamp.input_hash, input_hash):
            empty = not shown[place] and not entity.text.strip()
            found.to_ask.append(ToAsk(entity.id, input_hash, prompts[place], empty))
        elif embedder is not None and stamp.embedder != embedder:
            found.to_reembed.append(entity.id)


def _compare_texts(
    found: SurveyChunk, chunk: Sequence[Entity], stamps: Sequence[Stamp | None], embedder: str | None
) -> None:
    for entity, stamp in zip(chunk, stamps, strict=True):
        input_hash = text_hash(entity.text)
        changed = stamp is None or stamp.input_hash != input_hash
        if not changed and (embedder is None or (stamp is not None and stamp.embedder == embedder)):
            continue
        row = ToEmbed(entity.id, input_hash, entity.text, changed)
        if not entity.text.strip():
            # A kind that also has profiles may lack text: that part of its row in the table stays zero.
            if found.spec.ask is None:
                found.empty_texts.append(row)
            continue
        found.to_embed.append(row)
