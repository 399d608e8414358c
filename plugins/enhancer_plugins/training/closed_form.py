"""Finish a run of a backbone that computes its factors at once, and choose an option on validation, in numpy."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from enhancer.contracts import Factors, Fitted
from enhancer_plugins.training.interactions import trained
from enhancer_plugins.training.placing.calibration import calibrate
from enhancer_plugins.training.placing.unseen import fill

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray

    from enhancer.contracts import Fusion, Monitor, TrainingData
    from enhancer.contracts.record import Kind

Value = TypeVar("Value")


def finish(
    fusion: Fusion,
    data: TrainingData,
    users: NDArray[np.floating],
    items: NDArray[np.floating],
    *,
    seed: int,
    monitor: Monitor | None = None,
    under_prior: Collection[Kind] = (),
) -> Fitted:
    """Adjust factors by the fusion, and place the entities without a training interaction.

    Args:
        fusion: Built for this run. It may need ``"served"``, or nothing.
        data: Training data.
        users: float ``[n_users, d]``: factors of all users; rows of users without a training interaction are ignored.
        items: float ``[n_items, d]``: factors of all items; rows of items without a training interaction are ignored.
        seed: Seed of the noise on rows that cannot be placed (see :mod:`enhancer_plugins.training.placing.unseen`).
        monitor: Calibrates the placement of unseen items on validation (see
            :mod:`enhancer_plugins.training.placing.calibration`). None leaves the placement as it is.
        under_prior: Kinds that were solved for under the fusion's prior, and need no adjustment.

    Returns:
        Adjusted factors with placed rows, and the placements. No history.
    """
    seen_users, seen_items = trained(data)
    sides: tuple[tuple[Kind, NDArray[np.floating], NDArray[np.bool_]], ...] = (
        ("user", users, seen_users),
        ("item", items, seen_items),
    )
    embeddings = {kind: np.ascontiguousarray(factors, np.float32) for kind, factors, _ in sides}
    placements = {kind: fusion.place(kind, embeddings[kind][seen]) for kind, _, seen in sides}
    user_rows, item_rows = (
        np.array(own if kind in under_prior else fusion.settle(kind, own), np.float32)
        for kind, own in embeddings.items()
    )
    fill(user_rows, seen_users, data.user_vectors, placements["user"], seed=seed, trust=fusion.trust("user"))
    place_items = placements["item"]
    if monitor is not None and place_items is not None and data.item_vectors is not None:
        place_items = calibrate(
            place_items,
            Factors(user_rows, item_rows),
            seen_items & data.item_vectors.any(axis=1),
            lambda rows: fusion.left_out("item", embeddings["item"][seen_items], rows),
            monitor.validate,
            seed=seed,
            weigh=partial(fusion.weigh, "item", embeddings["item"][seen_items]),
        )
    fill(item_rows, seen_items, data.item_vectors, place_items, seed=seed, trust=fusion.trust("item"))
    return Fitted(factors=Factors(user_rows, item_rows), place_users=placements["user"], place_items=place_items)


@dataclass
class Attempts(Generic[Value]):
    """Fits with different values of one option, of which the best on validation is kept.

    In the history each fit is an epoch.
    """

    fit: Callable[[Value], Fitted]
    """Fits with a value."""
    monitor: Monitor
    record: Callable[[Value], Mapping[str, float]]
    """Returns what the history says of a value."""
    best: tuple[Value, Fitted, float | None, int] | None = None
    """Value, result, validation metric and epoch of the best fit."""
    history: list[dict[str, float]] = field(default_factory=list)

    def attempt(self, value: Value) -> float | None:
        """Fit with a value, validate, and keep the result if it is the best; return the metric, None without one."""
        started = time.perf_counter()
        fitted = self.fit(value)
        metric = self.monitor.validate(fitted.factors)
        epoch = len(self.history) + 1
        if self.best is None or (metric is not None and self.best[2] is not None and metric > self.best[2]):
            self.best = (value, fitted, metric, epoch)
        entry = {"epoch": float(epoch), "seconds": time.perf_counter() - started, **self.record(value)}
        self.history.append(entry if metric is None else {**entry, "metric": metric})
        return metric

    def result(self) -> Fitted:
        """Return the best fit, with the history of all."""
        assert self.best is not None
        _, fitted, _, epoch = self.best
        return replace(fitted, epochs=len(self.history), best_epoch=epoch, history=self.history)


def climb(attempts: Attempts[float], start: float, *, factor: float, most: int) -> None:
    """Multiply or divide a value by a factor as long as validation improves.

    Without a validation part, only ``start`` is tried.

    Args:
        attempts: Makes the fits.
        start: First value.
        factor: Ratio of neighbouring values, above 1.
        most: Largest number of fits.
    """
    first = attempts.attempt(start)
    if first is None:
        return
    for ratio in (factor, 1 / factor):
        best, value = first, start * ratio
        while len(attempts.history) < most:
            metric = attempts.attempt(value)
            if metric is None or metric <= best:
                break
            best, value = metric, value * ratio
        if best > first:  # the metric has one peak, or nearly so
            return
