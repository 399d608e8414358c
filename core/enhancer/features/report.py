"""What ``plan`` and ``generate`` tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_PLAN = (
    *("entities", "cached", "to_generate", "quarantined", "requests", "prompt_tokens", "completion_tokens"),
    "cost_usd",
)
_REPORT = (
    *("entities", "cached", "generated", "quarantined", "requests", "prompt_tokens", "completion_tokens", "cost_usd"),
    "seconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A dry run. ``entities = cached + to_generate + quarantined``."""

    entities: int
    cached: int
    """Those whose profile (or text) is already paid for and current."""
    to_generate: int
    """Those that are new or changed."""
    quarantined: int
    """Those that failed with the same input before; they are not asked again unless that is asked for."""
    requests: int
    """Calls to be made, re-asks not counted."""
    prompt_tokens: int
    """Estimated, corrected by what the ledger knows of the model."""
    completion_tokens: int
    cost_usd: float | None
    """None where the price is unknown."""
    to_embed: int = 0
    """Records whose vector must be made; where no embedder was asked, only those of new content."""

    def to_json(self) -> dict[str, Any]:
        """The keys that ``enhancer plan --json`` prints."""
        return {name: getattr(self, name) for name in _PLAN}


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationReport:
    """What a run did. ``entities = cached + generated + quarantined``, unless it was stopped."""

    entities: int
    cached: int
    generated: int
    """Entities that got a new profile (or, without an LLM, a new text) stored."""
    quarantined: int
    requests: int
    """Calls that were answered, and so paid for, in this run."""
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    """None where any call's cost is not known."""
    seconds: float
    embedded: int = 0
    """Records whose vector was made."""

    def to_json(self) -> dict[str, Any]:
        """The keys that ``enhancer generate --json`` prints."""
        return {name: getattr(self, name) for name in _REPORT}
