"""Implicit alternating least squares.

Hu, Koren & Volinsky 2008, "Collaborative Filtering for Implicit Feedback Datasets", ICDM; with the frequency-scaled
regularisation of Rendle, Krichene, Zhang & Koren 2022, "Revisiting the Performance of iALS on Item Recommendation
Benchmarks", RecSys, eq. 3-4.
"""

from __future__ import annotations

import time
from collections.abc import Mapping  # noqa: TC003 - pydantic reads it
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from enhancer.contracts import Backbone, Factors, Fitted, Options
from enhancer.errors import DivergenceError
from enhancer_plugins.training.closed_form import finish
from enhancer_plugins.training.interactions import recency_weights, trained
from enhancer_plugins.training.loop import Flatness

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from enhancer.contracts import Fuser, Fusion, Monitor, TrainingData
    from enhancer.contracts.record import Kind
    from enhancer_plugins.training.compiled.least_squares import SparseRows


_FLAT = Flatness(window=2, tolerance=1e-3, may_rise=True)
"""The loss is the squared error of observed pairs alone, which may rise while the whole objective falls."""


_ROUNDS_ALONE = 3
"""Epochs without a prior. Form and strength of a prior follow from embeddings, which have to take shape before."""
_DRAWN_ROWS = 8192
"""Rows that are drawn at once."""
_KINDS: tuple[Kind, Kind] = ("user", "item")


class ALSOptions(Options):
    """``[backbone] use = "als"``."""

    searched: ClassVar[Mapping[str, float]] = {"unobserved": 4.0, "half_life": 4.0}

    dim: int = Field(default=64, ge=1)
    """Length of an embedding."""
    epochs: int = Field(default=24, ge=1)
    """Maximum number of epochs; each solves all users, then all items."""
    unobserved: float = Field(default=7.0, gt=0)
    """Total weight of all pairs as zeros, in multiples of the number of interactions: the weight ``α₀`` of one pair is
    this times the density."""
    regularisation: float = Field(default=0.015, ge=0)
    """Weight of the L2 penalty. A user with ``n`` interactions has the penalty ``regularisation · (n + α₀ n_items)``,
    likewise an item."""
    half_life: Annotated[float, Field(gt=0)] | Literal["none"] = "none"
    """Age at which an interaction has half of the weight of the latest, as a share of the time that the training
    interactions span; none: all weigh the same."""
    steps: int = Field(default=3, ge=1)
    """Conjugate-gradient steps per row and epoch."""
    init_std: float = Field(default=0.1, gt=0)
    """Standard deviation of the initial embeddings' length."""
    eval_every: int = Field(default=2, ge=1)
    """Epochs between validations."""
    patience: int = Field(default=2, ge=1)
    """Validations without improvement after which training stops."""


class ALS(Backbone):
    r"""Matrix factorisation of implicit feedback in closed form, one side at a time.

    Minimises, over all users u and items i,

    .. math:: \sum_{(u, i) \in S} w_{ui} (1 - x_u^\top y_i)^2 + \alpha_0 \sum_{u, i} (x_u^\top y_i)^2
        + \lambda \sum_u (|I_u| + \alpha_0 n_\text{items}) \|x_u\|^2
        + \lambda \sum_i (|U_i| + \alpha_0 n_\text{users}) \|y_i\|^2

    The weights :math:`w` are 1, or halve with the age of the interaction and have the mean 1. :math:`|I_u|` and
    :math:`|U_i|` are sums of weights. A fuser may expect embeddings from vectors: from the fourth epoch on, the
    penalty is then on the distance from them, times the fuser's strength.
    """

    options_class = ALSOptions
    options: ALSOptions
    accepts = frozenset({"served"})
    candidates: ClassVar[tuple[Mapping[str, object], ...]] = ({}, {"half_life": 0.2})
    reference: ClassVar[Mapping[str, Sequence[object]] | None] = {
        "regularisation": (0.005, 0.015, 0.045),
        "unobserved": (3.5, 7.0, 14.0),
        "dim": (64, 128, 256),
        "half_life": ("none", 0.5, 0.2),
    }
    memory_hint = "lower [backbone] dim, or choose another [backbone] use"

    def unsuited(self, data: TrainingData) -> str | None:
        """Return that interactions without times cannot be weighed by age."""
        weighs = self.options.half_life != "none"
        return "interactions have no timestamps" if weighs and data.timestamps is None else None

    def memory(self, data: TrainingData) -> int:
        """Estimate the peak memory of :meth:`fit`, in bytes."""
        rows = data.n_users + data.n_items
        return 4 * rows * (5 * self.options.dim + 8) + 48 * len(data.users)

    def fit(self, data: TrainingData, fuser: Fuser, *, seed: int, monitor: Monitor) -> Fitted:
        """Alternate between users and items until validation stops improving."""
        own = self.options
        fusion = fuser.build_checked(data, own.dim, seed=seed)
        model = _Factorisation(own, data, fusion, seed)
        best: float | None = None
        best_epoch, stale, stopped = 0, 0, None
        history: list[dict[str, float]] = []
        validates = monitor.repeats is None
        last = own.epochs if monitor.repeats is None else monitor.repeats
        for epoch in range(1, last + 1):
            started = time.perf_counter()
            loss = model.train_epoch(prior=epoch > _ROUNDS_ALONE)
            if not np.isfinite(loss):
                raise DivergenceError(f"{self.display_name} diverged: the loss of epoch {epoch} is {loss}")
            metric = None
            flat = validates and epoch < last and _FLAT.reached([*(each["loss"] for each in history), loss])
            if not validates:
                best_epoch = epoch
            elif epoch % own.eval_every == 0 or epoch == last or flat:
                metric = monitor.validate(model.factors())
                if metric is None:
                    best_epoch = epoch
                elif best is None or metric > best:
                    best, best_epoch, stale = metric, epoch, 0
                    model.keep()
                else:
                    stale += 1
            if epoch < last and stale == own.patience:
                stopped = f"validation did not improve in {stale} validations"
            elif flat:
                stopped = str(_FLAT)
            entry = {"epoch": float(epoch), "loss": loss, "seconds": time.perf_counter() - started}
            history.append(entry if metric is None else {**entry, "metric": metric})
            monitor.epoch_finished(epoch, last, loss, metric)
            if stopped is not None:
                break
        model.restore()
        found = model.finished(seed=seed, monitor=monitor)
        return replace(found, epochs=len(history), best_epoch=best_epoch, history=history, stopped=stopped)


class _Factorisation:
    """The factors of one run.

    Attributes:
        users: float32 ``[n_users, d]``.
        items: float32 ``[n_items, d]``.
    """

    def __init__(self, options: ALSOptions, data: TrainingData, fusion: Fusion, seed: int) -> None:
        from enhancer_plugins.training.compiled.least_squares import sparse_rows

        self._data, self._fusion = data, fusion
        self._trained = dict(zip(_KINDS, trained(data), strict=True))
        self._under_prior: set[Kind] = set()
        self._without_prior: set[Kind] = set()
        n = len(data.users)
        weights = None if options.half_life == "none" else recency_weights(data, options.half_life)
        self._steps, self._n = options.steps, n
        self._unobserved = options.unobserved * n / (data.n_users * data.n_items)
        self._penalties: dict[Kind, NDArray[np.float32]] = {
            "user": _penalty(options, np.bincount(data.users, weights, data.n_users), self._unobserved * data.n_items),
            "item": _penalty(options, np.bincount(data.items, weights, data.n_items), self._unobserved * data.n_users),
        }
        self._by_user = sparse_rows(data.users, data.items, data.n_users, weights)
        self._by_item = sparse_rows(data.items, data.users, data.n_items, weights)
        random = np.random.default_rng([seed & 0xFFFFFFFF, 0])
        deviation = options.init_std / np.sqrt(options.dim)
        self.users = _drawn(random, data.n_users, options.dim, deviation)
        self.items = _drawn(random, data.n_items, options.dim, deviation)
        self._kept: tuple[NDArray[np.float32], NDArray[np.float32], set[Kind]] | None = None

    def train_epoch(self, *, prior: bool) -> float:
        """Solve all users, then all items; return the mean squared error of the observed pairs before the items.

        Args:
            prior: Whether to penalise the distance from what the fusion expects.
        """
        self._solve("user", self._by_user, self.items, self.users, prior=prior)
        return self._solve("item", self._by_item, self.users, self.items, prior=prior) / self._n

    def _solve(
        self, kind: Kind, pairs: SparseRows, fixed: NDArray[np.float32], rows: NDArray[np.float32], *, prior: bool
    ) -> float:
        from enhancer_plugins.training.compiled.least_squares import solve

        penalty, mean = self._penalties[kind], None
        expected = None
        if prior and kind not in self._without_prior:
            trained = self._trained[kind]
            expected = self._fusion.expect(kind, rows if trained.all() else rows[trained])
        if expected is None and prior:
            self._without_prior.add(kind)
        elif expected is not None:
            self._under_prior.add(kind)
            penalty, mean = penalty * expected.strength, expected.mean
        return solve(pairs, fixed, rows, unobserved=self._unobserved, penalty=penalty, steps=self._steps, mean=mean)

    def keep(self) -> None:
        """Remember the factors as the best."""
        self._kept = None  # before the copies need memory
        self._kept = self.users.copy(), self.items.copy(), set(self._under_prior)

    def restore(self) -> None:
        """Return to the factors that were kept last, if any."""
        if self._kept is not None:
            self.users, self.items, self._under_prior = self._kept
            self._kept = None

    def factors(self) -> Factors:
        """Return adjusted factors, valid until the next epoch. Entities without an interaction are not placed."""
        rows = (
            np.asarray(own if kind in self._under_prior else self._fusion.settle(kind, own), np.float32)
            for kind, own in zip(_KINDS, (self.users, self.items), strict=True)
        )
        return Factors(*rows)

    def finished(self, *, seed: int, monitor: Monitor) -> Fitted:
        """Return adjusted factors with placed rows, and calibrated placements. Training cannot go on."""
        del self._by_user, self._by_item  # before the copies need memory
        return finish(
            self._fusion,
            self._data,
            self.users,
            self.items,
            seed=seed,
            monitor=monitor,
            under_prior=self._under_prior,
        )


def _penalty(options: ALSOptions, counts: NDArray[Any], unobserved: float) -> NDArray[np.float32]:
    return (options.regularisation * (counts + unobserved)).astype(np.float32)


def _drawn(random: np.random.Generator, n: int, dim: int, deviation: float) -> NDArray[np.float32]:
    """Return normal numbers, float32 ``[n, dim]``, drawn in float64 without so large an array."""
    rows = np.empty((n, dim), np.float32)
    for first in range(0, n, _DRAWN_ROWS):
        part = rows[first : first + _DRAWN_ROWS]
        part[:] = deviation * random.standard_normal(part.shape)
    return rows
