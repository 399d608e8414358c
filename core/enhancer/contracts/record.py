"""The record that a feature store keeps: one profile, or one text, of one entity, with its vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["item", "user"]
"""What an entity is."""

PROFILE_ASPECT = ""
"""The aspect under which the profile written by an LLM is kept."""
TEXT_ASPECT = "text"
"""The aspect under which the vector of an entity's raw text is kept (no LLM took part)."""


class Key(NamedTuple):
    """What identifies a record.

    >>> Key("item", "42")
    Key(kind='item', id='42', aspect='')
    """

    kind: Kind
    id: str
    aspect: str = PROFILE_ASPECT


class Stamp(NamedTuple):
    """The two fields that decide whether a record is still fresh; cheap to look up by the million."""

    input_hash: str
    """Hash of all that went into the profile (or the text): see ``enhancer.harness``."""
    embedder: str
    """Fingerprint of the embedder that made the vector."""


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """One row of the feature store; the field names are fixed by contract."""

    id: str
    kind: Kind = "item"
    aspect: str = PROFILE_ASPECT
    """Which of several profiles of the entity this is; part of the key."""
    profile: str
    """The profile; empty for the aspect ``text``."""
    tags: tuple[str, ...] = ()
    vector: NDArray[np.float32]
    """float32 ``[dim]``, finite, not zero."""
    prompt_version: str = ""
    """Name and fingerprint of the template, such as ``item/v1@3fa9c1d2``; empty where no LLM took part."""
    model: str = ""
    """The model that wrote the profile; empty where no LLM took part."""
    embedder: str
    """Fingerprint of the embedder."""
    generated_at: str
    """UTC, ISO 8601."""
    input_hash: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    """None when unknown, never 0 by default."""

    @property
    def key(self) -> Key:
        """The record's key."""
        return Key(self.kind, self.id, self.aspect)

    @property
    def stamp(self) -> Stamp:
        """The record's freshness fields."""
        return Stamp(self.input_hash, self.embedder)
