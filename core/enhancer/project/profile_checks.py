"""Check profiles and vectors before training: their health, and whether they leak held-out interactions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from enhancer.config.inputs import PROFILE, TEXT, all_texts, aspect_of, averaged, texts_of
from enhancer.errors import ConfigError, EvaluationError
from enhancer.evaluation.diagnosing.checks import DiagnosticCheck
from enhancer.evaluation.diagnosing.diagnosis import DiagnosisInput, diagnose
from enhancer.evaluation.diagnosing.leaks import leak_evidence
from enhancer.evaluation.diagnosing.note_checks import note_checks
from enhancer.evaluation.diagnosing.wording import ProfileAndText
from enhancer.evaluation.measuring.views import Views
from enhancer.features import Sources, feature_table
from enhancer.features.reading.table import input_vectors
from enhancer.features.storing.records import embedding_text
from enhancer.features.surveying.provenance import trace
from enhancer.project.inspecting.long_texts import length_checks
from enhancer.project.notes.sample import sampled_notes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from enhancer.config.inputs import Input
    from enhancer.contracts.record import Kind
    from enhancer.data import Entity, Interactions
    from enhancer.data.reviews.index import Part
    from enhancer.evaluation.diagnosing.checks import Level
    from enhancer.evaluation.diagnosing.diagnosis import Diagnosis
    from enhancer.evaluation.diagnosing.leaks import LeakEvidence
    from enhancer.features.kind_spec import Renderers
    from enhancer.features.surveying.provenance import Provenance
    from enhancer.project.parts import ProjectParts
    from enhancer.prompts import Template

_CHUNK = 512
"""Profiles read from the store in one call."""
_log = logging.getLogger(__name__)
_ALLOWED = "allowed by [evaluation] allow_leaks"
_TEXT_HINT = (
    'set [prompts.user] source = "llm", which writes profiles from training interactions alone, or "pool"; remove the '
    "column from [data.columns] user_text; or, if you know that no text was written from held-out interactions, set "
    "[evaluation] allow_leaks = true"
)
_HINT = (
    "run `enhancer generate`, which writes them from this split's training interactions; or set [prompts.user] "
    'source = "pool"; or, if you know that they were written from training interactions alone, set '
    "[evaluation] allow_leaks = true"
)
_REVIEW_HINT = (
    "run `enhancer generate`, which writes them from the reviews of this split's training interactions; or, if you know"
    " that they were written without reviews of held-out interactions, set [evaluation] allow_leaks = true"
)


def diagnose_profiles(parts: ProjectParts, asked: Sequence[DiagnosticCheck] = ()) -> Diagnosis:
    """Examine profiles and vectors before training.

    Args:
        parts: The project.
        asked: Further checks, for which an LLM was asked.

    Raises:
        ConfigError: No kind of entity has a profile or text.
        StoreError: The store has no vectors of items.
    """
    settings, split = parts.settings, parts.split
    inputs = []
    for kind in ("item", "user"):
        source = getattr(settings.prompts, kind).source
        if source not in ("llm", "text"):
            continue
        ids = split.train.item_ids if kind == "item" else split.train.user_ids
        vectors = _vectors(parts, kind, ids)
        if kind == "item" and not any(table.any() for table in vectors.values()):
            parts.features(settings.inputs)  # raises the error that says which vectors are missing
        names = (*settings.notes(kind), *settings.closed_notes(kind))
        notes = {name: _notes_and_texts(parts, kind, name) for name in names}
        profiles = notes.pop(PROFILE, None)
        present = _present(parts, kind, ids)
        inputs.append(
            DiagnosisInput(kind=kind, ids=ids, vectors=vectors, present=present, profiles=profiles, notes=notes)
        )
    if not inputs:
        raise ConfigError("there is nothing to diagnose: no entity has a profile or a text", hint="see [prompts.item]")
    more = [check for notes in sampled_notes(parts) for check in note_checks(notes, seed=settings.seed)]
    more += [*length_checks(parts), *asked, *_leak_check(parts)]
    return diagnose(inputs, Views(split), pool=parts.semantics.pool, more_checks=more, seed=settings.seed)


def refuse_leaks(parts: ProjectParts, inputs: Collection[Input]) -> dict[str, str]:
    """Raise an error if profiles may have been written from held-out interactions, or from reviews of them.

    The provenance of users' own texts is unknown. They are accepted unless their vectors show a leak. With
    ``[evaluation] allow_leaks`` a leak is a warning.

    Args:
        parts: The project that is to be trained.
        inputs: Inputs that its vectors come from.

    Returns:
        Rows for the report about the provenance of profiles; empty if users have none of their own, and those of
        items show no reviews.

    Raises:
        EvaluationError: Profiles are not proven to be made from this split's training interactions alone, or the
            vectors of texts show held-out interactions.
    """
    rows = _refuse_leaking_reviews(parts) if set(inputs) - {"text"} else {}
    return rows | _refuse_leaking_users(parts, inputs)


def _refuse_leaking_reviews(parts: ProjectParts) -> dict[str, str]:
    found = _review_provenance(parts)
    if found is None or not found.entities:
        return {}
    if found.unproven:
        return _refuse_or_warn(parts, "profiles of items", _review_words(found), _REVIEW_HINT)
    if not parts.reviews.report.has_users:  # they are not read unless leaks are allowed
        return _refuse_or_warn(parts, "profiles of items", parts.reviews.report.lines()[0], _REVIEW_HINT)
    return {"profiles of items": "made from reviews of training interactions alone"}


def _refuse_leaking_users(parts: ProjectParts, inputs: Collection[Input]) -> dict[str, str]:
    if parts.settings.prompts.user.source == "text":
        return _refuse_leaking_texts(parts, inputs)
    own = {*parts.settings.notes("user"), *parts.settings.closed_notes("user")}
    found = None if own.isdisjoint(all_texts(list(inputs))) else _provenance(parts)
    if found is None or not found.entities:
        return {}
    if not found.unproven:
        return {"profiles of users": "made from training interactions alone"}
    words = f"profiles of users may show held-out interactions: {_origin_words(found)}"
    if (evidence := _profile_evidence(parts)) is not None:
        words += f"; {evidence.words}"
    return _refuse_or_warn(parts, "profiles of users", words, _HINT)


def _refuse_leaking_texts(parts: ProjectParts, inputs: Collection[Input]) -> dict[str, str]:
    if not inputs:
        return {}
    evidence = _text_evidence(parts, inputs)
    if evidence is None:
        why = "too few users have a vector and interactions in all three splits for a check"
        return {"texts of users": f"texts of users are accepted as they are: {why}"}
    words = _text_words(evidence)
    return _refuse_or_warn(parts, "texts of users", words, _TEXT_HINT) if evidence.leaks else {"texts of users": words}


def _refuse_or_warn(parts: ProjectParts, subject: str, words: str, hint: str) -> dict[str, str]:
    if not parts.settings.evaluation.allow_leaks:
        raise EvaluationError(words, hint=hint)
    _log.warning("%s; %s", words, _ALLOWED)
    return {subject: f"{words} ({_ALLOWED})"}


def _leak_check(parts: ProjectParts) -> list[DiagnosticCheck]:
    """Return the diagnosis of leaks; empty if users have no profiles or texts, and prompts of items show no reviews."""
    return [*_review_check(parts), *_user_check(parts)]


def _review_check(parts: ProjectParts) -> list[DiagnosticCheck]:
    found = _review_provenance(parts)
    if found is None or not found.entities:
        return []
    report = parts.reviews.report
    values: dict[str, float | None] = {"items": found.entities, **_counts(found)}
    values |= {"reviews": report.training, "held_out": report.held_out}
    level: Level = "good"
    if found.unproven:
        level = "fair" if parts.settings.evaluation.allow_leaks and not found.leaking else "poor"
        words = _review_words(found)
    elif report.has_users:
        words = (
            f"no note on the {found.entities:,} items that have one shows reviews of held-out interactions;"
            f" {report.held_out:,} of {report.rows:,} reviews are of held-out ones and were left out"
        )
    else:
        level, words = "fair", report.lines()[0]
    return [DiagnosticCheck(topic="leak", name="leak", kind="item", level=level, words=words, values=values)]


def _user_check(parts: ProjectParts) -> list[DiagnosticCheck]:
    if parts.settings.prompts.user.source == "text":
        return _text_check(parts)
    found = _provenance(parts)
    if found is None or not found.entities:
        return []
    values: dict[str, float | None] = {"users": found.entities, **_counts(found)}
    if not found.unproven:
        words = f"all {found.entities:,} profiles of users were made from this split's training interactions"
        return [DiagnosticCheck(topic="leak", name="leak", kind="user", level="good", words=words, values=values)]
    words = f"profiles of users may show held-out interactions: {_origin_words(found)}"
    evidence = _profile_evidence(parts)
    if evidence is not None:
        words += f"; {evidence.words}"
        values |= _values(evidence)
    certain = bool(found.leaking) or (evidence is not None and evidence.seen_split is not None)
    level: Level = "fair" if parts.settings.evaluation.allow_leaks and not certain else "poor"
    return [DiagnosticCheck(topic="leak", name="leak", kind="user", level=level, words=words, values=values)]


def _text_check(parts: ProjectParts) -> list[DiagnosticCheck]:
    evidence = _text_evidence(parts, parts.settings.inputs)
    if evidence is None:
        return []
    # Without a sign of a leak the level is still no better than fair: that proves nothing.
    level: Level = "poor" if evidence.leaks else "fair"
    words, values = _text_words(evidence), _values(evidence)
    return [DiagnosticCheck(topic="leak", name="leak", kind="user", level=level, words=words, values=values)]


def _counts(found: Provenance) -> dict[str, float | None]:
    return {
        "proven": found.proven,
        "adopted": found.adopted,
        "unknown": found.unknown,
        "leaking": sum(found.leaking.values()),
    }


def _values(evidence: LeakEvidence) -> dict[str, float | None]:
    return {"train": evidence.train, "validation": evidence.validation, "test": evidence.test, "p": evidence.p}


def _text_words(evidence: LeakEvidence) -> str:
    if evidence.leaks:
        return f"texts of users may show held-out interactions: {evidence.words}"
    return f"texts of users are accepted as they are: {evidence.words}"


def _review_words(found: Provenance) -> str:
    return f"profiles of items may show reviews of held-out interactions: {_origin_words(found, 'items')}"


def _origin_words(found: Provenance, kind: str = "users") -> str:
    reasons = [f"{count:,} were made from {name}" for name, count in found.leaking.items()]
    if found.adopted:
        reasons.append(f"{found.adopted:,} were imported, and their source is unknown")
    if found.unknown:
        reasons.append(f"{found.unknown:,} were made from another input than this split gives")
    return (
        f"of {found.entities:,} profiles of {kind}, {' and '.join(reasons)} (for example {', '.join(found.examples)})"
    )


def _text_evidence(parts: ProjectParts, inputs: Collection[Input]) -> LeakEvidence | None:
    """Compare vectors of users' texts with those of items; of several inputs, return one that shows a leak."""
    split, views = parts.split, Views(parts.split)
    users = feature_table(parts.read_store, split.train.user_ids, "user", ["text"])
    found = []
    for name in inputs:
        items = feature_table(parts.read_store, split.train.item_ids, "item", parts.settings.item_inputs([name]))
        if users.size and users.shape[1] == items.shape[1]:
            evidence = leak_evidence(users, items, views, parts.semantics.pool(items))
            found += [] if evidence is None else [evidence]
    return max(found, key=lambda one: (one.seen_split is not None, one.seen_all), default=None)


def _profile_evidence(parts: ProjectParts) -> LeakEvidence | None:
    """Compare vectors of user profiles with those of items, from profiles or texts; None if either has none."""
    split = parts.split
    users = feature_table(parts.read_store, split.train.user_ids, "user", ["profile"])
    items = feature_table(parts.read_store, split.train.item_ids, "item", parts.settings.item_inputs(["profile"]))
    if not users.size or users.shape[1] != items.shape[1]:
        return None
    return leak_evidence(users, items, Views(split))


def _provenance(parts: ProjectParts) -> Provenance | None:
    """Trace what user profiles were made from; None if no LLM writes them."""
    settings = parts.settings
    if settings.prompts.user.source != "llm":
        return None
    spec = parts.pipeline.spec("user")
    if spec is None:
        return None

    def history(interactions: Callable[[], Interactions]) -> Callable[[], Callable[[Template], Renderers]]:
        return lambda: (
            Sources.from_settings(settings, parts.root, train=interactions, titles=lambda: parts.titles).shown_by
        )

    wider = {
        "training and validation": history(lambda: _without_test(parts)),
        "all interactions": history(lambda: parts.interactions),
    }
    return trace(spec, parts.read_store, parts.split.train.user_ids, wider if spec.shows_context else {})


def _review_provenance(parts: ProjectParts) -> Provenance | None:
    """Trace what item profiles were made from; None if there are no reviews, or no LLM writes profiles of items."""
    settings = parts.settings
    if settings.data.reviews is None or settings.prompts.item.source != "llm":
        return None
    spec = parts.pipeline.spec("item")
    if spec is None:
        return None
    wider: dict[str, Callable[[], Callable[[Template], Renderers]]] = {}
    reviews = spec.reviews
    if reviews is not None:

        def shown(widest: Part) -> Callable[[], Callable[[Template], Renderers]]:
            show = reviews.context.widened(("train", "validation", widest)).show
            return lambda: lambda template: parts.pipeline.shown_by(template, show)

        wider = {
            "reviews of training and validation": shown("validation"),
            "reviews of all interactions": shown("test"),
        }
    return trace(spec, parts.read_store, parts.split.train.item_ids, wider)


def _without_test(parts: ProjectParts) -> Interactions:
    """Return all interactions except those of the test split, in file order."""
    interactions, test = parts.interactions, parts.split.test
    width = len(interactions.item_ids)

    def keys(part: Interactions) -> NDArray[np.int64]:
        return part.users.astype(np.int64) * width + part.items

    return interactions.take(~np.isin(keys(interactions), keys(test)))


def _vectors(parts: ProjectParts, kind: Kind, ids: list[str]) -> dict[str, NDArray[np.float32]]:
    """Return the stored vectors by input; those that are trained on come first, even if there are none."""
    found: dict[str, NDArray[np.float32]] = {}
    settings = parts.settings
    trained = _trained(parts, kind)
    candidates = [*((trained,) if trained else ()), settings.inputs]
    candidates += [*((name,) for name in settings.notes("item")), ("text",)]
    candidates += [(name,) for name in settings.closed_notes(kind)]
    for names in dict.fromkeys(tuple(settings.item_inputs(c)) if kind == "item" else c for c in candidates):
        table = feature_table(parts.read_store, ids, kind, names, parts.embedder.fingerprint)
        if table.any() or names == trained:
            found[" + ".join(names)] = table
    return found


def _trained(parts: ProjectParts, kind: Kind) -> tuple[Input, ...]:
    """Return what training takes of a kind of its own; users may have none of the inputs, and are pooled then."""
    settings = parts.settings
    if kind == "item":
        return tuple(dict.fromkeys(settings.item_inputs(settings.inputs)))
    if settings.prompts.user.source == "text":
        return (TEXT,)
    own = {*settings.notes("user"), *settings.closed_notes("user")}
    return tuple(name for name in settings.inputs if not own.isdisjoint(texts_of(name)))


def _present(parts: ProjectParts, kind: Kind, ids: list[str]) -> dict[str, NDArray[np.bool_]]:
    """Return which entities have a vector, by the inputs that training takes."""
    names = list(dict.fromkeys(one for name in _trained(parts, kind) for one in averaged(name)))
    fingerprint = parts.embedder.fingerprint
    tables = {name: input_vectors(parts.read_store, ids, kind, name, fingerprint) for name in names}
    return {name: np.asarray(table.any(axis=1)) for name, table in tables.items()}


def _notes_and_texts(parts: ProjectParts, kind: Kind, name: str) -> Iterator[ProfileAndText]:
    """Yield every stored note of one name with its entity's text, in the order of the table."""
    chunk: list[Entity] = []

    def flush() -> Iterator[ProfileAndText]:
        records = parts.read_store.get([entity.id for entity in chunk], kind=kind, aspect=aspect_of(name))
        for entity, record in zip(chunk, records, strict=True):
            if record is not None:
                yield ProfileAndText(entity.id, embedding_text(record.profile, record.tags), entity.text)
        chunk.clear()

    for entity in parts.pipeline.entities(kind):
        chunk.append(entity)
        if len(chunk) == _CHUNK:
            yield from flush()
    yield from flush()
