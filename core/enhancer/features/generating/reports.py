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
    *("seconds", "embedded"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A dry run. ``entities = cached + to_generate + quarantined + without_text + pending``."""

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
    without_text: int = 0
    """Entities that have neither text nor history: there is nothing to ask about them."""
    pending: int = 0
    """Those that are out in an offline batch: asked about, and not answered yet."""

    def to_json(self) -> dict[str, Any]:
        """The keys that ``enhancer plan --json`` prints; ``without_text`` and ``pending`` only where there are any."""
        return _told(self, _PLAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationReport:
    """What a run did.

    Unless it was stopped, ``entities = cached + generated + quarantined + without_text + pending``.
    """

    entities: int
    cached: int
    generated: int
    """Entities that got a new profile (or, without an LLM, a new text) stored."""
    quarantined: int
    requests: int
    """Calls that were answered, and so paid for, in this run."""
    prompt_tokens: int | None
    """Those of the calls that tell; None where none does."""
    completion_tokens: int | None
    cost_usd: float | None
    """None where any call's cost is not known."""
    seconds: float
    embedded: int = 0
    """Records whose vector was made, be it for new content or by another embedder."""
    without_text: int = 0
    """Entities that have neither text nor history: they were not asked about, and have no record."""
    pending: int = 0
    """Entities that are out in an offline batch: asked about, and not answered yet."""

    def to_json(self) -> dict[str, Any]:
        """The keys that ``enhancer generate --json`` prints; ``without_text`` and ``pending`` where there are any."""
        return _told(self, _REPORT)


def _told(result: Plan | GenerationReport, names: tuple[str, ...]) -> dict[str, Any]:
    some = {name: getattr(result, name) for name in ("without_text", "pending") if getattr(result, name)}
    return {name: getattr(result, name) for name in names} | some
