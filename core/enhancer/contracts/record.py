"""Records of a feature store: one profile or one text of an entity, with its vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["item", "user"]
"""Kind of an entity."""

Confidence = Literal["", "low", "medium", "high"]
"""Confidence that a model states in its text; empty if unknown."""
CONFIDENCES: tuple[Confidence, ...] = ("low", "medium", "high")

PROFILE_ASPECT = ""
"""Aspect of the profile written by an LLM."""
TEXT_ASPECT = "text"
"""Aspect of the raw text of an entity, embedded without an LLM."""


def holds_note(aspect: str) -> bool:
    """Return whether records of an aspect hold a note. The raw text and joint texts are embedded and not copied.

    >>> holds_note(""), holds_note("mood#2"), holds_note("text"), holds_note("plot+mood")
    (True, True, False, False)
    """
    return aspect != TEXT_ASPECT and "+" not in aspect


class Key(NamedTuple):
    """Key of a record.

    >>> Key("item", "42")
    Key(kind='item', id='42', aspect='')
    """

    kind: Kind
    id: str
    aspect: str = PROFILE_ASPECT


class Stamp(NamedTuple):
    """The two fields that decide whether a record is up to date; cheap to read for millions of records."""

    input_hash: str
    """Hash of all inputs of the profile or text; see ``enhancer.harness``."""
    embedder: str
    """Fingerprint of the embedder that computed the vector."""


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """One row of the feature store. The field names are fixed."""

    id: str
    kind: Kind = "item"
    aspect: str = PROFILE_ASPECT
    """Name of the aspect, for entities with several records; part of the key."""
    profile: str
    """The text; empty for the raw text and for joint texts, see :func:`holds_note`."""
    tags: tuple[str, ...] = ()
    vector: NDArray[np.float32]
    """float32 ``[dim]``, finite, not zero."""
    prompt_version: str = ""
    """Name and fingerprint of the template, such as ``item/v1@3fa9c1d2``; empty without an LLM."""
    model: str = ""
    """Model that wrote the profile; empty without an LLM."""
    embedder: str
    """Fingerprint of the embedder."""
    generated_at: str
    """Time of creation in UTC, ISO 8601."""
    input_hash: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    """None if unknown; never 0 by default."""
    confidence: Confidence = ""
    """Confidence that the model states in its text; empty if it was not asked or did not say."""

    @property
    def key(self) -> Key:
        """Key of the record."""
        return Key(self.kind, self.id, self.aspect)

    @property
    def stamp(self) -> Stamp:
        """Input hash and embedder of the record."""
        return Stamp(self.input_hash, self.embedder)
