"""Search the options of one candidate: from its defaults to neighbouring values, toward the better side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from enhancer.evaluation.running.search import DEFAULT_FACTORS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from enhancer.contracts.options import Options

    Evaluate = Callable[[Mapping[str, Any]], float | None]
    """Function that tries options and returns their value (higher is better); None if they cannot be trained."""

_ALWAYS = ("regularisation", "regularization")
"""Options that are varied whatever a plugin declares in ``Options.searched``, and before those."""
_FINEST = 1.1
"""Factor below which neighbours are not worth a fit."""


def steps_of(options: Options, tuned: Mapping[str, Sequence[object]] | None = None) -> dict[str, float]:
    """Return the options to vary, the strength of the penalty first, each with the factor of a step.

    The factor is the square root of the one that a hyper-parameter search divides and multiplies by.

    Args:
        options: Options of the candidate, as they are by default.
        tuned: Further options, such as sizes, with values to try, as in :attr:`enhancer.contracts.Backbone.reference`.
            The factor of these is the ratio of two neighbouring values.
    """
    factors = {**{name: DEFAULT_FACTORS[name] for name in _ALWAYS}, **options.searched}
    steps = {name: math.sqrt(factor) for name, factor in factors.items()}
    for name, values in (tuned or {}).items():
        numbers = sorted(value for value in values if isinstance(value, int | float))
        if name not in steps and len(numbers) > 1 and numbers[0] > 0:
            steps[name] = numbers[1] / numbers[0]
    return {name: factor for name, factor in steps.items() if _is_varied(options.in_effect(name))}


def climb(
    start: Mapping[str, int | float], steps: Mapping[str, float], evaluate: Evaluate, more: Callable[[], bool]
) -> None:
    """Try ``start``, then neighbours of the best options so far, one option at a time.

    A neighbour multiplies or divides an option by its factor. Where that is better, the next neighbour lies on the same
    side. Once no neighbour is better, the factors shrink to their square roots.

    Args:
        start: Values of the options to vary, as they are by default.
        steps: Factor of a step, by option.
        evaluate: Tries options.
        more: Returns whether another trial is allowed.
    """
    seen: dict[tuple[int | float, ...], float | None] = {}

    def value_of(options: Mapping[str, int | float]) -> float | None:
        key = tuple(options.values())
        if key not in seen:
            seen[key] = evaluate({name: value for name, value in options.items() if value != start[name]})
        return seen[key]

    best = dict(start)
    reached = value_of(best)
    factors = dict(steps)
    while reached is not None and factors and more():
        for name, factor in factors.items():
            for exponent in (1, -1):
                moved = False
                while more():
                    neighbour = best | {name: _times(best[name], factor**exponent)}
                    value = value_of(neighbour)
                    if value is None or value <= reached:
                        break
                    best, reached, moved = neighbour, value, True
                if moved:
                    break
        factors = {name: math.sqrt(factor) for name, factor in factors.items() if math.sqrt(factor) >= _FINEST}


def _is_varied(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _times(value: float, factor: float) -> int | float:
    """Return the product, with three digits; a count stays a count and changes by one at least."""
    if isinstance(value, int):
        return max(1, round(value * factor), value + 1) if factor > 1 else max(1, min(round(value * factor), value - 1))
    return float(f"{value * factor:.3g}")
