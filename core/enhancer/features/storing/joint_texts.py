"""Embed joint texts such as ``plot+mood``: the stored texts of an entity, one after another, as a record of their own.

Nothing is asked of an LLM. A joint text is embedded once its parts are stored, and again when any of them has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from enhancer.config.inputs import TEXT, aspect_of, texts_of
from enhancer.contracts.record import Record
from enhancer.features.storing.embedding_stage import CHUNK
from enhancer.features.storing.records import embedding_text
from enhancer.harness.calls.cache_key import text_hash
from enhancer.harness.clock import now
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.embedder import Embedder
    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.progress import Listener


@dataclass(frozen=True, slots=True)
class JointSpec:
    """The joint texts of one kind of entities."""

    kind: Kind
    entities: Callable[[], Iterable[Entity]]
    """Opens a stream of the entities."""
    names: tuple[Input, ...]
    """Names such as ``plot+mood``."""


State = Literal["fresh", "new", "text", "embedder", "without_text"]


class JointText(NamedTuple):
    """A joint text of an entity, and the state of its record."""

    kind: Kind
    id: str
    name: Input
    text: str
    """The parts that the entity has, one after another; empty if it has none."""
    input_hash: str
    state: State
    """``fresh``, ``new``, ``text`` (a part has changed), ``embedder`` (of another embedder), or ``without_text``."""

    @property
    def is_outdated(self) -> bool:
        """Whether it is to be embedded."""
        return self.state in ("new", "text", "embedder")


def joint_texts(
    spec: JointSpec, store: FeatureStore, embedder: str | None, *, chunk_size: int = 1024
) -> Iterator[JointText]:
    """Yield the joint texts of all entities of a kind.

    Args:
        spec: The entities, and the names of their joint texts.
        store: The stored records.
        embedder: Fingerprint of the embedder; None to ignore which embedder made a vector.
        chunk_size: Entities read at once.
    """
    entities = iter(spec.entities())
    parts = dict.fromkeys(text for name in spec.names for text in texts_of(name) if text != TEXT)
    while chunk := list(islice(entities, chunk_size)):
        ids = [entity.id for entity in chunk]
        texts = {part: _note_texts(store, spec.kind, ids, part) for part in parts}
        texts[TEXT] = [entity.text for entity in chunk]
        for name in spec.names:
            stamps = store.stamps(ids, kind=spec.kind, aspect=aspect_of(name))
            for place, stamp in enumerate(stamps):
                text = _joined(texts, name, place)
                input_hash = text_hash(text)
                state: State
                if not text:
                    state = "without_text"
                elif stamp is None:
                    state = "new"
                elif stamp.input_hash != input_hash:
                    state = "text"
                else:
                    state = "fresh" if embedder in (None, stamp.embedder) else "embedder"
                yield JointText(spec.kind, ids[place], name, text, input_hash, state)


def _note_texts(store: FeatureStore, kind: Kind, ids: Sequence[str], part: Input) -> list[str]:
    records = store.get(ids, kind=kind, aspect=aspect_of(part))
    return ["" if record is None else embedding_text(record.profile, record.tags) for record in records]


def _joined(texts: Mapping[Input, Sequence[str]], name: Input, place: int) -> str:
    return "\n".join(text for part in texts_of(name) if (text := texts[part][place].strip()))


def embed_joint_texts(
    specs: Sequence[JointSpec], store: FeatureStore, embedder: Embedder, listener: Listener = silent
) -> int:
    """Embed and store the joint texts that are new or changed; return their number.

    Args:
        specs: The joint texts of each kind.
        store: The store of the parts, which receives the records.
        embedder: Makes the vectors.
        listener: Called with progress: stage ``embed``.
    """
    done = 0
    for spec in specs:
        outdated = (one for one in joint_texts(spec, store, embedder.fingerprint) if one.is_outdated)
        while chunk := list(islice(outdated, CHUNK)):
            vectors = embedder.encode([one.text for one in chunk])
            store.put([_record(one, vector, embedder.fingerprint) for one, vector in zip(chunk, vectors, strict=True)])
            done += len(chunk)
            listener(Progress("embed", done, None, {}))
    return done


def _record(one: JointText, vector: NDArray[np.float32], embedder: str) -> Record:
    return Record(
        id=one.id,
        kind=one.kind,
        aspect=aspect_of(one.name),
        profile="",
        vector=np.ascontiguousarray(vector, np.float32),
        embedder=embedder,
        generated_at=now(),
        input_hash=one.input_hash,
    )
