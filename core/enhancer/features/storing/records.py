"""Records on their way to a vector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from enhancer.contracts.record import TEXT_ASPECT, Record
from enhancer.harness.clock import now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.features.generating.survey import ToEmbed, Work
    from enhancer.harness.answers.case import Case

_NO_VECTOR = np.zeros(0, np.float32)


def embedding_text(profile: str, tags: Sequence[str]) -> str:
    """What of a profile is embedded: its words, then its tags.

    >>> embedding_text("A warm story.", ("friendship", "toys"))
    'A warm story. friendship, toys'
    """
    return f"{profile} {', '.join(tags)}" if tags else profile


@dataclass(frozen=True, slots=True)
class Unembedded:
    """A record that lacks its vector."""

    record: Record
    text: str
    is_new: bool
    """Whether it counts as generated in this run, rather than as paid for before."""
    input_hash: str | None = None
    """A claim to be given back once it is stored."""


def profile_record(case: Case, *, is_new: bool) -> Unembedded:
    """The record of a valid answer."""
    answer, usage = case.answer, case.usage
    assert answer is not None
    record = Record(
        id=case.key.id,
        kind=case.key.kind,
        aspect=case.key.aspect,
        profile=answer.profile,
        tags=answer.tags,
        vector=_NO_VECTOR,
        prompt_version=case.ask.template.version,
        model=case.model,
        embedder="",
        generated_at=case.at,
        input_hash=case.input_hash,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cost_usd=usage.cost_usd,
    )
    return Unembedded(record, embedding_text(answer.profile, answer.tags), is_new, case.input_hash)


def text_record(work: Work, row: ToEmbed, *, is_new: bool) -> Unembedded:
    """The record of a raw text."""
    record = Record(
        id=row.id,
        kind=work.kind,
        aspect=TEXT_ASPECT,
        profile="",
        vector=_NO_VECTOR,
        embedder="",
        generated_at=now(),
        input_hash=row.input_hash,
    )
    return Unembedded(record, row.text, is_new)


def embedded_anew(record: Record) -> Unembedded:
    """A stored profile that another embedder shall embed; all else of it stays."""
    return Unembedded(replace(record), embedding_text(record.profile, record.tags), is_new=False)
