"""What is to be known of a project's profiles beside a number: their health, where they came from, what they say."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.record import PROFILE_ASPECT
from enhancer.errors import ConfigError, EvaluationError
from enhancer.evaluation.diagnosing.diagnosis import Check, Subject, diagnose
from enhancer.evaluation.diagnosing.echoes import Written
from enhancer.evaluation.diagnosing.leaks import evidence
from enhancer.evaluation.measuring.views import Views
from enhancer.evaluation.reporting.gallery import Told, build
from enhancer.features import Sources, feature_table
from enhancer.features.reading.provenance import trace
from enhancer.features.storing.records import embedding_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from enhancer.config.schema import Input
    from enhancer.contracts.record import Kind, Record
    from enhancer.data import Entity, Interactions
    from enhancer.evaluation.diagnosing.diagnosis import Diagnosis, Level, Table
    from enhancer.evaluation.diagnosing.leaks import Evidence
    from enhancer.evaluation.reporting.gallery import Gallery
    from enhancer.features.reading.provenance import Provenance
    from enhancer.project import Project

_CHUNK = 512
_log = logging.getLogger(__name__)
_ALLOWED = "allowed by [evaluation] allow_leaks"
_TEXT_HINT = (
    'set [prompts.user] source = "llm", which writes profiles from training interactions alone, or "pool"; leave the '
    "column out of [data.columns] user_text; or, if you know that no text was written from what is held out, "
    "[evaluation] allow_leaks = true"
)
_HINT = (
    "run `enhancer generate`, which writes them from this split's training interactions; or set [prompts.user] "
    'source = "pool"; or, if you know that they were written from training interactions alone, '
    "[evaluation] allow_leaks = true"
)


def examine(project: Project) -> Diagnosis:
    """Look at profiles and vectors before anything is trained.

    Raises:
        ConfigError: The store has no vectors of items.
    """
    settings = project.settings
    split = project.split
    views = Views(split)
    subjects = []
    for kind in ("item", "user"):
        source = getattr(settings.prompts, kind).source
        if source not in ("llm", "text"):
            continue
        ids = split.train.item_ids if kind == "item" else split.train.user_ids
        vectors = _vectors(project, kind, ids)
        if not vectors and kind == "item":
            project.features(settings.inputs)  # says what is missing
        written = _written(project, kind) if source == "llm" else None
        subjects.append(Subject(kind=kind, ids=ids, vectors=vectors, written=written))
    if not subjects:
        raise ConfigError("there is nothing to diagnose: no entity has a profile or a text", hint="see [prompts.item]")
    return diagnose(subjects, views, pool=project.semantics.pool, further=_leak_check(project), seed=settings.seed)


def refuse_leaks(project: Project, inputs: Collection[Input]) -> dict[str, str]:
    """Stop before training on profiles of users that may show what is held out.

    Texts of users that are embedded as they are were not made here: nothing proves what they were made from. They are
    believed, as a user's age must be, unless their vectors betray them.

    With ``[evaluation] allow_leaks`` it is a warning.

    Args:
        project: What is to be trained.
        inputs: What its vectors come from.

    Returns:
        What the report says of where profiles of users came from; nothing where users have none of their own.

    Raises:
        EvaluationError: They were made from more than this split's training interactions, or not provably from less;
            texts: their vectors know what is held out.
    """
    if project.settings.prompts.user.source == "text":
        return _refuse_texts(project, inputs)
    found = _provenance(project) if "profile" in inputs else None
    if found is None or not found.users:
        return {}
    if not found.unproven:
        return {"profiles of users": "made from training interactions alone"}
    words = f"profiles of users may show what is held out: {_origin_words(found)}"
    if (seen := _evidence(project)) is not None:
        words += f"; {seen.words}"
    if not project.settings.evaluation.allow_leaks:
        raise EvaluationError(words, hint=_HINT)
    _log.warning("%s; %s", words, _ALLOWED)
    return {"profiles of users": f"{words} ({_ALLOWED})"}


def _refuse_texts(project: Project, inputs: Collection[Input]) -> dict[str, str]:
    if not inputs:
        return {}
    seen = _text_evidence(project, inputs)
    if seen is None:
        why = "too few users have a vector and interactions in all three parts to tell what they know"
        return {"texts of users": f"texts of users are taken as they are: {why}"}
    words = _text_words(seen)
    if seen.seen is None and not seen.tells_all:
        return {"texts of users": words}
    if not project.settings.evaluation.allow_leaks:
        raise EvaluationError(words, hint=_TEXT_HINT)
    _log.warning("%s; %s", words, _ALLOWED)
    return {"texts of users": f"{words} ({_ALLOWED})"}


def _text_evidence(project: Project, inputs: Collection[Input]) -> Evidence | None:
    """What vectors of users' own texts betray beside those of items; of several inputs, one that betrays them."""
    split, views = project.split, Views(project.split)
    users = feature_table(project.moment.store, split.train.user_ids, "user", ["text"])
    found = []
    for name in inputs:
        items = feature_table(project.moment.store, split.train.item_ids, "item", [name])
        if users.size and users.shape[1] == items.shape[1]:
            seen = evidence(users, items, views, project.semantics.pool(items))
            found += [] if seen is None else [seen]
    return max(found, key=lambda one: (one.seen is not None, one.tells_all), default=None)


def _text_words(seen: Evidence) -> str:
    if seen.seen is not None or seen.tells_all:
        return f"texts of users may show what is held out: {seen.words}"
    return f"texts of users are taken as they are: {seen.words}"


def _leak_check(project: Project) -> list[Check]:
    if project.settings.prompts.user.source == "text":
        return _text_check(project)
    found = _provenance(project)
    if found is None or not found.users:
        return []
    values: dict[str, float | None] = {
        "users": found.users,
        "proven": found.proven,
        "adopted": found.adopted,
        "unknown": found.unknown,
    }
    values |= {"leaking": sum(found.leaking.values())}
    if not found.unproven:
        words = f"all {found.users:,} profiles of users were made from this split's training interactions"
        return [Check(topic="leak", name="leak", kind="user", level="good", words=words, values=values)]
    words = f"profiles of users may show what is held out: {_origin_words(found)}"
    seen = _evidence(project)
    if seen is not None:
        words += f"; {seen.words}"
        values |= {"train": seen.train, "validation": seen.validation, "test": seen.test, "p": seen.p}
    proven = bool(found.leaking) or (seen is not None and seen.seen is not None)
    allowed = project.settings.evaluation.allow_leaks and not proven
    return [
        Check(topic="leak", name="leak", kind="user", level="fair" if allowed else "poor", words=words, values=values)
    ]


def _text_check(project: Project) -> list[Check]:
    seen = _text_evidence(project, project.settings.inputs)
    if seen is None:
        return []
    caught = seen.seen is not None or seen.tells_all
    values = {"train": seen.train, "validation": seen.validation, "test": seen.test, "p": seen.p}
    level: Level = "poor" if caught else "fair"  # which proves nothing
    return [Check(topic="leak", name="leak", kind="user", level=level, words=_text_words(seen), values=values)]


def _provenance(project: Project) -> Provenance | None:
    settings = project.settings
    if settings.prompts.user.source != "llm":
        return None
    work = project.pipeline.work("user")
    if work is None:
        return None

    def history(interactions: Callable[[], Interactions]) -> Callable[[], Callable[[Entity], str] | None]:
        return lambda: (
            Sources.from_settings(settings, project.root, train=interactions, titles=lambda: project.titles).history
        )

    wider = {
        "training and validation": history(lambda: _without_test(project)),
        "all interactions": history(lambda: project.interactions),
    }
    return trace(work, project.moment.store, project.split.train.user_ids, wider if work.history is not None else {})


def _without_test(project: Project) -> Interactions:
    """All interactions but those of the test part, in the order of the file."""
    interactions, test = project.interactions, project.split.test
    width = len(interactions.item_ids)

    def keys(part: Interactions) -> NDArray[np.int64]:
        return part.users.astype(np.int64) * width + part.items

    return interactions.take(~np.isin(keys(interactions), keys(test)))


def _evidence(project: Project) -> Evidence | None:
    """What vectors betray, where users and items have profiles."""
    split = project.split
    users = feature_table(project.moment.store, split.train.user_ids, "user", ["profile"])
    items = feature_table(project.moment.store, split.train.item_ids, "item", ["profile"])
    if not users.size or users.shape[1] != items.shape[1]:
        return None
    return evidence(users, items, Views(split))


def _origin_words(found: Provenance) -> str:
    parts = [f"{count:,} were made from {name}" for name, count in found.leaking.items()]
    if found.adopted:
        parts.append(f"{found.adopted:,} were imported, from nobody knows what")
    if found.unknown:
        parts.append(f"{found.unknown:,} were made from another input than this split gives")
    named = ", ".join(found.examples)
    return f"of {found.users:,} profiles of users, {' and '.join(parts)} (such as those of {named})"


def gallery(project: Project) -> Gallery | None:
    """Profiles for the report to show; None where items have no vectors."""
    settings, split = project.settings, project.split
    if settings.prompts.item.source not in ("llm", "text"):
        return None
    ids = split.train.item_ids
    vectors = feature_table(project.moment.store, ids, "item", settings.inputs, project.embedder.fingerprint)
    if not vectors.any():
        return None
    work = project.pipeline.work("item") if settings.prompts.item.source == "llm" else None

    def titles(rows: Sequence[int]) -> list[str]:
        return [project.titles.get(ids[row]) or ids[row] for row in rows]

    def tell(rows: Sequence[int]) -> dict[int, Told]:
        chosen = {ids[row]: row for row in rows}
        entities = {entity.id: entity for entity in project.pipeline.entities("item") if entity.id in chosen}
        records = project.moment.store.get(list(chosen), kind="item")
        told = {}
        for (id_, row), title, record in zip(chosen.items(), titles(rows), records, strict=True):
            entity = entities.get(id_)
            told[row] = Told(
                title=title,
                text="" if entity is None else entity.text,
                prompt="" if work is None or entity is None else work.prompts([entity])[0][0],
                profile="" if record is None else record.profile,
                tags=() if record is None else record.tags,
                about="" if record is None else _about(record),
            )
        return told

    system = "" if work is None or work.ask is None else work.ask.template.system
    built = build(vectors, Views(split), tell, titles, system=system, seed=settings.seed)
    cost, tokens = _paid(project)
    return replace(built, cost_usd=cost, tokens=tokens)


def _paid(project: Project) -> tuple[float | None, int]:
    """What all stored profiles cost together, None where that of any is unknown, and their tokens."""
    cost: float | None = 0.0
    tokens = 0
    for record in project.moment.store.scan(aspect=PROFILE_ASPECT):
        tokens += (record.prompt_tokens or 0) + (record.completion_tokens or 0)
        cost = None if cost is None or record.cost_usd is None else cost + record.cost_usd
    return cost, tokens


def _about(record: Record) -> str:
    """Where a profile came from, in a line."""
    parts = [record.model or "made elsewhere", record.prompt_version]
    if record.prompt_tokens is not None and record.completion_tokens is not None:
        parts.append(f"{record.prompt_tokens:,} + {record.completion_tokens:,} tokens")
    if record.cost_usd is not None:
        parts.append(f"${record.cost_usd:.6f}")
    return ", ".join(part for part in [*parts, record.generated_at] if part)


def _vectors(project: Project, kind: Kind, ids: list[str]) -> dict[str, Table]:
    """What there is, by what it comes from; what is trained on first."""
    chosen = project.settings.inputs
    found: dict[str, Table] = {}
    for names in dict.fromkeys([chosen, ("profile",), ("text",)]):
        table = feature_table(project.moment.store, ids, kind, names, project.embedder.fingerprint)
        if table.any():
            found[" + ".join(names)] = table
    return found


def _written(project: Project, kind: Kind) -> Iterator[Written]:
    """Every stored profile beside its text, in the order of the table."""
    entities = project.pipeline.entities(kind)
    chunk: list[Entity] = []

    def flush() -> Iterator[Written]:
        records = project.moment.store.get([entity.id for entity in chunk], kind=kind)
        for entity, record in zip(chunk, records, strict=True):
            if record is not None:
                yield Written(entity.id, embedding_text(record.profile, record.tags), entity.text)
        chunk.clear()

    for entity in entities:
        chunk.append(entity)
        if len(chunk) == _CHUNK:
            yield from flush()
    yield from flush()
