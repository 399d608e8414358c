"""Weigh what more text brought against what it would cost from a live model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from enhancer.contracts import Price
from enhancer.evaluation.frontier.prices import CostTable
from enhancer.project.buying.prices import record_prices
from enhancer_plugins.demo.showcase import NOTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer import Project
    from enhancer.evaluation import Ablation

MODEL, PRICE, DATE = "gpt-4o-mini", Price(input=0.15, output=0.6), "30 November 2026"
"""A live model that could have written the recorded answers, and its price."""
METRIC = "recall@20"
_RUNGS: Sequence[tuple[str, str, Sequence[str]]] = (
    ("text", "title, year and genres", ()),
    ("profile", "a profile of two sentences", ("",)),
    ("both", "text and profile", ("",)),
    ("prior", "text and four notes", NOTES),
    ("placebo", "the same, shuffled among the films", NOTES),
)
"""Arm, description, and the stored aspects that an LLM has to write for it."""


@dataclass(frozen=True)
class Rung:
    """One amount of text about each film."""

    arm: str
    words: str
    cold: float
    """Mean Recall@20 on held-out films."""
    cost_usd: float | None
    """Cost of the LLM's part for all films; None if unknown."""
    prompt_tokens: float | None
    completion_tokens: float | None


@dataclass(frozen=True)
class Density:
    """Recall and cost of each amount of text."""

    rungs: list[Rung]
    recorded: bool
    """Whether answers were recorded, and costs are those of :data:`MODEL`."""

    def to_json(self) -> dict[str, Any]:
        """Return the rungs for ``--json``, and whose prices they have."""
        priced = {"model": MODEL, "input": PRICE.input, "output": PRICE.output, "date": DATE} if self.recorded else None
        return {"metric": METRIC, "rungs": [vars(rung) for rung in self.rungs], "price": priced}


def measure_density(project: Project, ablation: Ablation, *, recorded: bool) -> Density:
    """Return the arms' recall on held-out films beside the cost of their texts.

    Args:
        project: The project after ``generate``.
        ablation: Its ablation, with held-out items.
        recorded: Whether answers were recorded, so that they are priced as from :data:`MODEL`.
    """
    prices = record_prices(project.parts)
    if recorded:
        prices = replace(prices, price=PRICE)
    items = list(project.parts.split.train.item_ids)
    finding = ablation.findings["cold"]
    rungs = []
    for arm, words, aspects in _RUNGS:
        cost = CostTable.read(project.store, items, "item", aspects, prices).sum()
        rungs.append(
            Rung(
                arm=arm,
                words=words,
                cold=finding.mean(arm, METRIC),
                cost_usd=cost.usd,
                prompt_tokens=cost.prompt_tokens,
                completion_tokens=cost.completion_tokens,
            )
        )
    return Density(rungs, recorded)
