"""Find results that contradict themselves: an inverted ranking, or a validation part that says the opposite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from enhancer.evaluation.judging.formatting import format_number, metric_label
from enhancer.evaluation.judging.significance import ALPHA, paired
from enhancer.evaluation.judging.wording import format_p, p_value
from enhancer.evaluation.measuring.metrics import direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.judging.findings import Finding

_CHANCE = 0.5
_CLEARLY = 0.02
"""Distance of an AUC from that of a random order, from which validation counts as clearly above it."""
_AUC = ("auc", "gauc")
_QUANTILE = 1.645
"""Standard errors below a half at which an AUC is not that of a random order: 5%, one-sided."""


def contradiction(
    finding: Finding,
    arm: str,
    baseline: str,
    metric: str,
    validation: Mapping[str, Sequence[float | None]],
) -> str | None:
    """Return the opening of a verdict on results that contradict themselves; None if they do not.

    Args:
        finding: The panel.
        arm: Name of the best arm with vectors, or of the baseline.
        baseline: Name of the baseline arm.
        metric: The metric that decides.
        validation: Values of ``metric`` on the validation part, by arm and seed.
    """
    own = _known(validation.get(arm, ()))
    for name in finding.per_seed[arm]:
        if name.strip().lower() not in _AUC or finding.mean(arm, name) >= _CHANCE - _by_chance(finding):
            continue
        label, reached = metric_label(name), format_number(finding.mean(arm, name))
        below = "below the .5 of a random order"
        if baseline != arm:
            below += f"; {baseline} reaches {format_number(finding.mean(baseline, name))}"
        if name == metric and own and np.mean(own) >= _CHANCE + _CLEARLY:
            both = f"{format_number(float(np.mean(own)))} on validation and {reached} on test"
            return f"the split is inverted. {arm} reaches {label} {both}, {below}"
        return f"the ranking is inverted. {arm} reaches {label} {reached} on test, {below}"
    base = _known(validation.get(baseline, ()))
    test = finding.compare(arm, baseline, metric)
    if test is None or not test.significant or len(own) != len(base) or len(own) < 2:
        return None
    earlier = paired(own, base, signed_rank=False)
    if earlier.p is None or earlier.p >= ALPHA or direction(metric) * earlier.delta * test.gain >= 0:
        return None
    opening = "the split is inverted" if test.gain < 0 else "validation contradicts the test"
    on_validation, on_test = ("gains", "loses") if test.gain < 0 else ("loses", "gains")
    values = [format_number(float(np.mean(each))) for each in (own, base)]
    tested = [format_number(finding.mean(name, metric)) for name in (arm, baseline)]
    return (
        f"{opening}. Against {baseline}, {arm} {on_validation} on validation ({metric_label(metric)} "
        f"{values[0]} against {values[1]}, {format_p(earlier.p)}) and {on_test} on test ({tested[0]} against "
        f"{tested[1]}, {p_value(test)})"
    )


def _by_chance(finding: Finding) -> float:
    """Return how far below a half the AUC of a random order may be.

    With as many negative as positive pairs n, its variance is (2 n + 1) / (12 n²) (Mann & Whitney 1947, eq. 5), about
    1 / (6 n).
    """
    return _QUANTILE / math.sqrt(6 * max(finding.interactions, 1))


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]
