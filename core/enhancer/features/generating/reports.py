"""Results of ``plan`` and ``generate``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from enhancer.shown import Shown

if TYPE_CHECKING:
    from enhancer.data.reviews.report import ReviewReport
    from enhancer.harness.calls.cost_tracking import UsageTotals
    from enhancer.harness.embedding.estimate import EmbeddingEstimate

_PLAN = (
    *("entities", "cached", "to_generate", "quarantined", "requests", "prompt_tokens", "completion_tokens"),
    "cost_usd",
)
_REPORT = (
    *("entities", "cached", "generated", "quarantined", "requests", "prompt_tokens", "completion_tokens", "cost_usd"),
    *("seconds", "embedded"),
)
_EMBEDDING = ("embedding_requests", "embedding_tokens", "embedding_cost_usd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(Shown):
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
    """Estimated completion tokens, with those of thought."""
    cost_usd: float | None
    """Estimated cost, that of a remote embedder too; None if a price is unknown."""
    thought_tokens: int = 0
    """Part of the completion tokens that goes into thought, as far as it is known."""
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
    embedding_texts: int | None = None
    """Texts that a remote embedder would be sent: those whose vector is not paid for; None without one."""
    embedding_requests: int | None = None
    """Requests to it; None without one."""
    embedding_tokens: int | None = None
    """Estimated tokens of the texts that it would embed; None without one."""
    embedding_cost_usd: float | None = None
    """Their estimated cost, part of ``cost_usd``; None without one, or if its price is unknown."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer plan --json`` prints.

        ``without_text``, ``pending`` and ``left`` are among them if they are not 0, ``notes`` if entities have several,
        ``joint_texts`` if inputs are, ``review_notes`` and ``reviews`` if prompts show reviews, and those of embeddings
        with a remote embedder.
        """
        return _to_json(self, _PLAN)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row, of the counts."""
        return [_counts(self.to_json())]

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        cost = "an unknown price" if self.cost_usd is None else f"${self.cost_usd:,.4f}"
        return [
            f"{self.to_generate:,} of {self.entities:,} to generate by {self.requests:,} calls, for {cost} (estimated)"
        ]

    def with_embedding(self, embedding: EmbeddingEstimate) -> Plan:
        """Add what a remote embedder will be sent."""
        return replace(
            self,
            cost_usd=_sum(self.cost_usd, embedding.cost_usd),
            embedding_texts=embedding.texts,
            embedding_requests=embedding.requests,
            embedding_tokens=embedding.tokens,
            embedding_cost_usd=embedding.cost_usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationReport(Shown):
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
    """Cost of all calls, to a remote embedder too; None if any of it is unknown."""
    seconds: float
    """Wall time."""
    embedded: int = 0
    """Records embedded, for new content or because the embedder changed."""
    without_text: int = 0
    """Entities with neither text nor history; they were not asked about and have no record."""
    pending: int = 0
    """Entities in open batch jobs."""
    truncated: int = 0
    """Texts that were embedded without their end, because they are longer than the embedder reads."""
    failed_requests: int = 0
    """Requests without an answer beside ``requests``: refused, failed, or out of time."""
    unanswered_usd: float = 0.0
    """Largest cost of the requests without an answer, to a remote embedder too, that may have been charged
    nevertheless, if there is a limit. Not part of ``cost_usd``."""
    notes: int | None = None
    """New notes that are stored, of which an entity may have several; None if every entity has one."""
    review_notes: int | None = None
    """New notes on reviews, which prompts show; None if prompts show no reviews."""
    reviews: ReviewReport | None = None
    """Counts of the reviews, by whether prompts may show them; None if prompts show none."""
    embedding_requests: int | None = None
    """Requests that a remote embedder answered; None without one."""
    embedding_failed_requests: int = 0
    """Requests to it without an answer, beside ``embedding_requests``: refused, failed, or out of time."""
    embedding_tokens: int | None = None
    """Tokens that it embedded; None without one, or if it reports none."""
    embedding_cost_usd: float | None = None
    """Their cost, part of ``cost_usd``; None without one, or if it is unknown."""

    def to_json(self) -> dict[str, Any]:
        """Return the keys that ``enhancer generate --json`` prints.

        ``without_text``, ``pending``, ``failed_requests``, ``embedding_failed_requests`` and ``truncated`` are among
        them if they are not 0, ``notes`` if entities have several, ``review_notes`` and ``reviews`` if prompts show
        reviews, and those of embeddings with a remote embedder.
        """
        return _to_json(self, _REPORT)

    def to_rows(self) -> list[dict[str, Any]]:
        """Return one row, of the counts."""
        return [_counts(self.to_json())]

    def html_lines(self) -> list[str]:
        """See :meth:`enhancer.shown.Shown.html_lines`."""
        cost = "an unknown price" if self.cost_usd is None else f"${self.cost_usd:,.4f}"
        held = f"; {self.quarantined:,} in quarantine" if self.quarantined else ""
        return [f"{self.generated:,} of {self.entities:,} generated, for {cost} in {self.seconds:.1f} s{held}"]

    def with_embedded(
        self, records: int, failed: int, usage: UsageTotals | None, *, truncated: int = 0
    ) -> GenerationReport:
        """Add records that were embedded after the run.

        Args:
            records: Their number.
            failed: Entities with a text that has no vector.
            usage: Tokens and cost of a remote embedder; None without one.
            truncated: Texts longer than the embedder reads.
        """
        of_cached = min(failed, self.cached)
        of_new = min(failed - of_cached, self.generated)
        added = replace(
            self,
            embedded=self.embedded + records,
            truncated=self.truncated + truncated,
            cached=self.cached - of_cached,
            generated=self.generated - of_new,
            quarantined=self.quarantined + of_cached + of_new,
        )
        if usage is None:
            return added
        more = None if usage.unknown_cost else usage.cost_usd
        return replace(
            added,
            cost_usd=_sum(self.cost_usd, more),
            unanswered_usd=self.unanswered_usd + usage.unanswered_usd,
            embedding_requests=(self.embedding_requests or 0) + usage.calls,
            embedding_failed_requests=self.embedding_failed_requests + usage.failed,
            embedding_tokens=_sum(self.embedding_tokens, usage.tokens[0]),
            embedding_cost_usd=_sum(self.embedding_cost_usd, more),
        )


def _counts(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not isinstance(value, dict | list)}


N = TypeVar("N", int, float)


def _sum(one: N | None, other: N | None) -> N | None:
    """Return a sum; None if a part of it is unknown."""
    return None if one is None or other is None else round(one + other, 12)


def _to_json(result: Plan | GenerationReport, names: tuple[str, ...]) -> dict[str, Any]:
    counts = (
        *("without_text", "pending", "failed_requests", "embedding_failed_requests", "truncated", "left"),
        "thought_tokens",
    )
    some = {name: value for name in counts if (value := getattr(result, name, 0))}
    for name in ("notes", "review_notes"):
        if (value := getattr(result, name)) is not None:
            some[name] = value
    if isinstance(result, Plan) and result.joint_texts is not None:
        some["joint_texts"] = result.joint_texts
    if result.embedding_requests is not None:
        some |= {name: getattr(result, name) for name in _EMBEDDING}
        if isinstance(result, Plan):
            some |= {"to_embed": result.to_embed, "embedding_texts": result.embedding_texts}
    if result.reviews is not None:
        some["reviews"] = result.reviews.to_json()
    return {name: getattr(result, name) for name in names} | some
