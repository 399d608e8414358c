"""Test differences between arms: paired tests over seeds, bootstrap intervals over users, and Holm's correction.

Arms share the split and, per seed, the initialisation, so differences are taken seed by seed. A test over seeds
compares the difference with the noise of training *on this split*. The bootstrap over users estimates how the mean
would vary with other users from the same population.
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
"""Significance level; intervals cover 95%."""
_EXACT = 50
"""Largest number of pairs for which Wilcoxon's test is exact."""
_ROUNDING = 1e-12
"""Standard deviation, relative to the values, below which differences are taken to be equal up to rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedTest:
    """Result of a paired comparison. Undefined values are None; no value is NaN or infinite."""

    n: int
    """Number of pairs."""
    delta: float
    """Mean of the differences."""
    sd: float | None
    """Standard deviation of the differences (n - 1); None with one pair."""
    t: float | None
    """``delta / (sd / sqrt(n))``; None with one pair or equal differences."""
    df: int | None
    """Degrees of freedom, ``n - 1``; None with one pair."""
    p: float | None
    """Two-sided p-value of Student's t; None if ``t`` is."""
    effect_size: float | None
    """Cohen's d of paired differences, ``delta / sd``."""
    wilcoxon_p: float | None
    """Two-sided p-value of the signed-rank test, exact up to 50 pairs. With 5 pairs it is at least .0625."""
    interval: tuple[float, float] | None
    """95% interval of ``delta`` by Student's t."""


def paired(
    values: Sequence[float] | NDArray[np.float64],
    baseline: Sequence[float] | NDArray[np.float64],
    *,
    signed_rank: bool = True,
) -> PairedTest:
    """Compare runs of two arms, pair by pair.

    Args:
        values: Values of one arm, by seed or by user.
        baseline: Values of the other arm, in the same order.
        signed_rank: Whether to compute the signed-rank test as well, which sorts the differences.

    >>> result = paired([0.30, 0.31, 0.32, 0.33, 0.34], [0.28, 0.30, 0.29, 0.31, 0.32])
    >>> round(result.delta, 3), round(result.sd, 5), round(result.t, 1), result.df, round(result.p, 3)
    (0.02, 0.00707, 6.3, 4, 0.003)

    Raises:
        ValueError: The numbers of values differ or are zero, or a value is not finite.
    """
    a, b = np.asarray(values, np.float64), np.asarray(baseline, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"need two equally long lists of values, got shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("values must be finite")
    differences = a - b
    n, delta = len(differences), float(differences.mean())
    if n == 1:
        return PairedTest(
            n=1, delta=delta, sd=None, t=None, df=None, p=None, effect_size=None, wilcoxon_p=None, interval=None
        )
    df, sd = n - 1, float(differences.std(ddof=1))
    wilcoxon = _signed_rank(differences) if signed_rank else None
    scale = float(max(np.abs(a).max(), np.abs(b).max()))
    if sd <= _ROUNDING * scale:
        # The differences are all equal: there is no noise to test against.
        return PairedTest(
            n=n, delta=delta, sd=0.0, t=None, df=df, p=None, effect_size=None, wilcoxon_p=wilcoxon, interval=None
        )
    student, quantile = students_t()
    error = sd / math.sqrt(n)
    t, half_width = delta / error, float(quantile(df, 1 - ALPHA / 2) * error)
    return PairedTest(
        n=n,
        delta=delta,
        sd=sd,
        t=t,
        df=df,
        p=min(1.0, 2 * float(student(df, -abs(t)))),
        effect_size=delta / sd,
        wilcoxon_p=wilcoxon,
        interval=(delta - half_width, delta + half_width),
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Adjust a family of p-values by Holm's step-down method (Holm 1979), which controls the family-wise error rate.

    The i-th smallest of m values is multiplied by ``m - i + 1``. An adjusted value is at least the previous one and at
    most 1. None stays None and does not count towards m.

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
    """Compute 95% percentile bootstrap intervals of means over users. All columns share the same resamples.

    Args:
        differences: float64 ``[n, m]``: difference of each user (mean over seeds) in ``m`` comparisons.
        seed: Seed of the resamples.
        draws: Number of resamples.
        exact_up_to: With more users than this, the normal interval is returned, which then agrees to three digits.

    Returns:
        Lower and upper end for each column; None with fewer than two users.
    """
    n, columns = differences.shape
    if n < 2:
        return [None] * columns
    if n > exact_up_to:
        mean = differences.mean(axis=0)
        half_width = 1.959963984540054 * differences.std(axis=0, ddof=1) / math.sqrt(n)
        low, high = mean - half_width, mean + half_width
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
    """Compute the two-sided p-value of Wilcoxon's signed-rank test (exact up to 50 pairs, normal approximation beyond).

    Zero differences are dropped, and equal ones share their mean rank. Every assignment of signs is equally likely
    under the null hypothesis; the number of assignments with each rank sum is counted by dynamic programming. Ranks are
    doubled to keep the mean ranks of ties whole numbers.
    """
    scale = float(np.abs(differences).max(initial=0.0))
    kept = differences[np.abs(differences) > _ROUNDING * scale]
    if not len(kept):
        return None
    size = np.round(np.abs(kept) / scale, 12)  # values that differ by rounding only are tied
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


def students_t() -> tuple[np.ufunc, np.ufunc]:
    """Return the distribution and quantile functions of Student's t; both take the degrees of freedom first."""
    try:
        from scipy.special import stdtr, stdtrit
    except ImportError:
        raise ConfigError(
            "significance tests need scipy, which is not installed", hint='pip install "enhancer[train]"'
        ) from None
    return stdtr, stdtrit
