"""Say where arms stand relative to the lines that they have to beat: reference lines, or content baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from enhancer.evaluation.judging.formatting import format_number
from enhancer.evaluation.judging.wording import enumerate_words, p_value, p_value_if_known
from enhancer.evaluation.measuring.metrics import direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.evaluation.judging.findings import Comparison, Finding
    from enhancer.evaluation.running.arms import Arm

Relation = Literal["above", "level", "below"]
"""``above`` and ``below`` are significant; ``level`` is everything else."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one arm stands relative to the best line."""

    line: str
    """Name of the best line."""
    value: float
    """Its value."""
    relation: Relation
    comparison: Comparison | None
    """The arm's comparison with it."""
    beaten_by: tuple[str, ...] = ()
    """Lines that are significantly better than every arm, best first."""
    content: bool = False
    """Whether the lines are content baselines."""

    def words(self, finding: Finding, metric: str, *, gained: bool) -> str:
        """Return a clause that continues the opening of a verdict, such as ``, level with ...``.

        If a line beats every arm, the clause is an opening of its own.

        Args:
            finding: The panel.
            metric: The metric that decides.
            gained: Whether the opening tells a gain.
        """
        if self.beaten_by:
            return self._every_arm(finding, metric)
        kind = "content baseline" if self.content else "reference"
        known = "" if self.comparison is None or self.comparison.p_adjusted is None else f", {p_value(self.comparison)}"
        line = f"the best {kind}, {self.line} ({format_number(self.value)}{known})"
        if self.relation == "below":
            return f", {'but' if gained else 'and'} below {line}"
        return f", {'above' if self.relation == 'above' else 'level with'} {line}"

    def _every_arm(self, finding: Finding, metric: str) -> str:
        lines = finding.lines(metric)
        named = [f"{name} ({format_number(lines[name])})" for name in self.beaten_by]
        verb = "beats" if len(named) == 1 else "beat"
        return f"{enumerate_words(named)} {verb} every arm{p_value_if_known(self.comparison)}"


def standing_of(finding: Finding, arm: str, arms: Sequence[Arm], metric: str) -> Standing | None:
    """Compare an arm with the best line of a panel; None without lines that have this metric.

    Args:
        finding: The panel.
        arm: Name of the arm.
        arms: All arms.
        metric: The metric that decides.
    """
    lines = finding.lines(metric)
    if not lines:
        return None
    name, value = next(iter(lines.items()))
    comparison = finding.compare_line(arm, name, metric)
    relation: Relation = "level"
    if comparison is not None and comparison.significant:
        relation = "above" if comparison.gain > 0 else "below"
    # A line that is significantly better than the arm with the highest mean is better than all of them.
    real = [each.name for each in arms if not each.shuffle] or [arm]
    top = max(real, key=lambda each: direction(metric) * finding.mean(each, metric))
    beaten_by = tuple(
        line for line in lines if (test := finding.compare_line(top, line, metric)) is not None and test.worse
    )
    if beaten_by:
        comparison = finding.compare_line(top, beaten_by[-1], metric)
    return Standing(name, value, relation, comparison, beaten_by, bool(finding.content))
