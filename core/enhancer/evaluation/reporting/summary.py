"""Sum up an ablation in a few lines: the data, the simplest models, the gain, its cost, and a decision."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.judging.wording import percentage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enhancer.evaluation.judging.findings import Finding
    from enhancer.evaluation.judging.result import Ablation
    from enhancer.evaluation.judging.verdict import Verdict
    from enhancer.evaluation.reporting.gallery import Gallery

Decision = Literal["ship", "ship in part", "do not ship", "not decided"]
"""``ship in part``: for rare or new items, where a gain is shown, while nothing is lost over all items."""
POPULARITY = "popularity"
"""Name of the reference line that ranks by popularity."""
_PANELS = {"all": "All items", "tail": "Rare items", "cold": "New items"}
_PARTS = {"tail": "rare items", "cold": "new items"}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Main points of an ablation."""

    decision: Decision
    reason: str
    """One sentence."""
    metric: str
    seeds: int
    best: tuple[str, float] | None
    """Best arm with vectors over all items, and its value; None without such arms."""
    baseline: tuple[str, float]
    popularity: float | None
    """Value of ranking by popularity over all items; None if it was not measured."""
    simple: tuple[str, float] | None
    """Best reference line over all items, and its value; None without any."""
    gains: dict[str, str]
    """First sentence of the verdict, by panel."""
    cost_usd: float | None = None
    """Cost of all stored notes in USD; None if unknown."""
    tokens: int | None = None
    """Prompt and completion tokens of all stored notes; None if they were not counted."""
    data: str = ""
    """Names of the data."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Users, items and interactions."""
    date: str = ""
    """Day on which the ablation ended, ISO 8601."""

    @property
    def headline(self) -> str:
        """The decision and its reason, such as ``Ship prior: ...``."""
        verb = {
            "ship": "Ship",
            "ship in part": "Ship in part",
            "do not ship": "Do not ship",
            "not decided": "Not decided",
        }
        named = f" {self.best[0]}" if self.decision == "ship" and self.best is not None else ""
        return f"{verb[self.decision]}{named}: {self.reason}"

    def lines(self) -> list[tuple[str, str]]:
        """Return names and values for a table, the decision excluded."""
        label = metric_label(self.metric)
        rows = [("data", ", ".join(filter(None, [self.data, *_sizes(self.sizes)])))]
        rows.append(("date", self.date))
        rows.append(("popularity", "not measured" if self.popularity is None else _valued(label, self.popularity)))
        if self.simple is not None:
            rows.append(("best simple model", f"{self.simple[0]}, {_valued(label, self.simple[1])}"))
        rows.append(("without vectors", f"{self.baseline[0]}, {_valued(label, self.baseline[1])}"))
        if self.best is not None:
            change = "" if not self.baseline[1] else f" ({percentage(self.best[1] / self.baseline[1] - 1)})"
            rows.append(("best with vectors", f"{self.best[0]}, {_valued(label, self.best[1])}{change}"))
        rows += [(_PANELS[panel].lower(), words) for panel, words in self.gains.items()]
        rows.append(("cost of the notes", self.cost))
        return [(name, value) for name, value in rows if value]

    @property
    def cost(self) -> str:
        """Cost of the stored notes in words; empty if they were not counted."""
        if self.tokens is None:
            return ""
        if not self.tokens:
            return "no tokens of an LLM"
        paid = "price unknown" if self.cost_usd is None else f"${self.cost_usd:,.2f}"
        return f"{paid}, {self.tokens:,} tokens, paid once"

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values."""
        return {
            "decision": self.decision,
            "headline": self.headline,
            "reason": self.reason,
            "metric": self.metric,
            "seeds": self.seeds,
            "best": _named(self.best),
            "baseline": _named(self.baseline),
            "popularity": self.popularity,
            "simple": _named(self.simple),
            "gains": self.gains,
            "cost_usd": self.cost_usd,
            "tokens": self.tokens,
            "data": self.data,
            "sizes": self.sizes,
            "date": self.date,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Summary:
        """Return the summary that :meth:`to_json` wrote.

        Raises:
            KeyError: A key is missing.
        """
        pairs = {
            name: None if found[name] is None else (str(found[name]["name"]), float(found[name]["value"]))
            for name in ("best", "baseline", "simple")
        }
        same = {name: found[name] for name in _SAME}
        return cls(**same, **pairs)  # type: ignore[arg-type]


_SAME = ("decision", "reason", "metric", "seeds", "popularity", "gains", "cost_usd", "tokens", "data", "sizes", "date")


def summarise(ablation: Ablation, *, gallery: Gallery | None = None, data: str = "", date: str = "") -> Summary:
    """Sum up an ablation.

    Args:
        ablation: The results.
        gallery: Tells the cost of the stored notes.
        data: Names of the data.
        date: Day on which the ablation ended.
    """
    metric, overall = ablation.metrics[0], ablation.overall
    decision, reason = decide(ablation.verdicts)
    lines = {name: values[metric] for name, values in overall.reference.items() if metric in values}
    best = None if (verdict := ablation.verdicts.get("all")) is None else verdict.arm
    simple = next(iter(overall.lines(metric).items()), None)
    return Summary(
        decision=decision,
        reason=reason,
        metric=metric,
        seeds=len(ablation.seeds),
        best=None if best is None else (best, overall.mean(best, metric)),
        baseline=(ablation.baseline, overall.mean(ablation.baseline, metric)),
        popularity=_popularity(overall, metric, lines),
        simple=simple,
        gains={name: f"{one.headline}." for name, one in ablation.verdicts.items() if name in _PANELS},
        cost_usd=None if gallery is None else gallery.cost_usd,
        tokens=None if gallery is None else gallery.tokens,
        data=data,
        sizes={
            name: ablation.facts[name]
            for name in ("users", "items", "train", "validation", "test")
            if name in ablation.facts
        },
        date=date,
    )


def decide(verdicts: Mapping[str, Verdict]) -> tuple[Decision, str]:
    """Return whether to ship the vectors, and the reason in a sentence.

    Shipping needs a gain over shuffled vectors, and no simpler model above. A gain on rare or new items alone is enough
    if it costs nothing over all items.

    Args:
        verdicts: Verdicts by panel; ``all`` among them.
    """
    overall = verdicts["all"]
    parts = [
        words
        for name, words in _PARTS.items()
        if name in verdicts and verdicts[name].level == "semantic gain" and not verdicts[name].costs_others
    ]
    costly = [words for name, words in _PARTS.items() if name in verdicts and verdicts[name].costs_others]
    if overall.level == "contradictory":
        return "do not ship", "validation and test contradict each other, so neither can be relied on."
    if overall.level == "unknown":
        if overall.arm is None:
            return "not decided", "no arm with vectors was run."
        return "not decided", "these runs cannot tell a gain from chance; run more seeds."
    if overall.level == "below reference":
        return "do not ship", f"{overall.line} is better than the recommender that the vectors are part of."
    if overall.level == "loss":
        return "do not ship", "the vectors make recommendations over all items worse."
    if overall.level == "semantic gain":
        if overall.costs_others:
            return "do not ship", "recommendations over everything, new items included, become worse."
        also = f", on {' and '.join(parts)} too" if parts else ""
        return "ship", f"the meaning of the vectors improves recommendations over all items{also}."
    if parts:
        where = " and ".join(parts)
        return "ship in part", f"a gain on {where} that comes from meaning, and none shown over all items."
    if costly:
        return "do not ship", f"what is gained on {' and '.join(costly)} is paid for by other items."
    if overall.level == "gain":
        return "do not ship", "there is a gain, but nothing shows that it comes from the meaning of the vectors."
    return "do not ship", "no significant gain is shown."


def _popularity(overall: Finding, metric: str, lines: Mapping[str, float]) -> float | None:
    """Return the value of popularity as a reference line, or else as an arm."""
    if POPULARITY in lines:
        return lines[POPULARITY]
    return overall.mean(POPULARITY, metric) if POPULARITY in overall.per_seed else None


def _sizes(sizes: Mapping[str, int]) -> list[str]:
    shown = [f"{sizes[name]:,} {name}" for name in ("users", "items") if name in sizes]
    parts = [sizes[name] for name in ("train", "validation", "test") if name in sizes]
    return [*shown, f"{sum(parts):,} interactions"] if parts else shown


def _valued(label: str, value: float) -> str:
    return f"{label} {format_number(value)}"


def _named(pair: tuple[str, float] | None) -> dict[str, Any] | None:
    return None if pair is None else {"name": pair[0], "value": pair[1]}
