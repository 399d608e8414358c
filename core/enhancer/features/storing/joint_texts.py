"""Embed joint texts such as ``plot+mood``: the stored texts of an entity, one after another, as a record of their own.

Nothing is asked of an LLM. A joint text is embedded once its parts are stored, and again when any of them has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from enhancer.config.inputs import TEXT, aspect_of, stored_inputs, texts_of
from enhancer.contracts.record import Key, Record
from enhancer.features.storing.records import embedding_text
from enhancer.harness.calls.cache_key import text_hash
from enhancer.harness.clock import now
from enhancer.harness.embedding.outcomes import LaterVector, NoVector
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.harness.embedding.outcomes import Encoder, Outcome
    from enhancer.harness.journal.journal import Journal
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
    complete: bool
    """Whether the entity has all parts."""
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
                parts_of_it = [texts[part][place].strip() for part in texts_of(name)]
                text = "\n".join(filter(None, parts_of_it))
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
                yield JointText(spec.kind, ids[place], name, text, input_hash, all(parts_of_it), state)


def unnamed_joint_texts(store: FeatureStore, inputs: Sequence[Input]) -> Iterator[Key]:
    """Yield the keys of stored joint texts that no input consists of any longer.

    Args:
        store: The stored records.
        inputs: All inputs of the configuration, such as ``plot+mood`` or ``mean(plot,mood+text)``.
    """
    named = {aspect_of(name) for name in stored_inputs(inputs)}
    for key in store.keys():  # noqa: SIM118 - a store is no mapping
        if len(texts_of(key.aspect)) > 1 and key.aspect not in named:
            yield key


def _note_texts(store: FeatureStore, kind: Kind, ids: Sequence[str], part: Input) -> list[str]:
    records = store.get(ids, kind=kind, aspect=aspect_of(part))
    return ["" if record is None else embedding_text(record.profile, record.tags) for record in records]


class JointTexts:
    """Embedding of the joint texts that are new or changed, in one run.

    Args:
        specs: The joint texts of each kind.
        store: The store of the parts, which receives the records.
        journal: Keeps the quarantine of texts without a vector.
        embedder: Fingerprint of the embedder.

    Attributes:
        embedded: Number of joint texts that were embedded and stored.
    """

    def __init__(self, specs: Sequence[JointSpec], store: FeatureStore, journal: Journal, embedder: str) -> None:
        self._specs = specs
        self._store = store
        self._journal = journal
        self._embedder = embedder
        self._failed: set[tuple[Kind, str]] = set()
        self._tried: set[Key] = set()
        self.embedded = 0

    @property
    def failed(self) -> int:
        """Number of entities with a joint text without a vector, all of whose parts have one."""
        return len(self._failed)

    def chunks(self, size: int, *, complete: bool = False) -> Iterator[list[JointText]]:
        """Yield the joint texts to embed, in lists; those that have no vector only once.

        Args:
            size: Largest number of texts in a list.
            complete: Leave out those that lack a part, which is to be stored later.
        """
        for spec in self._specs:
            outdated = (
                one
                for one in joint_texts(spec, self._store, self._embedder)
                if one.is_outdated and (one.complete or not complete) and _key(one) not in self._tried
            )
            while chunk := list(islice(outdated, size)):
                yield chunk

    def settle(self, chunk: Sequence[JointText], outcomes: Sequence[Outcome]) -> None:
        """Store joint texts with their vectors, and put those that have none into quarantine."""
        records, later = [], []
        for one, outcome in zip(chunk, outcomes, strict=True):
            if isinstance(outcome, LaterVector):
                later.append(_key(one))
                continue
            if isinstance(outcome, NoVector):
                self._tried.add(_key(one))
                parts = map(aspect_of, texts_of(one.name))
                if not any(self._journal.quarantined(one.kind, [one.id], part) for part in parts):
                    self._failed.add((one.kind, one.id))
                reason = outcome.reason
                self._journal.quarantine(_key(one), one.input_hash, reason=reason, raw=one.text, transient=True)
            else:
                records.append(_record(one, outcome, self._embedder))
        _release(self._journal, [*later, *(record.key for record in records)])
        self._store.put(records)
        self.embedded += len(records)


def embed_joint_texts(joint: JointTexts, texts: Encoder, listener: Listener = silent) -> None:
    """Embed and store the joint texts that are new or changed.

    Args:
        joint: The joint texts.
        texts: Makes the vectors.
        listener: Called with progress: stage ``embed``.
    """
    for chunk in joint.chunks(texts.size):
        joint.settle(chunk, texts.encode([one.text for one in chunk]))
        listener(Progress("embed", joint.embedded, None, {}))


def _key(one: JointText) -> Key:
    return Key(one.kind, one.id, aspect_of(one.name))


def _release(journal: Journal, keys: Sequence[Key]) -> None:
    """Release joint texts from quarantine that have a vector now, or may have one later."""
    for aspect in dict.fromkeys(key.aspect for key in keys):
        for kind in dict.fromkeys(key.kind for key in keys):
            ids = [key.id for key in keys if (key.kind, key.aspect) == (kind, aspect)]
            known = journal.quarantined(kind, ids, aspect)
            if known:
                pairs = [(Key(kind, id_, aspect), one.input_hash) for id_, one in known.items()]
                journal.release_quarantine(pairs, forget_answers=False).result()


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
