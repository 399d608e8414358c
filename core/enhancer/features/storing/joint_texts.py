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
from enhancer.harness.embedding.outcomes import NoVector
from enhancer.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.record import Kind
    from enhancer.contracts.store import FeatureStore
    from enhancer.data import Entity
    from enhancer.harness.calls.cost_tracking import UsageTotals
    from enhancer.harness.embedding.outcomes import Encoder
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


def _joined(texts: Mapping[Input, Sequence[str]], name: Input, place: int) -> str:
    return "\n".join(text for part in texts_of(name) if (text := texts[part][place].strip()))


@dataclass(frozen=True, slots=True)
class EmbeddedJointTexts:
    """Outcome of the joint texts that were new or changed."""

    embedded: int
    failed: int
    """Entities with a joint text without a vector, all of whose parts have one. The text is in quarantine."""
    usage: UsageTotals | None
    """Tokens and cost of a remote embedder; None without one."""
    truncated: int = 0
    """Texts longer than the model reads."""


def embed_joint_texts(
    specs: Sequence[JointSpec], store: FeatureStore, texts: Encoder, journal: Journal, listener: Listener = silent
) -> EmbeddedJointTexts:
    """Embed and store the joint texts that are new or changed.

    Args:
        specs: The joint texts of each kind.
        store: The store of the parts, which receives the records.
        texts: Makes the vectors.
        journal: Keeps the quarantine of texts without a vector.
        listener: Called with progress: stage ``embed``.
    """
    done = 0
    failed: set[tuple[Kind, str]] = set()
    for spec in specs:
        outdated = (one for one in joint_texts(spec, store, texts.fingerprint) if one.is_outdated)
        while chunk := list(islice(outdated, texts.size)):
            outcomes = texts.encode([one.text for one in chunk])
            records = []
            for one, outcome in zip(chunk, outcomes, strict=True):
                if isinstance(outcome, NoVector):
                    parts = map(aspect_of, texts_of(one.name))
                    if not any(journal.quarantined(one.kind, [one.id], part) for part in parts):
                        failed.add((one.kind, one.id))
                    key = Key(one.kind, one.id, aspect_of(one.name))
                    journal.quarantine(key, one.input_hash, reason=outcome.reason, raw=one.text, transient=True)
                else:
                    records.append(_record(one, outcome, texts.fingerprint))
            _release(journal, [record.key for record in records])
            store.put(records)
            done += len(records)
            listener(Progress("embed", done, None, {}))
    return EmbeddedJointTexts(done, len(failed), texts.usage, texts.truncated)


def _release(journal: Journal, keys: Sequence[Key]) -> None:
    """Release joint texts from quarantine that have a vector now."""
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
