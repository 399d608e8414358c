"""What is different between the tables and the store: fresh, new, changed and why, vanished. Looks; calls nothing."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from enhancer.contracts.record import PROFILE_ASPECT, TEXT_ASPECT
from enhancer.errors import StoreCorruptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from enhancer.contracts.record import Key, Kind, Record
    from enhancer.contracts.store import FeatureStore
    from enhancer.features.generating.survey import Surveyed

Reason = Literal["text", "template", "model", "embedder"]
REASONS: tuple[Reason, ...] = ("text", "template", "model", "embedder")
_EXAMPLES = 5
_CHUNK = 4096


@dataclass(slots=True)
class Difference:
    """One kind and aspect. ``fresh`` + ``stale`` + ``vanished`` are its records, damaged ones not counted."""

    kind: Kind
    aspect: str
    entities: int = 0
    """In the tables."""
    fresh: int = 0
    """Records that are as a run would make them now."""
    new: int = 0
    """Entities that have no record (or a damaged one) and shall have one."""
    stale: Counter[str] = field(default_factory=Counter)
    """Records by what changed: ``text`` (also a user's history, or how the model is asked), ``template``, ``model``;
    ``embedder`` where that alone changed: the vector is made again, without an LLM."""
    without_text: int = 0
    """Entities that there is nothing to describe by."""
    vanished: int = 0
    """Records whose entity is no longer in the tables."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """A few ids of each: ``new``, the reasons, ``vanished``."""

    @property
    def name(self) -> str:
        """``kind``, or ``kind/aspect``."""
        return f"{self.kind}/{self.aspect}" if self.aspect else self.kind

    def note(self, what: str, id_: str) -> None:
        """Keep an example."""
        known = self.examples.setdefault(what, [])
        if len(known) < _EXAMPLES:
            known.append(id_)

    def to_json(self) -> dict[str, Any]:
        """Every count, every reason there, and the examples."""
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


class KnownIds:
    """Ids seen, eight bytes each. Two ids of one hash are taken for one, which practically never happens."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sorted: NDArray[np.int64] | None = None

    def add(self, ids: Iterable[str]) -> None:
        """Remember ids."""
        self._hashes.extend(map(hash, ids))
        self._sorted = None

    def missing(self, ids: Sequence[str]) -> list[bool]:
        """For each id whether it was not seen."""
        import numpy as np

        if self._sorted is None:
            self._sorted = np.sort(np.frombuffer(self._hashes, np.int64)) if self._hashes else np.empty(0, np.int64)
        if not len(self._sorted):
            return [True] * len(ids)
        asked = np.fromiter(map(hash, ids), np.int64, len(ids))
        at = np.minimum(np.searchsorted(self._sorted, asked), len(self._sorted) - 1)
        missing: list[bool] = (self._sorted[at] != asked).tolist()
        return missing

    def vanished(self, store: FeatureStore, kind: Kind) -> Iterator[Key]:
        """Keys of a kind whose id was not seen."""
        keys = store.keys(kind=kind)
        while chunk := list(islice(keys, _CHUNK)):
            for key, gone in zip(chunk, self.missing([key.id for key in chunk]), strict=True):
                if gone:
                    yield key


class Differences:
    """Adds up what surveys find.

    Args:
        store: What is there.
        model: The model that is asked now.
    """

    def __init__(self, store: FeatureStore, model: str) -> None:
        self._store = store
        self._model = model
        self._found: dict[tuple[Kind, str], Difference] = {}
        self._known: dict[Kind, KnownIds] = {}
        self._there = 0
        """Records that surveys have come upon."""

    def all(self) -> tuple[Difference, ...]:
        """What was found, items first."""
        return tuple(self._found[key] for key in sorted(self._found))

    def look(self, found: Surveyed) -> None:
        """Take in one chunk of a survey."""
        work = found.work
        self._known.setdefault(work.kind, KnownIds()).add(found.ids)
        self._there += found.profiles + found.texts
        if work.ask is not None:
            one = self._of(work.kind, PROFILE_ASPECT)
            one.entities += found.entities
            stale = self._changed(one, {row.id: row.empty for row in found.to_ask}, work.ask.template.version)
            self._reembed(one, found.to_reembed)
            one.fresh += found.profiles - stale - len(found.to_reembed)
        if work.text:
            one = self._of(work.kind, TEXT_ASPECT)
            one.entities += found.entities
            one.without_text += len(found.empty_texts)
            stale = self._changed(one, {row.id: False for row in found.to_embed if row.changed}, None)
            stale += self._changed(one, {row.id: True for row in found.empty_texts}, None, counted=True)
            others = [row.id for row in found.to_embed if not row.changed]
            self._reembed(one, others)
            one.fresh += found.texts - stale - len(others)

    def vanish(self, kind: Kind, entities: Callable[[], Iterable[str]]) -> None:
        """Count records of a kind whose entity is gone.

        Args:
            kind: The kind.
            entities: Ids of the tables; asked where no survey has told them.
        """
        for key in self.vanished(kind, entities):
            one = self._of(key.kind, key.aspect)
            one.vanished += 1
            one.note("vanished", key.id)

    def vanished(self, kind: Kind, entities: Callable[[], Iterable[str]]) -> Iterator[Key]:
        """Keys of records of a kind whose entity is gone."""
        if self._store.count() == self._there:  # every record belongs to an entity of the tables
            return
        known = self._known.get(kind)
        if known is None:
            if next(self._store.keys(kind=kind), None) is None:
                return
            known = self._known[kind] = KnownIds()
            known.add(entities())
        yield from known.vanished(self._store, kind)

    def _of(self, kind: Kind, aspect: str) -> Difference:
        return self._found.setdefault((kind, aspect), Difference(kind, aspect))

    def _reembed(self, one: Difference, ids: Sequence[str]) -> None:
        if ids:
            one.stale["embedder"] += len(ids)
            for id_ in ids[:_EXAMPLES]:
                one.note("embedder", id_)

    def _changed(
        self, one: Difference, rows: Mapping[str, bool], template: str | None, *, counted: bool = False
    ) -> int:
        """Sort entities without a current record into new and changed; gives how many have an outdated one.

        Args:
            one: Where they are counted.
            rows: Ids, and of each whether it has no text.
            template: The template that is asked with now.
            counted: Whether those without text were counted before.
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
                    one.note("new", id_)
                continue
            stale += 1
            reason = self._reason(records[id_], template)
            one.stale[reason] += 1
            one.note(reason, id_)
        return stale

    def _records(self, one: Difference, ids: Sequence[str]) -> list[Record | None]:
        if one.aspect == TEXT_ASPECT or not ids:  # there is but one reason
            return [None] * len(ids)
        try:
            return self._store.get(ids, kind=one.kind, aspect=one.aspect)
        except StoreCorruptError:  # damaged between two looks
            return [None] * len(ids)

    def _reason(self, record: Record | None, template: str | None) -> Reason:
        if record is None:
            return "text"
        # A profile made elsewhere names no template.
        if template is not None and record.prompt_version and record.prompt_version != template:
            return "template"
        return "model" if record.model and record.model != self._model else "text"
