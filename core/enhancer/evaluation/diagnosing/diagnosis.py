"""Does this feature stand a chance? What can be told of profiles and vectors before anything is trained.

Each check has a level in words; the thresholds are here and nowhere else. The verdict hangs on one thing: whether
entities that are near each other by vector are taken by the same people more often than shuffled vectors would have it.
All else says what stands in the way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from enhancer.contracts.backbone import Factors
from enhancer.evaluation.diagnosing.agreement import LEAST, NEIGHBOURS, agreement, side_of
from enhancer.evaluation.diagnosing.echoes import ECHO, NEAR, examine
from enhancer.evaluation.diagnosing.geometry import effective_rank, mean_cosine, unit
from enhancer.evaluation.measuring.metrics import PairList, evaluate
from enhancer.evaluation.running.baselines import popularity
from enhancer.evaluation.running.vectors import shuffled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.record import Kind
    from enhancer.evaluation.diagnosing.echoes import Written
    from enhancer.evaluation.measuring.views import Views
    from enhancer.evaluation.running.vectors import FloatMatrix

Level = Literal["good", "fair", "poor", "unknown"]
Topic = Literal["coverage", "duplicates", "near-duplicates", "echo", "spread", "agreement", "alone", "leak"]
"""What a check is about: programs know it by this, people by its name."""

COVERAGE = (0.95, 0.70)
"""Share of entities with a vector: good from, fair from."""
DUPLICATES = (0.01, 0.10)
"""Share of profiles whose words are those of another: good up to, fair up to."""
NEAR_DUPLICATES = (0.05, 0.25)
"""Share of profiles that share four fifths of their phrases with another."""
ECHOES = (0.10, 0.50)
"""Share of profiles four fifths of whose words are in their own text."""
COSINE = (0.50, 0.80)
"""Mean cosine of two entities."""
RANK = (0.15, 0.05)
"""Effective rank over the directions there are: good from, fair from."""
LIFT = (3.0, 1.5)
"""Neighbours in common over those of shuffled vectors: good from, fair from."""
EXCESS = (0.10, 0.02)
"""Share of neighbours in common beyond that of shuffled vectors, which is enough as well: in a small catalogue chance
alone has many in common."""
ALONE = (2.0, 1.2)
"""What vectors alone find over what shuffled ones find: good from, fair from."""
_PEOPLE = 2_000
_NAMES: Mapping[Topic, str] = {
    "coverage": "coverage",
    "duplicates": "duplicate profiles",
    "near-duplicates": "near-duplicate profiles",
    "echo": "echo of the text",
    "spread": "spread of vectors ({})",
    "agreement": "neighbours by {} and by behaviour",
    "alone": "{} alone",
}
"""Of checks, for people."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Subject:
    """One kind of entity, as it is to be looked at."""

    kind: Kind
    ids: Sequence[str]
    """Row number to id."""
    vectors: Mapping[str, FloatMatrix]
    """By what they come from (``profile``, ``text``, ``profile + text``), what is trained on first: float32 ``[n, d]``,
    a zero row for an entity without a vector."""
    written: Iterable[Written] | None = None
    """Profiles beside their texts, as a stream; None where no LLM took part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was looked at."""

    topic: Topic
    name: str
    kind: Kind
    level: Level
    words: str
    source: str = ""
    """What the vectors come from (``profile``, ``text``, ``profile + text``) that it looked at; else empty."""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What was found."""

    level: Level
    verdict: str
    checks: list[Check]

    def to_json(self) -> dict[str, Any]:
        """What ``enhancer diagnose --json`` prints."""
        return {
            "level": self.level,
            "verdict": self.verdict,
            "checks": [
                {
                    "topic": c.topic,
                    "name": c.name,
                    "kind": c.kind,
                    "source": c.source,
                    "level": c.level,
                    "words": c.words,
                    "values": dict(c.values),
                }
                for c in self.checks
            ],
        }

    def find(self, name: str, kind: Kind = "item") -> Check | None:
        """The check of that name, if it was made."""
        return next((check for check in self.checks if (check.name, check.kind) == (name, kind)), None)


def diagnose(
    subjects: Sequence[Subject],
    views: Views,
    *,
    pool: Callable[[FloatMatrix], FloatMatrix] | None = None,
    further: Sequence[Check] = (),
    seed: int = 0,
) -> Diagnosis:
    """Look at profiles and vectors, without training and without the test part.

    Args:
        subjects: Items, and users where they have vectors of their own.
        views: The split: only its training and validation interactions are used.
        pool: Makes vectors of users from those of items; None leaves out what vectors alone would find.
        further: Checks that the caller made, such as for leaks.
        seed: Draws samples and shuffled vectors.
    """
    checks: list[Check] = []
    for subject in subjects:
        checks.append(_coverage(subject, views))
        if subject.written is not None:
            checks += _wording(subject, seed)
        checks += [_shape(subject, name, table) for name, table in subject.vectors.items()]
        checks += _agreement(subject, views, seed)
        if subject.kind == "item" and pool is not None:
            checks += _alone(subject, views, pool, seed)
    checks += further
    level, verdict = _verdict(checks)
    return Diagnosis(level=level, verdict=verdict, checks=checks)


def _coverage(subject: Subject, views: Views) -> Check:
    table = next(iter(subject.vectors.values()), np.zeros((len(subject.ids), 0), np.float32))
    has: NDArray[np.bool_] = np.asarray(table.any(axis=1)) if table.size else np.zeros(len(subject.ids), np.bool_)
    touched = views.popularity if subject.kind == "item" else views.history
    interactions = float(touched[has].sum() / max(int(touched.sum()), 1))
    share = float(has.mean()) if len(has) else 0.0
    words = (
        f"{_percent(share)} of {len(has):,} {subject.kind}s have a vector, which {_percent(interactions)} of the "
        "training interactions are of"
    )
    lacking = [subject.ids[row] for row in np.flatnonzero(~has)[:5]]
    if lacking:
        words += f"; without: {', '.join(lacking)}{', ...' if np.count_nonzero(~has) > len(lacking) else ''}"
    values = {"share": share, "of_interactions": interactions, "without": int(np.count_nonzero(~has))}
    return _check("coverage", subject, _at_least(min(share, interactions), COVERAGE), words, values)


def _wording(subject: Subject, seed: int) -> list[Check]:
    assert subject.written is not None
    found = examine(subject.written, seed=seed)
    if not found.profiles:
        return []
    equal = found.duplicates / found.profiles
    near = found.near_duplicates / found.compared
    groups = "; ".join(" = ".join(group) for group in found.examples[:3])
    checks = [
        _check(
            "duplicates",
            subject,
            _at_most(equal, DUPLICATES),
            f"{found.duplicates:,} of {found.profiles:,} profiles ({_percent(equal)}) say word for word what another "
            "says" + (f": {groups}" if groups else ""),
            {"share": equal, "profiles": found.profiles, "examples": found.examples},
        ),
        _check(
            "near-duplicates",
            subject,
            _at_most(near, NEAR_DUPLICATES),
            f"{_percent(near)} of {found.compared:,} profiles share {NEAR:.0%} of their phrases with another"
            + (" (a sample)" if found.compared < found.profiles else ""),
            {"share": near, "compared": found.compared, "median_words": found.median_words},
        ),
    ]
    if found.echo is not None:
        share = found.echoes / found.with_text
        words = (
            f"{_percent(share)} of {found.with_text:,} profiles only echo their text ({ECHO:.0%} of their words are in "
            f"it); the mean profile takes {_percent(found.echo)} of its words from there"
        )
        values = {"share": share, "mean_overlap": found.echo, "with_text": found.with_text}
        checks.append(_check("echo", subject, _at_most(share, ECHOES), words, values))
    return checks


def _shape(subject: Subject, name: str, table: FloatMatrix) -> Check:
    """Whether the vectors have collapsed onto one direction or a few."""
    vectors = unit(table[table.any(axis=1)]) if table.size else table
    if len(vectors) < 2:
        return _check("spread", subject, "unknown", "fewer than two entities have a vector", {}, source=name)
    cosine, rank = mean_cosine(vectors), effective_rank(vectors)
    most = min(len(vectors) - 1, vectors.shape[1])
    level = max(_at_most(cosine, COSINE), _at_least(rank / most, RANK), key=_BADNESS.__getitem__)
    words = f"two {subject.kind}s have cosine {cosine:.2f} in the mean; {rank:.0f} of {most} directions are used"
    if level == "poor":
        words += ": the vectors have collapsed, and tell little apart"
    values = {"mean_cosine": cosine, "effective_rank": rank, "directions": most}
    return _check("spread", subject, level, words, values, source=name)


def _agreement(subject: Subject, views: Views, seed: int) -> list[Check]:
    """Neighbours by vector against neighbours by behaviour, for each thing that vectors come from."""
    checks = []
    train = views.split.train
    others = views.n_users if subject.kind == "item" else views.n_items
    for name, table in subject.vectors.items():
        found = agreement(table, side_of(train, subject.kind), others, seed=seed) if table.size else None
        if found is None:
            words = f"too few {subject.kind}s have a vector and {LEAST} training interactions to compare neighbours"
            checks.append(_check("agreement", subject, "unknown", words, {}, source=name))
            continue
        low, high = found.interval or (0.0, 0.0)
        lift = found.lift
        surely = low > 0
        far = min(
            _at_least(found.overlap - found.shuffled, EXCESS), _at_least(lift or 0.0, LIFT), key=_BADNESS.__getitem__
        )
        level: Level = "poor" if not surely else "good" if lift is None else far
        times = "" if lift is None else f", {lift:.1f} times as many"
        words = (
            f"of an {subject.kind}'s {NEIGHBOURS} nearest by {name}, "
            if subject.kind == "item"
            else f"of a user's {NEIGHBOURS} nearest by {name}, "
        ) + (
            f"{_percent(found.overlap)} are among its {NEIGHBOURS} nearest by behaviour; shuffled vectors give "
            f"{_percent(found.shuffled)}{times}"
        )
        if not surely:
            words += ": no more than chance"
        values = {
            "overlap": found.overlap,
            "shuffled": found.shuffled,
            "lift": lift,
            "difference_interval": [low, high],
            "queries": found.queries,
            "candidates": found.candidates,
        }
        checks.append(_check("agreement", subject, level, words, values, source=name))
    return checks


def _alone(subject: Subject, views: Views, pool: Callable[[FloatMatrix], FloatMatrix], seed: int) -> list[Check]:
    """What vectors alone find of the validation part, users being means of their training items."""
    part = views.warm_validation
    people = np.unique(part.users)
    if len(people) < 10:
        return []
    if len(people) > _PEOPLE:
        people = np.random.default_rng(seed).choice(people, _PEOPLE, replace=False)
        keep = np.isin(part.users, people)
        part = PairList(part.users[keep], part.items[keep])
    metric = "recall@20"

    def found(factors: Factors) -> float:
        scores = evaluate(factors, part, seen=views.seen_validating, candidates=views.warm_items, metrics=(metric,))
        return scores.mean(metric)

    def by_vectors(table: FloatMatrix) -> float:
        directions = unit(table)
        return found(Factors(pool(directions), directions))

    best = found(popularity(views.split.train, views.n_users, views.n_items))
    checks = []
    for name, table in subject.vectors.items():
        if not table.size or not table.any():
            continue
        real, chance = by_vectors(table), by_vectors(shuffled(table, seed))
        times = real / chance if chance else None
        level: Level = "good" if times is None and real else "poor" if times is None else _at_least(times, ALONE)
        words = (
            f"vectors of {name} alone, without training, find {_percent(real)} of the validation items in their top "
            f"20; shuffled ones {_percent(chance)}, popularity {_percent(best)}"
        )
        values = {"recall@20": real, "shuffled": chance, "popularity": best, "users": len(people)}
        checks.append(_check("alone", subject, level, words, values, source=name))
    return checks


def _verdict(checks: Sequence[Check]) -> tuple[Level, str]:
    agreements = [c for c in checks if c.kind == "item" and c.topic == "agreement"]
    main = agreements[0] if agreements else None  # of what is trained on, which comes first
    against = [c for c in checks if c.level == "poor" and c.topic != "agreement"]
    stands = "" if not against else f" In its way: {'; '.join(f'{c.name} of {c.kind}s' for c in against)}."
    leak = next((c for c in against if c.topic == "leak"), None)
    if leak is not None:
        return "poor", f"Nothing can be told of it yet: {leak.words}."
    if main is None or main.level == "unknown":
        return "unknown", f"It cannot be told whether this feature stands a chance: {_reason(main)}.{stands}"
    lift, overlap = main.values["lift"], main.values["overlap"]
    times = f"{_percent(overlap)} of neighbours" if lift is None else f"{lift:.1f} times as many neighbours as shuffled"
    if main.level == "poor":
        return "poor", (
            "This feature hardly stands a chance: what is near by vector is not what the same people take "
            f"({_percent(overlap)} of neighbours in common, shuffled vectors "
            f"{_percent(main.values['shuffled'])}).{stands}"
        )
    opening = "This feature stands a chance" if main.level == "good" else "This feature stands a small chance"
    words = f"{opening}: vectors and behaviour agree on {times}.{stands}"
    text = next((c for c in agreements if c.source == "text"), None)
    if text is not None and text is not main and text.level != "unknown" and text.values["overlap"] >= overlap:
        words += (
            f" But raw text agrees with behaviour no less ({_percent(text.values['overlap'])} of neighbours in common "
            f"against {_percent(overlap)}): the LLM has yet to show what it adds."
        )
    return ("fair" if against and main.level == "good" else main.level), words


def _reason(check: Check | None) -> str:
    return "there are no vectors of items" if check is None else check.words


_BADNESS = {"good": 0, "unknown": 1, "fair": 2, "poor": 3}


def _at_least(value: float, edges: tuple[float, float]) -> Level:
    return "good" if value >= edges[0] else "fair" if value >= edges[1] else "poor"


def _at_most(value: float, edges: tuple[float, float]) -> Level:
    return "good" if value <= edges[0] else "fair" if value <= edges[1] else "poor"


def _check(
    topic: Topic, subject: Subject, level: Level, words: str, values: Mapping[str, Any], *, source: str = ""
) -> Check:
    name = _NAMES[topic].format(source)
    return Check(topic=topic, name=name, kind=subject.kind, level=level, words=words, values=values, source=source)


def _percent(share: float) -> str:
    """A share for people.

    >>> _percent(0.5), _percent(0.0123), _percent(0.9999), _percent(1.0), _percent(0)
    ('50%', '1.2%', '99.9%', '100%', '0%')
    """
    if share in (0, 1):
        return f"{share:.0%}"
    shown = min(max(share, 0.0001), 0.999) * 100
    return f"{shown:.2f}%" if shown < 0.1 else f"{shown:.1f}%" if shown < 10 or shown > 99 else f"{shown:.0f}%"
