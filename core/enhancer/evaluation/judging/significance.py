"""Is the difference more than the luck of the seed? Paired tests over seeds, intervals, and correction for many arms.

Arms share the split and, per seed, the initialisation: differences are taken seed by seed. What the seeds tell is how
training noise compares with the difference *on this split*; the bootstrap over users tells how far the mean
would move with other users of the same kind.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

ALPHA = 0.05
"""The level of significance; intervals cover 95%."""
_EXACT = 50
"""Pairs up to which Wilcoxon's test counts every assignment of signs."""
_NOTHING = 1e-12
"""Relative to the values: a smaller spread is rounding, not chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """A paired comparison. None stands for what cannot be told; nothing here is ever NaN or infinite."""

    n: int
    """Pairs."""
    delta: float
    """Mean of the differences."""
    sd: float | None
    """Their standard deviation (n - 1); None with one pair."""
    t: float | None
    """``delta / (sd / sqrt(n))``; None with one pair or without any spread."""
    df: int | None
    """Degrees of freedom, ``n - 1``; None with one pair."""
    p: float | None
    """Two-sided, of Student's t; None where t is."""
    effect_size: float | None
    """Cohen's d of paired differences, ``delta / sd``."""
    wilcoxon_p: float | None
    """Two-sided, of the signed-rank test, exact up to 50 pairs. With 5 pairs it cannot be below .0625."""
    interval: tuple[float, float] | None
    """95% interval of delta by Student's t."""


def paired(values: Sequence[float] | NDArray[np.float64], baseline: Sequence[float] | NDArray[np.float64]) -> Paired:
    """Compare runs of two arms, pair by pair.

    >>> result = paired([0.30, 0.31, 0.32, 0.33, 0.34], [0.28, 0.30, 0.29, 0.31, 0.32])
    >>> round(result.delta, 3), round(result.sd, 5), round(result.t, 1), result.df, round(result.p, 3)
    (0.02, 0.00707, 6.3, 4, 0.003)

    Raises:
        ValueError: Not as many values on both sides, none at all, or one that is not finite.
    """
    a, b = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"pairs needed, not {a.shape} against {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("values must be finite")
    differences = a - b
    n, delta = len(differences), float(differences.mean())
    if n == 1:
        return Paired(
            n=1, delta=delta, sd=None, t=None, df=None, p=None, effect_size=None, wilcoxon_p=None, interval=None
        )
    df, sd = n - 1, float(differences.std(ddof=1))
    wilcoxon = _signed_rank(differences)
    scale = float(max(np.abs(a).max(), np.abs(b).max()))
    if sd <= _NOTHING * scale:
        # Equal differences in every run: no chance was at work that a test could weigh the difference against.
        return Paired(
            n=n, delta=delta, sd=0.0, t=None, df=df, p=None, effect_size=None, wilcoxon_p=wilcoxon, interval=None
        )
    student, quantile = _student()
    error = sd / math.sqrt(n)
    t, reach = delta / error, quantile(df, 1 - ALPHA / 2) * error
    return Paired(
        n=n,
        delta=delta,
        sd=sd,
        t=t,
        df=df,
        p=min(1.0, 2 * float(student(df, -abs(t)))),
        effect_size=delta / sd,
        wilcoxon_p=wilcoxon,
        interval=(delta - float(reach), delta + float(reach)),
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjust a family of p-values (Holm 1979), so that the chance of any false alarm stays below the level.

    The i-th smallest of m is multiplied by ``m - i + 1``; an adjusted value is at least the one before it, at most 1.
    None stays None and does not count.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    floor = 0.0
    for place, (p, i) in enumerate(order):
        floor = max(floor, min(1.0, p * (len(order) - place)))
        adjusted[i] = floor
    return adjusted


def bootstrap(
    differences: NDArray[np.float64], *, seed: int = 0, draws: int = 2000, exact_up_to: int = 20_000
) -> list[tuple[float, float] | None]:
    """95% percentile intervals of means over users, who are redrawn with replacement: the same draws for each column.

    Args:
        differences: float64 ``[n, m]``: of each user (mean over seeds), in ``m`` comparisons.
        seed: Draws the resamples.
        draws: How many.
        exact_up_to: With more users than this the normal interval is given, which is then the same to three digits.

    Returns:
        Lower and upper end by column; None with fewer than two users.
    """
    n, columns = differences.shape
    if n < 2:
        return [None] * columns
    if n > exact_up_to:
        middle = differences.mean(axis=0)
        reach = 1.959963984540054 * differences.std(axis=0, ddof=1) / math.sqrt(n)
        low, high = middle - reach, middle + reach
    else:
        rng = np.random.default_rng(seed)
        means = np.empty((draws, columns))
        block = max(1, (1 << 20) // n)
        for start in range(0, draws, block):
            count = min(block, draws - start)
            drawn = rng.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
            weights = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
            means[start : start + count] = weights @ differences / n
        low, high = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return [(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def _signed_rank(differences: NDArray[np.float64]) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test; zero differences are dropped, equal ones share their rank.

    Exact up to 50 pairs, by the normal distribution beyond.

    Every assignment of signs is equally likely under the hypothesis; their rank sums are counted, not listed. Ranks
    are doubled, so that halves from ties stay whole numbers.
    """
    scale = float(np.abs(differences).max(initial=0.0))
    kept = differences[np.abs(differences) > _NOTHING * scale]
    if not len(kept):
        return None
    size = np.round(np.abs(kept) / scale, 12)  # what differs by rounding alone is tied
    _, where, counts = np.unique(size, return_inverse=True, return_counts=True)
    below, equal = (np.cumsum(counts) - counts)[where], counts[where]
    ranks = 2 * below + equal + 1
    total = int(ranks.sum())
    positive = int(ranks[kept > 0].sum())
    if len(kept) > _EXACT:
        z = (positive - total / 2) / math.sqrt(float((ranks.astype(np.float64) ** 2).sum()) / 4)
        return min(1.0, math.erfc(abs(z) / math.sqrt(2)))
    ways = np.zeros(total + 1)
    ways[0] = 1.0
    for rank in ranks.tolist():
        ways[rank:] = ways[rank:] + ways[:-rank]
    tail = min(positive, total - positive)
    return min(1.0, 2 * float(ways[: tail + 1].sum() / ways.sum()))


def _student() -> tuple[np.ufunc, np.ufunc]:
    """Student's t: cumulative probability and quantile, of degrees of freedom and value."""
    try:
        from scipy.special import stdtr, stdtrit
    except ImportError:
        raise ConfigError(
            "tests of significance need scipy, which is not installed", hint='pip install "enhancer[train]"'
        ) from None
    return stdtr, stdtrit
