"""Left-out predictions against refits, with and without exchanged vectors."""

from __future__ import annotations

import numpy as np
import pytest

from enhancer.evaluation.valuing.left_out import _PENALTIES, GroupMeans, LeftOutRidge


def case(seed=0, n=24, d=5, k=3):
    rng = np.random.default_rng(seed)
    x, group = rng.standard_normal((n, d)), rng.integers(0, 3, n)
    group[:3] = [0, 1, 2]
    weights = np.array([0.4, 0.7, 0.9])[group]
    y = x @ rng.standard_normal((d, k)) + 0.3 * rng.standard_normal((n, k)) + group[:, None]
    return rng, x, y, weights, group


def refitted(x, y, weights, group, *, intercepts):
    """Leave each row out and refit, with the penalty of least squared error."""
    means = GroupMeans(weights, group)
    x = x - means.of(x)
    roots = np.sqrt(weights)[:, None]
    values = np.linalg.svd(x * roots, compute_uv=False) ** 2
    unit = values[values > 1e-9 * values[0]].mean()
    dummies = np.eye(3)[group] if intercepts else np.zeros((len(x), 0))
    design = np.hstack([x, dummies])
    best = None
    for penalty in _PENALTIES:
        ridge = np.diag([penalty * unit] * x.shape[1] + [0.0] * dummies.shape[1])
        predicted = np.empty_like(y)
        for row in range(len(x)):
            kept = np.arange(len(x)) != row
            a, w = design[kept], weights[kept, None]
            predicted[row] = design[row] @ np.linalg.solve(a.T @ (w * a) + ridge, a.T @ (w * y[kept]))
        error = float((weights[:, None] * (y - predicted) ** 2).sum())
        if best is None or error < best[0]:
            best = error, predicted
    return best[1]


@pytest.mark.parametrize("intercepts", [True, False])
@pytest.mark.parametrize("d", [5, 40])
def test_predictions_are_those_of_a_refit_without_the_row(intercepts, d):
    _, x, y, weights, group = case(d=d)
    ridge = LeftOutRidge(x, weights, group, intercepts=intercepts)
    np.testing.assert_allclose(ridge.predict(y), refitted(x, y, weights, group, intercepts=intercepts), atol=1e-8)


def test_exchanged_vectors_give_what_a_new_regression_on_them_gives():
    rng, x, y, weights, group = case()
    order = np.arange(len(x))
    for number in range(3):
        here = np.flatnonzero(group == number)
        order[here] = rng.permutation(here)
    exchanged = LeftOutRidge(x, weights, group).predict(y, order)
    np.testing.assert_allclose(exchanged, LeftOutRidge(x[order], weights, group).predict(y), atol=1e-8)


def test_left_out_means_are_those_of_the_other_rows_of_the_group():
    y = np.array([[1.0], [3.0], [8.0], [5.0]])
    means = GroupMeans(np.array([1.0, 1.0, 2.0, 1.0]), np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(means.left_out(y)[:, 0], [19 / 3, 17 / 3, 2.0, 0.0])
