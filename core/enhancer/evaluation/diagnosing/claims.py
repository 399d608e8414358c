"""Sum up what a judge says about the claims of notes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from enhancer.evaluation.diagnosing.checks import DiagnosticCheck, at_least, at_most, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts.record import Kind
    from enhancer.evaluation.diagnosing.checks import Level

Support = Literal["supported", "absent", "contradicted"]
SUPPORTED = (0.95, 0.80)
"""Minimum share of the claims of notes from closed knowledge that their text supports."""
CONTRADICTED = (0.02, 0.10)
"""Maximum share of the claims of notes from open knowledge that contradict their text."""
_RESAMPLES = 2_000
_LEVEL = 0.05
_EXAMPLES = 5


class Claim(NamedTuple):
    """A statement of fact in a note, and whether its text supports it."""

    words: str
    support: Support


class JudgedNote(NamedTuple):
    """The claims of a note; none if it says nothing that is a fact."""

    id: str
    claims: Sequence[Claim]


@dataclass(frozen=True, slots=True)
class ClaimStats:
    """Claims of notes of one aspect."""

    notes: int
    claims: int
    supported: float | None
    """Share of all claims; None without any."""
    interval: tuple[float, float] | None
    """95% interval of :attr:`supported`, over notes."""
    contradicted: float | None
    examples: list[tuple[str, list[str]]]
    """Ids and claims without support of the notes with most of them; contradicted ones first."""


def claim_stats(notes: Sequence[JudgedNote], *, seed: int = 0) -> ClaimStats:
    """Sum up claims.

    The interval is a percentile bootstrap over notes, because the claims of one note stand or fall together. Where all
    claims, or none, are supported, it is that of Clopper and Pearson with notes for trials, which has a width.

    Args:
        notes: The judged notes.
        seed: Seed of the bootstrap.
    """
    counts = np.array([len(note.claims) for note in notes], np.float64)
    supported = np.array([_count(note, "supported") for note in notes], np.float64)
    contradicted = sum(_count(note, "contradicted") for note in notes)
    total = int(counts.sum())
    without = [
        (note.id, [claim.words for claim in sorted(note.claims, key=_order) if claim.support != "supported"])
        for note in sorted(notes, key=lambda note: (-_count(note, "contradicted"), -_count(note, "absent")))
    ]
    return ClaimStats(
        notes=len(notes),
        claims=total,
        supported=float(supported.sum()) / total if total else None,
        interval=_interval(supported, counts, seed) if total else None,
        contradicted=contradicted / total if total else None,
        examples=[(id_, words) for id_, words in without if words][:_EXAMPLES],
    )


def claims_check(
    kind: Kind, aspect: str, found: ClaimStats, *, knowledge: Literal["closed", "open"], model: str
) -> DiagnosticCheck:
    """Return the check of the claims of one aspect.

    Args:
        kind: Kind of the entities.
        aspect: Aspect of the notes.
        found: Their claims.
        knowledge: What they were to be written from. Claims that are not in the text are faults if it is closed;
            contradictions always are.
        model: Model of the judge.
    """
    level: Level = "unknown"
    if found.supported is None or found.contradicted is None or found.interval is None:
        words = f"{model} finds no statement of fact in {found.notes:,} notes"
    else:
        low, high = found.interval
        words = (
            f"by the judgement of {model}, {percent(found.supported)} of {found.claims:,} claims in {found.notes:,} "
            f"notes are supported by their text (95% interval {percent(low)} to {percent(high)}), and "
            f"{percent(found.contradicted)} contradict it"
        )
        level = at_most(found.contradicted, CONTRADICTED)
        if knowledge == "closed":
            level = at_least(found.supported, SUPPORTED)
        else:
            words += '; claims from elsewhere are expected with knowledge = "open"'
        if found.examples:
            worst = (f"{id_} ({'; '.join(claims[:2])})" for id_, claims in found.examples[:3])
            words += f"; without support are, for example, {', '.join(worst)}"
    values = {
        "notes": found.notes,
        "claims": found.claims,
        "supported": found.supported,
        "interval": None if found.interval is None else list(found.interval),
        "contradicted": found.contradicted,
        "knowledge": knowledge,
        "model": model,
        "examples": [{"id": id_, "claims": claims} for id_, claims in found.examples],
    }
    return DiagnosticCheck(
        topic="claims", name=f"claims ({aspect})", kind=kind, level=level, words=words, source=aspect, values=values
    )


def _count(note: JudgedNote, support: Support) -> int:
    return sum(claim.support == support for claim in note.claims)


def _order(claim: Claim) -> int:
    return 0 if claim.support == "contradicted" else 1


def _interval(supported: np.ndarray, counts: np.ndarray, seed: int) -> tuple[float, float]:
    n = int(np.count_nonzero(counts))
    edge = (_LEVEL / 2) ** (1 / n)
    if supported.sum() == counts.sum():
        return edge, 1.0
    if not supported.any():
        return 0.0, 1 - edge
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=_RESAMPLES)
    totals = drawn @ counts
    shares = (drawn @ supported)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(shares, [_LEVEL / 2, 1 - _LEVEL / 2])
    return float(low), float(high)
