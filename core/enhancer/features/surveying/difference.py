"""Count how the tables differ from the store: fresh, new, stale (and why) and vanished records."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from enhancer.contracts.record import TEXT_ASPECT
from enhancer.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts.record import Key, Kind, Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.storing.joint_texts import JointText
    from enhancer.features.surveying.survey import SurveyChunk

Reason = Literal["text", "template", "model", "embedder"]
REASONS: tuple[Reason, ...] = ("text", "template", "model", "embedder")
_EXAMPLES = 5
_CHUNK = 4096


@dataclass(slots=True)
class Difference:
    """Counts for one kind and aspect. ``fresh + stale + vanished`` are its intact records."""

    kind: Kind
    aspect: str
    entities: int = 0
    """Entities in the tables."""
    fresh: int = 0
    """Records that are current."""
    new: int = 0
    """Entities without an intact record, to be generated."""
    stale: Counter[str] = field(default_factory=Counter)
    """Outdated records by what changed: ``text`` (or a user's history, an item's reviews, or a sampling parameter),
    ``template``, ``model``, or ``embedder`` if nothing else did: the vector is made again without an LLM."""
    without_text: int = 0
    """Entities with neither text nor history."""
    vanished: int = 0
    """Records whose entity is not in the tables."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """A few ids for ``new``, each reason, and ``vanished``."""

    @property
    def name(self) -> str:
        """``kind``, or ``kind/aspect``."""
        return f"{self.kind}/{self.aspect}" if self.aspect else self.kind

    def add_example(self, what: str, id_: str) -> None:
        """Keep an id as an example, unless there are enough."""
        known = self.examples.setdefault(what, [])
        if len(known) < _EXAMPLES:
            known.append(id_)

    def to_json(self) -> dict[str, Any]:
        """Return all counts and examples."""
        return {
            "kind": self.kind,
            "aspect": self.aspect,
            "entities": self.entities,
            "fresh": self.fresh,
            "new": self.new,
            "stale": {reason: self.stale[reason] for reason in REASONS},
            "without_text": self.without_text,
            "vanished": self.vanished,
            "examples": self.examples,
        }


class IdSet:
    """Set of ids that takes eight bytes for each. Two ids with equal 64-bit hashes count as one."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sorted: NDArray[np.int64] | None = None

    def add(self, ids: Iterable[str]) -> None:
        """Add ids."""
        self._hashes.extend(map(hash, ids))
        self._sorted = None

    def missing(self, ids: Sequence[str]) -> list[bool]:
        """Return for each id whether it is missing from the set."""
        import numpy as np

        if self._sorted is None:
            self._sorted = np.sort(np.frombuffer(self._hashes, np.int64)) if self._hashes else np.empty(0, np.int64)
        if not len(self._sorted):
            return [True] * len(ids)
        asked = np.fromiter(map(hash, ids), np.int64, len(ids))
        at = np.minimum(np.searchsorted(self._sorted, asked), len(self._sorted) - 1)
        missing: list[bool] = (self._sorted[at] != asked).tolist()
        return missing

    def keys_outside(self, store: FeatureStore, kind: Kind) -> Iterator[Key]:
        """Yield the keys of a kind in the store whose id is missing from the set."""
        keys = store.keys(kind=kind)
        while chunk := list(islice(keys, _CHUNK)):
            for key, gone in zip(chunk, self.missing([key.id for key in chunk]), strict=True):
                if gone:
                    yield key


class DifferenceCounter:
    """Counts differences from the chunks of a survey.

    Args:
        store: The store that is surveyed.
        model: Name of the configured model.
    """

    def __init__(self, store: FeatureStore, model: str) -> None:
        self._store = store
        self._model = model
        self._found: dict[tuple[Kind, str], Difference] = {}
        self._ids: dict[Kind, IdSet] = {}
        self._records_seen = 0

    def results(self) -> tuple[Difference, ...]:
        """Return the counts, items first."""
        return tuple(self._found[key] for key in sorted(self._found))

    def add(self, found: SurveyChunk) -> None:
        """Count one chunk of a survey."""
        spec = found.spec
        self._ids.setdefault(spec.kind, IdSet()).add(found.ids)
        self._records_seen += sum(found.stored.values())
        for note in (each.note for each in spec.notes):
            one = self._of(spec.kind, note.aspect)
            one.entities += found.entities
            rows = {row.id: row for row in found.to_ask if row.spec.note.aspect == note.aspect}
            versions = {id_: row.spec.note.version for id_, row in rows.items()}
            stale = self._count_changed(one, {id_: row.empty for id_, row in rows.items()}, versions)
            others = found.to_reembed.get(note.aspect, [])
            self._count_reembeds(one, others)
            one.fresh += found.stored[note.aspect] - stale - len(others)
        if spec.embeds_text:
            one = self._of(spec.kind, TEXT_ASPECT)
            one.entities += found.entities
            one.without_text += len(found.empty_texts)
            stale = self._count_changed(one, {row.id: False for row in found.to_embed if row.changed}, None)
            stale += self._count_changed(one, {row.id: True for row in found.empty_texts}, None, counted=True)
            others = [row.id for row in found.to_embed if not row.changed]
            self._count_reembeds(one, others)
            one.fresh += found.stored[TEXT_ASPECT] - stale - len(others)

    def add_joint(self, one: JointText) -> None:
        """Count one joint text, whose parts have been counted by :meth:`add`."""
        found = self._of(one.kind, one.name)
        found.entities += 1
        self._records_seen += one.state in ("fresh", "text", "embedder")
        if one.state == "fresh":
            found.fresh += 1
        elif one.state == "new":
            found.new += 1
            found.add_example("new", one.id)
        elif one.state == "without_text":
            found.without_text += 1
        else:
            found.stale[one.state] += 1
            found.add_example(one.state, one.id)

    def count_vanished(self, kind: Kind, ids: Callable[[], Iterable[str]]) -> None:
        """Count the records of a kind whose entity is not in the tables.

        Args:
            kind: The kind.
            ids: Reads the ids of the tables; called if no chunk of the kind was added.
        """
        for key in self.vanished(kind, ids):
            one = self._of(key.kind, key.aspect)
            one.vanished += 1
            one.add_example("vanished", key.id)

    def vanished(self, kind: Kind, ids: Callable[[], Iterable[str]]) -> Iterator[Key]:
        """Yield the keys of records of a kind whose entity is not in the tables; see :meth:`count_vanished`."""
        if self._store.count() == self._records_seen:  # every record belongs to an entity of the tables
            return
        known = self._ids.get(kind)
        if known is None:
            if next(self._store.keys(kind=kind), None) is None:
                return
            known = self._ids[kind] = IdSet()
            known.add(ids())
        yield from known.keys_outside(self._store, kind)

    def _of(self, kind: Kind, aspect: str) -> Difference:
        return self._found.setdefault((kind, aspect), Difference(kind, aspect))

    def _count_reembeds(self, one: Difference, ids: Sequence[str]) -> None:
        if ids:
            one.stale["embedder"] += len(ids)
            for id_ in ids[:_EXAMPLES]:
                one.add_example("embedder", id_)

    def _count_changed(
        self,
        one: Difference,
        rows: Mapping[str, bool],
        versions: Mapping[str, str] | None,
        *,
        counted: bool = False,
    ) -> int:
        """Count entities without a current record as new or stale; return the number of outdated records.

        Args:
            one: The counts to add to.
            rows: Ids, and whether each lacks text.
            versions: Version of the configured prompt of each id; None for raw texts.
            counted: Whether entities without text are counted already.
        """
        stale = 0
        ids = list(rows)
        stamps = self._store.stamps(ids, kind=one.kind, aspect=one.aspect) if ids else []
        old = [id_ for id_, stamp in zip(ids, stamps, strict=True) if stamp is not None]
        records = dict(zip(old, self._records(one, old), strict=True))
        for id_, empty in rows.items():
            if empty and not counted:
                one.without_text += 1
            if id_ not in records:
                if not empty:
                    one.new += 1
                    one.add_example("new", id_)
                continue
            stale += 1
            reason = self._reason(records[id_], None if versions is None else versions[id_])
            one.stale[reason] += 1
            one.add_example(reason, id_)
        return stale

    def _records(self, one: Difference, ids: Sequence[str]) -> list[Record | None]:
        if one.aspect == TEXT_ASPECT or not ids:  # a raw text has only one reason to be stale
            return [None] * len(ids)
        try:
            return self._store.get(ids, kind=one.kind, aspect=one.aspect)
        except StoreCorruptError:  # damaged since the stamps were read
            return [None] * len(ids)

    def _reason(self, record: Record | None, template: str | None) -> Reason:
        if record is None:
            return "text"
        # An imported profile names no template.
        if template is not None and record.prompt_version and record.prompt_version != template:
            return "template"
        return "model" if record.model and record.model != self._model else "text"
