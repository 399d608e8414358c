"""Diagnose before training whether a feature stands a chance.

Each check has a level; all thresholds are defined here. The verdict depends on one question: do entities with similar
vectors have interactions in common, more often than with shuffled vectors? The other checks name possible problems.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.contracts.backbone import Factors
from enhancer.evaluation.diagnosing.agreement import (
    MIN_INTERACTIONS,
    NEIGHBOURS,
    interaction_columns,
    measure_agreement,
)
from enhancer.evaluation.diagnosing.checks import BADNESS, DiagnosticCheck, Level, Topic, at_least, at_most, percent
from enhancer.evaluation.diagnosing.geometry import effective_rank, mean_cosine, unit_rows
from enhancer.evaluation.diagnosing.wording import ECHO, NEAR, wording_stats
from enhancer.evaluation.measuring.metrics import PairList, evaluate
from enhancer.evaluation.running.vectors import shuffled
from enhancer.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.contracts.record import Kind
    from enhancer.evaluation.diagnosing.wording import ProfileAndText
    from enhancer.evaluation.measuring.views import Views
    from enhancer.evaluation.running.vectors import FloatMatrix

# Thresholds of the levels good and fair.
COVERAGE = (0.95, 0.70)
"""Minimum share of entities with a vector."""
DUPLICATES = (0.01, 0.10)
"""Maximum share of profiles with the same words as another."""
NEAR_DUPLICATES = (0.05, 0.25)
"""Maximum share of near-duplicate profiles."""
ECHOES = (0.10, 0.50)
"""Maximum share of profiles that repeat their text."""
COSINE = (0.50, 0.80)
"""Maximum mean cosine of two entities."""
RANK = (0.15, 0.05)
"""Minimum effective rank, as a share of the largest possible rank."""
LIFT = (3.0, 1.5)
"""Minimum number of common neighbours, as a multiple of that of shuffled vectors."""
EXCESS = (0.10, 0.02)
"""Minimum share of common neighbours beyond that of shuffled vectors. Either this or :data:`LIFT` suffices: in a small
catalogue shuffled vectors have many common neighbours, too."""
ALONE = (2.0, 1.2)
"""Minimum recall of vectors without training, as a multiple of that of shuffled vectors."""
_USERS = 2_000
_NAMES: Mapping[Topic, str] = {
    "coverage": "coverage",
    "duplicates": "duplicate profiles",
    "near-duplicates": "near-duplicate profiles",
    "echo": "echo of the text",
    "spread": "spread of vectors ({})",
    "agreement": "neighbours by {} and by interactions",
    "alone": "recommendations by {} alone",
}
"""Names of checks, with the input that the vectors come from."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DiagnosisInput:
    """Ids, vectors and profiles of one kind of entity."""

    kind: Kind
    ids: Sequence[str]
    """Id of each row."""
    vectors: Mapping[str, FloatMatrix]
    """Vectors by input (``profile``, ``text``, ``profile + text``), the input of training first: float32 ``[n, d]``,
    with rows of zeros for entities without a vector."""
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Whether each entity has a vector, by the single inputs that training takes; by default, whether it has any vector
    of the first input."""
    profiles: Iterable[ProfileAndText] | None = None
    """Profiles with their texts; None if no LLM writes profiles."""
    notes: Mapping[str, Iterable[ProfileAndText]] = field(default_factory=dict)
    """Notes with their texts, by aspect."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis(Shown):
    """All checks, and the verdict on them."""

    level: Level
    verdict: str
    checks: list[DiagnosticCheck]
    asked: Mapping[str, Any] | None = None
    """Counts of the questions to the LLM; None if none was asked."""

    def to_json(self) -> dict[str, Any]:
        """Return what ``enhancer diagnose --json`` prints; ``asked`` if the LLM was asked."""
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
            **({} if self.asked is None else {"asked": dict(self.asked)}),
        }

    def to_rows(self) -> list[dict[str, Any]]:
        """Return a row for each check."""
        return [{"kind": c.kind, "check": c.name, "level": c.level, "words": c.words} for c in self.checks]

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        return [self.verdict]

    def find(self, name: str, kind: Kind = "item") -> DiagnosticCheck | None:
        """Return the check of that name and kind; None if there is none."""
        return next((check for check in self.checks if (check.name, check.kind) == (name, kind)), None)


def diagnose(
    inputs: Sequence[DiagnosisInput],
    views: Views,
    *,
    pool: Callable[[FloatMatrix], FloatMatrix] | None = None,
    more_checks: Sequence[DiagnosticCheck] = (),
    seed: int = 0,
) -> Diagnosis:
    """Check profiles and vectors, without training and without the test split.

    Args:
        inputs: Items, and users if they have vectors of their own.
        views: The split; only training and validation interactions are used.
        pool: Computes users' vectors from items' vectors; without it, recommendations by vectors alone are not checked.
        more_checks: Further checks, such as for leaks.
        seed: Seed of samples and of shuffled vectors.
    """
    checks: list[DiagnosticCheck] = []
    for one in inputs:
        checks.append(_coverage(one, views))
        if one.profiles is not None:
            checks += _wording(one, one.profiles, seed)
        for aspect, notes in one.notes.items():
            checks += _wording(one, notes, seed, aspect)
        checks += [_spread(one, source, vectors) for source, vectors in one.vectors.items()]
        checks += _agreement(one, views, seed)
        if one.kind == "item" and pool is not None:
            checks += _alone(one, views, pool, seed)
    checks += more_checks
    level, verdict = _verdict(checks)
    return Diagnosis(level=level, verdict=verdict, checks=checks)


def _coverage(one: DiagnosisInput, views: Views) -> DiagnosticCheck:
    present = dict(one.present)
    if not present:
        vectors = next(iter(one.vectors.values()), np.zeros((len(one.ids), 0), np.float32))
        present[""] = np.asarray(vectors.any(axis=1)) if vectors.size else np.zeros(len(one.ids), np.bool_)
    has: NDArray[np.bool_] = np.logical_and.reduce(list(present.values()))
    counts = views.popularity if one.kind == "item" else views.history
    interactions = float(counts[has].sum() / max(int(counts.sum()), 1))
    share = float(has.mean()) if len(has) else 0.0
    named = f" of {' and of '.join(present)}" if any(present) else ""
    words = (
        f"{percent(share)} of {len(has):,} {one.kind}s have a vector{named}; they account for {percent(interactions)}"
        " of the training interactions"
    )
    shares = {name: float(own.mean()) if len(own) else 0.0 for name, own in present.items()}
    if len(shares) > 1 and share < 1:
        words += f" ({', '.join(f'{name} {percent(own)}' for name, own in shares.items())})"
    examples = [one.ids[row] for row in np.flatnonzero(~has)[:5]]
    if examples:
        more = ", ..." if np.count_nonzero(~has) > len(examples) else ""
        words += f"; without{' all of them' if len(shares) > 1 else ''}: {', '.join(examples)}{more}"
    values: dict[str, Any] = {
        "share": share,
        "of_interactions": interactions,
        "without": int(np.count_nonzero(~has)),
    }
    if any(present):
        values["by_input"] = shares
    return _check("coverage", one, at_least(min(share, interactions), COVERAGE), words, values)


def _wording(
    one: DiagnosisInput, profiles: Iterable[ProfileAndText], seed: int, aspect: str = ""
) -> list[DiagnosticCheck]:
    found = wording_stats(profiles, seed=seed)
    if not found.profiles:
        return []
    duplicates = found.duplicates / found.profiles
    near = found.near_duplicates / found.compared
    groups = "; ".join(" = ".join(group) for group in found.examples[:3])
    noun = "notes" if aspect else "profiles"
    sample = " (a sample)" if found.compared < found.profiles else ""
    checks = [
        _check(
            "duplicates",
            one,
            at_most(duplicates, DUPLICATES),
            f"{found.duplicates:,} of {found.profiles:,} {noun} ({percent(duplicates)}) have exactly the same words "
            "as another" + (f": {groups}" if groups else ""),
            {"share": duplicates, "profiles": found.profiles, "examples": found.examples},
            source=aspect,
        ),
        _check(
            "near-duplicates",
            one,
            at_most(near, NEAR_DUPLICATES),
            f"{percent(near)} of {found.compared:,} {noun}{sample} share at least {NEAR:.0%} of their phrases with "
            "another",
            {"share": near, "compared": found.compared, "median_words": found.median_words},
            source=aspect,
        ),
    ]
    if found.echo is not None:
        share = found.echoes / found.with_text
        words = (
            f"{percent(share)} of {found.with_text:,} {noun} repeat their text: at least {ECHO:.0%} of their words "
            f"are in it; on average {percent(found.echo)} of a {noun[:-1]}'s words are in its text"
        )
        values = {"share": share, "mean_overlap": found.echo, "with_text": found.with_text}
        checks.append(_check("echo", one, at_most(share, ECHOES), words, values, source=aspect))
    return checks


def _spread(one: DiagnosisInput, source: str, table: FloatMatrix) -> DiagnosticCheck:
    """Check whether the vectors have collapsed onto one direction or a few."""
    vectors = unit_rows(table[table.any(axis=1)]) if table.size else table[:0]
    if len(vectors) < 2:
        return _check("spread", one, "unknown", "fewer than two entities have a vector", {}, source=source)
    cosine, rank = mean_cosine(vectors), effective_rank(vectors)
    largest = min(len(vectors) - 1, vectors.shape[1])
    level = max(at_most(cosine, COSINE), at_least(rank / largest, RANK), key=BADNESS.__getitem__)
    words = f"the mean cosine of two {one.kind}s is {cosine:.2f}; the effective rank is {rank:.0f} of {largest}"
    if level == "poor":
        words += f": the vectors have collapsed and hardly distinguish {one.kind}s"
    values = {"mean_cosine": cosine, "effective_rank": rank, "directions": largest}
    return _check("spread", one, level, words, values, source=source)


def _agreement(one: DiagnosisInput, views: Views, seed: int) -> list[DiagnosticCheck]:
    """Compare neighbours by vectors with neighbours by interactions, for each input."""
    checks = []
    columns = interaction_columns(views.split.train, one.kind)
    n_others = views.n_users if one.kind == "item" else views.n_items
    article = "an" if one.kind == "item" else "a"
    for source, table in one.vectors.items():
        found = measure_agreement(table, columns, n_others, seed=seed) if table.size else None
        if found is None:
            words = (
                f"too few {one.kind}s have a vector and at least {MIN_INTERACTIONS} training interactions to compare "
                "neighbours"
            )
            checks.append(_check("agreement", one, "unknown", words, {}, source=source))
            continue
        low, high = found.interval or (0.0, 0.0)
        lift = found.lift
        by_size = min(
            at_least(found.overlap - found.shuffled, EXCESS), at_least(lift or 0.0, LIFT), key=BADNESS.__getitem__
        )
        level: Level = "poor" if low <= 0 else "good" if lift is None else by_size
        words = (
            f"of {article} {one.kind}'s {NEIGHBOURS} nearest neighbours by {source}, {percent(found.overlap)} are "
            f"among the {NEIGHBOURS} nearest by interactions; with shuffled vectors {percent(found.shuffled)}"
        )
        if lift is not None:
            words += f" (a factor of {lift:.1f})"
        if low <= 0:
            words += ": no more than chance"
        values = {
            "overlap": found.overlap,
            "shuffled": found.shuffled,
            "lift": lift,
            "difference_interval": [low, high],
            "queries": found.queries,
            "candidates": found.candidates,
        }
        checks.append(_check("agreement", one, level, words, values, source=source))
    return checks


def _alone(
    one: DiagnosisInput, views: Views, pool: Callable[[FloatMatrix], FloatMatrix], seed: int
) -> list[DiagnosticCheck]:
    """Measure recall on the validation split by vectors alone; users are means of their training items."""
    validation = views.warm_validation
    users = np.unique(validation.users)
    if len(users) < 10:
        return []
    if len(users) > _USERS:
        users = np.random.default_rng(seed).choice(users, _USERS, replace=False)
        keep = np.isin(validation.users, users)
        validation = PairList(validation.users[keep], validation.items[keep])
    metric = "recall@20"

    def recall(factors: Factors) -> float:
        scores = evaluate(
            factors, validation, seen=views.seen_validating, candidates=views.warm_items, metrics=(metric,)
        )
        return scores.mean(metric)

    def recall_of(table: FloatMatrix) -> float:
        items = unit_rows(table)
        return recall(Factors(pool(items), items))

    by_popularity = recall(
        Factors(np.ones((views.n_users, 1), np.float32), views.popularity.astype(np.float32)[:, None])
    )
    checks = []
    for source, table in one.vectors.items():
        if not table.size or not table.any():
            continue
        real, chance = recall_of(table), recall_of(shuffled(table, seed))
        factor = real / chance if chance else None
        level: Level = "good" if factor is None and real else "poor" if factor is None else at_least(factor, ALONE)
        words = (
            f"without training, vectors of {source} alone find {percent(real)} of the validation items in the top 20; "
            f"shuffled vectors find {percent(chance)}, popularity {percent(by_popularity)}"
        )
        values = {"recall@20": real, "shuffled": chance, "popularity": by_popularity, "users": len(users)}
        checks.append(_check("alone", one, level, words, values, source=source))
    return checks


def _verdict(checks: Sequence[DiagnosticCheck]) -> tuple[Level, str]:
    agreements = [c for c in checks if c.kind == "item" and c.topic == "agreement"]
    main = agreements[0] if agreements else None  # that of the training input, which comes first
    # One of several inputs may recommend badly alone; the verdict is about all that are trained on.
    aside = [c for c in checks if c.topic == "alone" and main is not None and c.source != main.source]
    poor = [c for c in checks if c.level == "poor" and c.topic != "agreement" and c not in aside]
    problems = f" Problems: {'; '.join(f'{c.name} ({c.kind}s)' for c in poor)}." if poor else ""
    leak = next((c for c in poor if c.topic == "leak"), None)
    if leak is not None:
        return "poor", f"No verdict before leaks are ruled out: {leak.words}."
    if main is None or main.level == "unknown":
        reason = "items have no vectors" if main is None else main.words
        return "unknown", f"No verdict on this feature: {reason}.{problems}"
    lift, overlap = main.values["lift"], main.values["overlap"]
    if main.level == "poor":
        return "poor", (
            "This feature hardly stands a chance: neighbours by vector are not neighbours by interactions "
            f"({percent(overlap)} in common; with shuffled vectors {percent(main.values['shuffled'])}).{problems}"
        )
    opening = "This feature stands a chance" if main.level == "good" else "This feature stands a small chance"
    size = f"{percent(overlap)} of them" if lift is None else f"{lift:.1f} times as many as with shuffled vectors"
    words = f"{opening}: neighbours by vector are also neighbours by interactions, {size}.{problems}"
    text = next((c for c in agreements if c.source == "text"), None)
    if text is not None and text is not main and text.level != "unknown" and text.values["overlap"] >= overlap:
        words += (
            f" But raw text agrees with interactions at least as well ({percent(text.values['overlap'])} of "
            f"neighbours in common, against {percent(overlap)}): the LLM has yet to show what it adds."
        )
    return ("fair" if poor and main.level == "good" else main.level), words


def _check(
    topic: Topic, one: DiagnosisInput, level: Level, words: str, values: Mapping[str, Any], *, source: str = ""
) -> DiagnosticCheck:
    name = _NAMES[topic].format(source)
    if source and "{}" not in _NAMES[topic]:
        name = f"{name.replace('profiles', 'notes')} ({source})"
    return DiagnosticCheck(
        topic=topic, name=name, kind=one.kind, level=level, words=words, values=values, source=source
    )
