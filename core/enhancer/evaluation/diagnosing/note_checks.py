"""Judge notes without an LLM: facts that their texts lack, frames that they share, aspects that repeat each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from enhancer.evaluation.diagnosing.checks import DiagnosticCheck, at_most, percent
from enhancer.evaluation.diagnosing.facts import FactStats, Vocabulary, fact_stats
from enhancer.evaluation.diagnosing.overlap import AspectOverlap, aspect_overlap
from enhancer.evaluation.diagnosing.sameness import shared_frames

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.contracts.record import Kind
    from enhancer.evaluation.diagnosing.checks import Level
    from enhancer.evaluation.diagnosing.wording import ProfileAndText
    from enhancer.evaluation.running.vectors import FloatMatrix

SAMPLE = 5_000
"""Maximum number of entities whose notes are read; of more, a sample."""
FACTS = (0.05, 0.25)
"""Maximum share of notes with a name, year or number that their text does not have."""
FRAMES = (0.10, 0.30)
"""Maximum share of notes with the same frame."""
OVERLAP = (0.40, 0.70)
"""Maximum likeness of two aspects, as a share of the way from chance to equality."""
_MIN_FACT_NOTES = 20
"""Fewer notes with a text are not judged by their facts."""
_PLURALS = {"name": "names", "year": "years", "number": "numbers"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Notes:
    """Notes of a sample of the entities of one kind."""

    kind: Kind
    by_aspect: Mapping[str, Sequence[ProfileAndText]]
    """Notes of each aspect in the same order of entities, each with what the model was shown; an empty one is
    missing."""
    vectors: Mapping[str, FloatMatrix] = field(default_factory=dict)
    """float32 ``[n, d]`` of aspects, in the same order; rows of zeros are missing."""
    knowledge: Literal["closed", "open"] = "closed"
    """Source that the notes were to be written from."""


def note_checks(notes: Notes, *, seed: int = 0) -> list[DiagnosticCheck]:
    """Judge notes by their words, without an LLM.

    Args:
        notes: The notes.
        seed: Seed of the pairs of different entities.
    """
    present = {aspect: [one for one in some if one.profile] for aspect, some in notes.by_aspect.items()}
    vocabulary = Vocabulary(one.profile for some in present.values() for one in some)
    checks = []
    for aspect, some in present.items():
        stats = fact_stats(some, vocabulary)
        if stats.notes >= _MIN_FACT_NOTES:
            checks.append(_facts(notes, aspect, stats))
    checks += [check for aspect, some in present.items() if (check := _frames(notes, aspect, some)) is not None]
    pairs = [
        found for names in combinations(notes.by_aspect, 2) if (found := _compared(notes, names, seed)) is not None
    ]
    return [*checks, *([_overlap(notes, pairs)] if pairs else [])]


def _facts(notes: Notes, aspect: str, found: FactStats) -> DiagnosticCheck:
    total, missing = sum(found.facts.values()), sum(found.unsupported.values())
    by_kind = ", ".join(
        f"{found.unsupported.get(kind, 0):,} of {count:,} {_PLURALS[kind]}" for kind, count in found.facts.items()
    )
    words = (
        f"{percent(found.share)} of {found.notes:,} notes have a name, year or number that their text does not have"
        + (f": {by_kind}" if missing else "")
    )
    limits = {
        "in a row": "; of names, only several capitalised words in a row were found, because nouns have capitals",
        "none": "; names were not looked for, because the script has no capitals",
        "all": "",
    }
    words += limits[found.names]
    if found.examples:
        words += "; most in " + "; ".join(f"{id_} ({', '.join(facts)})" for id_, facts in found.examples[:3])
    level: Level = at_most(found.share, FACTS)
    if notes.knowledge == "open":
        # Facts from elsewhere are what was asked for; whether they are true, words cannot tell.
        level = "unknown" if missing else "good"
        words += '; expected with knowledge = "open", and not checked here'
    values = {
        "share": found.share,
        "notes": found.notes,
        "facts": dict(found.facts),
        "unsupported": dict(found.unsupported),
        "supported": 1 - missing / total if total else None,
        "names": found.names,
        "knowledge": notes.knowledge,
        "examples": [{"id": id_, "facts": facts} for id_, facts in found.examples],
    }
    return _check("facts", notes, f"facts not in the text ({aspect})", level, words, values, source=aspect)


def _frames(notes: Notes, aspect: str, some: Sequence[ProfileAndText]) -> DiagnosticCheck | None:
    found = shared_frames([one.profile for one in some])
    if found is None:
        return None
    words = f'{percent(found.share)} of {found.notes:,} notes share a frame, "{found.frame}"'
    if not found.frame:
        words = f"no two of {found.notes:,} notes share a frame"
    elif found.frame != found.sentence and found.sentence:
        words += f'; {percent(found.sentence_share)} have a sentence of the form "{found.sentence}"'
    values = {
        "share": found.share,
        "frame": found.frame,
        "part": {"frame": found.part, "share": found.part_share},
        "sentence": {"frame": found.sentence, "share": found.sentence_share},
    }
    level = at_most(found.share, FRAMES)
    return _check("frames", notes, f"shared frames ({aspect})", level, words, values, source=aspect)


def _compared(notes: Notes, names: tuple[str, str], seed: int) -> AspectOverlap | None:
    one, other = (notes.by_aspect[name] for name in names)
    vectors = None
    if names[0] in notes.vectors and names[1] in notes.vectors:
        vectors = notes.vectors[names[0]], notes.vectors[names[1]]
    texts = [note.profile for note in one], [note.profile for note in other]
    return aspect_overlap(names, texts, vectors, seed=seed)


def _overlap(notes: Notes, pairs: Sequence[AspectOverlap]) -> DiagnosticCheck:
    most = max(pairs, key=lambda pair: pair.excess)
    words = f"of {len(pairs)} pairs of aspects, " if len(pairs) > 1 else ""
    words += (
        f"{' and '.join(most.aspects)} are {'the most ' if len(pairs) > 1 else ''}alike: of the words of the shorter"
    )
    words += (
        f" note, {percent(most.words)} are in the other (of another {notes.kind}'s note, {percent(most.chance_words)})"
    )
    if most.cosine is not None and most.chance_cosine is not None:
        words += f"; the mean cosine is {most.cosine:.2f} (with another {notes.kind}'s, {most.chance_cosine:.2f})"
    values = {
        "excess": most.excess,
        "pairs": [
            {
                "aspects": list(pair.aspects),
                "excess": pair.excess,
                "cosine": pair.cosine,
                "chance_cosine": pair.chance_cosine,
                "words": pair.words,
                "chance_words": pair.chance_words,
                "entities": pair.entities,
            }
            for pair in pairs
        ],
    }
    level = at_most(most.excess, OVERLAP)
    return _check("aspects", notes, "aspects that repeat each other", level, words, values)


def _check(
    topic: Literal["facts", "frames", "aspects"],
    notes: Notes,
    name: str,
    level: Level,
    words: str,
    values: Mapping[str, object],
    *,
    source: str = "",
) -> DiagnosticCheck:
    return DiagnosticCheck(
        topic=topic, name=name, kind=notes.kind, level=level, words=words, values=values, source=source
    )
