"""Results of ``plan`` and ``generate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from enhancer.data.reviews.report import ReviewReport

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
    """Result of a dry run. ``entities = cached + to_generate + quarantined + without_text + pending + left``."""

    entities: int
    cached: int
    """Entities whose profile (or text) is current or already paid for."""
    to_generate: int
    """Entities that are new or changed, or lack any of their notes."""
    quarantined: int
    """Entities in quarantine: they failed with the same input before, and are asked about again only on request."""
    requests: int
    """Calls to make, without re-asks."""
    prompt_tokens: int
    """Estimated prompt tokens, corrected by earlier calls of the model."""
    completion_tokens: int
    """Estimated completion tokens."""
    cost_usd: float | None
    """Estimated cost; None if the price is unknown."""
    to_embed: int = 0
    """Records to embed; if no embedder was compared, only those with new content."""
    without_text: int = 0
    """Entities with neither text nor history; they are not asked about."""
    pending: int = 0
    """Entities in open batch jobs."""
    left: int = 0
    """Entities that a limit leaves for a later run."""
    joint_texts: int | None = None
    """Joint texts to embed, of the notes that are stored by now; None if no input is a joint text."""
    notes: int | None = None
    """Notes to generate, of which an entity may have several; None if every entity has one."""
    review_notes: int | None = None
    """Calls that condense reviews, among ``requests``; None if prompts show no reviews."""
    reviews: ReviewReport | None = None
    """Counts of the reviews, by whether prompts may show them; None if prompts show none."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer plan --json`` prints.

        ``without_text``, ``pending`` and ``left`` are among them if they are not 0, ``notes`` if entities have several,
        ``joint_texts`` if inputs are, and ``review_notes`` and ``reviews`` if prompts show reviews.
        """
        return _to_json(self, _PLAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationReport:
    """Result of a run.

    Unless the run was stopped, ``entities = cached + generated + quarantined + without_text + pending``.
    """

    entities: int
    cached: int
    generated: int
    """Entities with new notes (or, without an LLM, new text), all of which are stored."""
    quarantined: int
    """Entities with a note in quarantine; others of their notes may be stored."""
    requests: int
    """Calls that were answered, and so paid for."""
    prompt_tokens: int | None
    """Prompt tokens of the calls that report them; None if none does."""
    completion_tokens: int | None
    """Completion tokens of the calls that report them; None if none does."""
    cost_usd: float | None
    """Cost; None if the cost of any call is unknown."""
    seconds: float
    """Wall time."""
    embedded: int = 0
    """Records embedded, for new content or because the embedder changed."""
    without_text: int = 0
    """Entities with neither text nor history; they were not asked about and have no record."""
    pending: int = 0
    """Entities in open batch jobs."""
    notes: int | None = None
    """New notes that are stored, of which an entity may have several; None if every entity has one."""
    review_notes: int | None = None
    """New notes on reviews, which prompts show; None if prompts show no reviews."""
    reviews: ReviewReport | None = None
    """Counts of the reviews, by whether prompts may show them; None if prompts show none."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer generate --json`` prints.

        ``without_text`` and ``pending`` are among them if they are not 0, ``notes`` if entities have several, and
        ``review_notes`` and ``reviews`` if prompts show reviews.
        """
        return _to_json(self, _REPORT)


def _to_json(result: Plan | GenerationReport, names: tuple[str, ...]) -> dict[str, Any]:
    some = {name: getattr(result, name) for name in ("without_text", "pending") if getattr(result, name)}
    if isinstance(result, Plan) and result.left:
        some["left"] = result.left
    for name in ("notes", "review_notes"):
        if (value := getattr(result, name)) is not None:
            some[name] = value
    if isinstance(result, Plan) and result.joint_texts is not None:
        some["joint_texts"] = result.joint_texts
    if result.reviews is not None:
        some["reviews"] = result.reviews.to_json()
    return {name: getattr(result, name) for name in names} | some
