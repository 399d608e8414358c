"""What is to be done about each entity, found out in chunks and without remembering any of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from enhancer.contracts.record import PROFILE_ASPECT, TEXT_ASPECT, Kind
from enhancer.features.reading.provenance import is_current
from enhancer.harness.calls.cache_key import text_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from enhancer.contracts.record import Stamp
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.harness.answers.case import Ask
    from enhancer.harness.calls.cache_key import KeyMaker

CHUNK = 1024


class ToAsk(NamedTuple):
    """An entity without a current profile in the store."""

    id: str
    input_hash: str
    prompt: str
    empty: bool
    """Whether there is nothing to describe it by; then it is not asked about."""


class ToEmbed(NamedTuple):
    """An entity without a current vector of its raw text."""

    id: str
    input_hash: str
    text: str
    changed: bool
    """Whether the text is new, rather than the embedder."""


@dataclass(frozen=True, slots=True)
class Work:
    """How one kind of entity is treated."""

    kind: Kind
    entities: Callable[[], Iterable[Entity]]
    ask: Ask | None
    """How an LLM is asked; None when no profile is wanted."""
    keys: KeyMaker | None
    history: Callable[[Entity], str] | None
    text: bool
    """Whether the raw text is to be embedded."""

    def prompts(self, entities: Sequence[Entity]) -> tuple[list[str], Sequence[str]]:
        """The rendered prompt about each entity, and the history that it shows."""
        assert self.ask is not None
        past = [""] * len(entities) if self.history is None else [self.history(entity) for entity in entities]
        return self.ask.template.render_all(entities, past), past

    def hashes(self, ids: Container[str] | None = None) -> Iterator[tuple[str, str]]:
        """Id and input hash of every entity, or of those among ``ids``, as a stream."""
        assert self.keys is not None
        entities = (entity for entity in self.entities() if ids is None or entity.id in ids)
        while chunk := list(islice(entities, CHUNK)):
            yield from zip((entity.id for entity in chunk), self.keys.of_all(self.prompts(chunk)[0]), strict=True)


@dataclass(slots=True)
class Surveyed:
    """A chunk of entities, sorted out."""

    work: Work
    entities: int = 0
    ids: Sequence[str] = ()
    profiles: int = 0
    """Records of profiles that are there, current or not."""
    texts: int = 0
    """Likewise of raw texts."""
    to_ask: list[ToAsk] = field(default_factory=list)
    to_reembed: list[str] = field(default_factory=list)
    """Ids whose profile is current and whose vector is of another embedder."""
    to_embed: list[ToEmbed] = field(default_factory=list)
    """Raw texts, where the text counts: it changed, it is new, or the embedder changed."""
    empty_texts: list[ToEmbed] = field(default_factory=list)
    """Entities without any text, where the text alone counts."""


def survey(work: Work, store: FeatureStore, embedder: str | None) -> Iterator[Surveyed]:
    """Sort out the entities of one kind, a chunk at a time.

    Args:
        work: What they are and what is wanted of them.
        store: What is there.
        embedder: Fingerprint of the embedder; None when only contents are compared.
    """
    entities = iter(work.entities())
    while chunk := list(islice(entities, CHUNK)):
        ids = [entity.id for entity in chunk]
        found = Surveyed(work, len(chunk), ids)
        if work.ask is not None:
            stamps = store.stamps(ids, kind=work.kind, aspect=PROFILE_ASPECT)
            found.profiles = len(stamps) - stamps.count(None)
            _profiles(found, chunk, stamps, embedder)
        if work.text:
            stamps = store.stamps(ids, kind=work.kind, aspect=TEXT_ASPECT)
            found.texts = len(stamps) - stamps.count(None)
            _texts(found, chunk, stamps, embedder)
        yield found


def _profiles(found: Surveyed, chunk: Sequence[Entity], stamps: Sequence[Stamp | None], embedder: str | None) -> None:
    work = found.work
    assert work.keys is not None
    prompts, past = work.prompts(chunk)
    hashes = work.keys.of_all(prompts)
    # Nearly all are as they should be, and are passed over by the quickest loop that there is.
    doubtful = [
        place
        for place, (stamp, input_hash) in enumerate(zip(stamps, hashes, strict=True))
        if stamp is None or stamp[0] != input_hash or stamp[1] != embedder
    ]
    for place in doubtful:
        stamp, input_hash, entity = stamps[place], hashes[place], chunk[place]
        if stamp is None or not is_current(stamp.input_hash, input_hash):
            empty = not past[place] and not entity.text.strip()
            found.to_ask.append(ToAsk(entity.id, input_hash, prompts[place], empty))
        elif embedder is not None and stamp.embedder != embedder:
            found.to_reembed.append(entity.id)


def _texts(found: Surveyed, chunk: Sequence[Entity], stamps: Sequence[Stamp | None], embedder: str | None) -> None:
    for entity, stamp in zip(chunk, stamps, strict=True):
        input_hash = text_hash(entity.text)
        changed = stamp is None or stamp.input_hash != input_hash
        if not changed and (embedder is None or (stamp is not None and stamp.embedder == embedder)):
            continue
        row = ToEmbed(entity.id, input_hash, entity.text, changed)
        if not entity.text.strip():
            # Beside a profile the lack of text is no fault: that part of the row stays zero.
            if found.work.ask is None:
                found.empty_texts.append(row)
            continue
        found.to_embed.append(row)
