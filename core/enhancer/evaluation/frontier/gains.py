"""Measure what one arm gains over another on one stratum, with errors over users and seeds, and over all its controls.

>>> from enhancer.evaluation.frontier.gains import Worth, gain_between  # doctest: +SKIP
>>> worth = Worth({  # doctest: +SKIP
...     "ids": gain_between(runs_with_notes, runs_without_vectors, "tail", "ndcg@10"),
...     "text": gain_between(runs_with_notes, runs_on_text, "tail", "ndcg@10"),
...     "placebo": gain_between(runs_with_notes, runs_on_shuffled_notes, "tail", "ndcg@10"),
... })
>>> worth.bound()  # worth buying if this is positive  # doctest: +SKIP
0.0061

Runs are those of one arm, one for each seed, as :meth:`enhancer.evaluation.executor.Executor.run` returns them; both
arms have the same seeds. :mod:`~enhancer.evaluation.frontier.prices` has what records cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from enhancer.evaluation.judging.significance import ALPHA, students_t
from enhancer.evaluation.measuring.metrics import direction

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from enhancer.evaluation.running.runs import ArmRun

_ROUNDING = 1e-12
"""Standard error below which there is no noise to test against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """A difference in one metric between two arms on one stratum. A positive one is better, for any metric."""

    delta: float
    """Mean over users and seeds."""
    error: float | None
    """Standard error over users and seeds; None with a single user and seed."""
    df: float | None
    """Degrees of freedom of the error; None with it."""
    seeds: tuple[float, ...] = ()
    """Difference of each seed."""
    users: int = 0
    """Users that the stratum is measured on."""

    def interval(self, alpha: float = ALPHA) -> tuple[float, float] | None:
        """Return the two-sided interval that misses the true difference with probability ``alpha``; None if unknown."""
        if self.error is None or self.df is None:
            return None
        half = self._quantile(1 - alpha / 2) * self.error
        return self.delta - half, self.delta + half

    def bound(self, alpha: float = ALPHA) -> float:
        """Return a lower bound that is above the true difference with probability ``alpha``; -inf if unknown."""
        if self.error is None or self.df is None:
            return -math.inf
        return self.delta - self._quantile(1 - alpha) * self.error

    @property
    def p(self) -> float:
        """One-sided p-value of there being no gain; 1 if unknown."""
        if self.error is None or self.df is None:
            return 1.0
        if self.error <= _ROUNDING:
            return 0.0 if self.delta > _ROUNDING else 1.0
        tail, _ = students_t()
        return float(tail(self.df, -self.delta / self.error))

    @property
    def p_of_difference(self) -> float | None:
        """Two-sided p-value of there being no difference; None if unknown."""
        if self.error is None:
            return None
        return 1.0 if abs(self.delta) <= _ROUNDING else 2 * min(self.p, 1 - self.p)

    def to_json(self) -> dict[str, Any]:
        """Return gain, interval and p-value as JSON values."""
        interval = self.interval()
        return {"gain": self.delta, "interval": None if interval is None else list(interval), "p": self.p}

    def _quantile(self, p: float) -> float:
        assert self.df is not None
        _, quantile = students_t()
        return float(quantile(self.df, p))


@dataclass(frozen=True, slots=True)
class SeedNoise:
    """Change in the difference of two arms by training anew with another seed."""

    variance: float
    """Variance of the difference of one seed, averaged over users."""
    df: int
    """Degrees of freedom of its estimate."""


def seed_noise(arms: Sequence[Sequence[ArmRun]], stratum: str, metric: str) -> SeedNoise | None:
    """Estimate the noise of seeds from many arms together, which a few seeds of two arms tell too little of.

    It is taken to be the same for all: twice the residual variance of arms × seeds after the effects of arms and of
    seeds, which arms share (a randomised block design).

    Args:
        arms: Runs of each arm, all with the same seeds.
        stratum: Name of the stratum.
        metric: Name such as ``ndcg@10``.

    Returns:
        None with fewer than two arms or seeds.
    """
    values = np.array([[run.scores[stratum].mean(metric) for run in _in_order(runs)] for runs in arms])
    if values.ndim != 2 or min(values.shape) < 2:
        return None
    df = (values.shape[0] - 1) * (values.shape[1] - 1)
    residuals = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return SeedNoise(2 * float((residuals**2).sum()) / df, df)


def _in_order(runs: Sequence[ArmRun]) -> list[ArmRun]:
    return sorted(runs, key=lambda run: run.seed)


def gain_between(
    arm: Sequence[ArmRun], control: Sequence[ArmRun], stratum: str, metric: str, noise: SeedNoise | None = None
) -> Gain:
    """Compare the runs of two arms, seed by seed and user by user.

    Args:
        arm: Runs of the arm, one for each seed.
        control: Runs of the other arm with the same seeds, in any order.
        stratum: Name of the stratum, such as ``all``, ``tail`` or ``cold``.
        metric: Name such as ``ndcg@10``.
        noise: Noise of seeds, estimated from more arms; None estimates it from these two.

    Raises:
        ValueError: The seeds differ.
        KeyError: The stratum was not measured.
    """
    others = {run.seed: run for run in control}
    if sorted(run.seed for run in arm) != sorted(others):
        raise ValueError("both arms need the same seeds")
    sign = direction(metric)
    pairs = [(run.scores[stratum], others[run.seed].scores[stratum]) for run in _in_order(arm)]
    if all(metric in one.values for one, _ in pairs):
        return gain_of(sign * np.stack([one.values[metric] - two.values[metric] for one, two in pairs]), noise)
    # A metric of labelled pairs is no mean over users.
    return gain_of(sign * np.array([[one.mean(metric) - two.mean(metric)] for one, two in pairs]), noise)


def gain_of(differences: NDArray[np.float64], noise: SeedNoise | None = None) -> Gain:
    r"""Estimate a mean difference and its standard error over both users and seeds.

    Users and seeds are crossed random effects: with :math:`s_u^2` the variance of the users' means over seeds and
    :math:`s_s^2` that of the seeds' means over users, the squared error is :math:`s_u^2 / n + s_s^2 / m`, which counts
    the noise of single values twice and so is on the safe side. Its degrees of freedom are those of Satterthwaite 1946,
    *An Approximate Distribution of Estimates of Variance Components*.

    Args:
        differences: float64 ``[m, n]``: difference by seed and user.
        noise: Noise of seeds, in place of :math:`s_s^2`; None estimates it from the differences.

    >>> result = gain_of(np.array([[0.1, 0.3], [0.2, 0.4]]))
    >>> round(result.delta, 3), round(result.error, 4), round(result.df, 2)
    (0.25, 0.1118, 1.47)
    """
    m, n = differences.shape
    by_seed = differences.mean(axis=1) if n else np.zeros(m)
    by_user = differences.mean(axis=0)
    parts: list[tuple[float, float]] = []
    if n > 1:
        parts.append((float(np.var(by_user, ddof=1)) / n, n - 1))
    if noise is not None:
        parts.append((noise.variance / m, noise.df))
    elif m > 1:
        parts.append((float(np.var(by_seed, ddof=1)) / m, m - 1))
    squared = sum(part for part, _ in parts)
    df = None
    if parts:
        df = (
            1 / sum((part / squared) ** 2 / own for part, own in parts) if squared > 0 else sum(own for _, own in parts)
        )
    return Gain(
        delta=float(by_seed.mean()),
        error=math.sqrt(squared) if parts else None,
        df=None if df is None else float(df),
        seeds=tuple(map(float, by_seed)),
        users=n,
    )


@dataclass(frozen=True, slots=True)
class Worth:
    """Gains of one set of generated texts on one stratum over each of its controls."""

    over: Mapping[str, Gain]
    """By control: ``ids`` (no vectors), ``text`` (raw text, no LLM) and ``placebo`` (shuffled), those there are."""

    def bound(self, alpha: float = ALPHA) -> float:
        """Return the smallest lower bound over all controls; -inf without controls.

        If it is positive, the texts gain over every control. All must be positive, so the error probability of that
        statement is ``alpha`` without a correction for the number of controls (Berger 1982, intersection-union tests).
        """
        return min((gain.bound(alpha) for gain in self.over.values()), default=-math.inf)

    @property
    def p(self) -> float:
        """One-sided p-value of there being no gain over at least one of the controls."""
        return max((gain.p for gain in self.over.values()), default=1.0)

    def to_json(self) -> dict[str, Any]:
        """Return the gain over each control as JSON values."""
        return {name: gain.to_json() for name, gain in self.over.items()}
