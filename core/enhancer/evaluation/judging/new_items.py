"""Say what it costs to show new items: their ranking among all items, and that of everything together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.judging.wording import change, p_value_if_known, size_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.judging.findings import Finding

MIXED, EVERYTHING = "cold_among_all", "everything"
"""Panels on which new items compete with the others: their own test pairs, and all test pairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItems:
    """Share of new items in lists, in the catalogue, and in what users took."""

    places: int
    """Length of the lists."""
    shown: Mapping[str, Sequence[float]]
    """Share of the places that go to new items, by arm and seed."""
    items: float
    """Share of new items in the catalogue."""
    taken: float
    """Share of new items in the test interactions of the panel ``everything``."""

    def to_json(self) -> dict[str, Any]:
        """Return the shares as JSON values."""
        return {
            "places": self.places,
            "share_of_items": self.items,
            "share_of_interactions": self.taken,
            "share_of_places": {arm: list(values) for arm, values in self.shown.items()},
        }


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one arm elsewhere, and the sentences about it."""

    significant: bool
    """Whether the arm is significantly worse elsewhere than the same backbone without vectors."""
    headline: str
    """Clause for the opening of a verdict; empty if the cost is not significant."""
    sentences: list[str]


def cost_of(
    arm: str,
    findings: Mapping[str, Finding],
    against: str,
    metric: str,
    shares: NewItems | None,
) -> Cost | None:
    """Compare an arm with ids alone where new items compete with the others; None without such a panel.

    Args:
        arm: Name of the arm.
        findings: Findings by panel.
        against: Name of the arm with the same backbone without vectors.
        metric: The metric that decides.
        shares: Shares of new items; None if they were not measured.
    """
    everything, mixed = findings.get(EVERYTHING), findings.get(MIXED)
    comparison = None if everything is None else everything.compare(arm, against, metric)
    if everything is None or comparison is None:
        return None
    label, sentences = metric_label(metric), []
    if mixed is not None:
        alone = mixed.compare(arm, against, metric)
        among = format_number(mixed.mean(arm, metric)), format_number(mixed.mean(against, metric))
        sentences.append(
            f"Ranked among all items, new ones reach {label} {among[0]} against {among[1]} of {against}"
            f"{p_value_if_known(alone)}{_share(arm, shares)}"
        )
    reached = format_number(everything.mean(arm, metric)), format_number(everything.mean(against, metric))
    ending = "the others pay for it" if comparison.worse else "a gain" if comparison.better else "no significant cost"
    sentences.append(
        f"Over everything {arm} reaches {reached[0]} against {reached[1]} of {against}{change(comparison)}"
        f"{p_value_if_known(comparison)}: {ending}"
    )
    headline = ""
    if comparison.worse:
        known = p_value_if_known(comparison)
        headline = f"over everything {size_of(comparison)} by {arm}{known}: new items cost the others"
    return Cost(comparison.worse, headline, sentences)


def _share(arm: str, shares: NewItems | None) -> str:
    if shares is None or arm not in shares.shown:
        return ""
    values = shares.shown[arm]
    return (
        f", and take {_percent(sum(values) / len(values))} of the first {shares.places} places; they are "
        f"{_percent(shares.items)} of the items and {_percent(shares.taken)} of what users took"
    )


def _percent(share: float) -> str:
    """Return a share in whole percent, without rounding a positive one to nothing."""
    return "less than 1%" if 0 < share < 0.005 else f"{share:.0%}"
