"""Regression on similarities to trained entities, added up over views."""

import numpy as np
import pytest

from enhancer.contracts import Kernel, Placement
from enhancer_plugins.training.placing import kernel as module
from enhancer_plugins.training.placing.kernel import WIDTH, KernelRegression

EDGES, SHARES = (0, 3, 8), (1.0, 2.0)


def problem(n=40, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, 8)).astype(np.float32)
    x[3, :3] = 0  # it lacks the first view
    y = np.sin(2 * x[:, :2]) + 0.1 * random.standard_normal((n, 2)) + 1
    return x, y, random.uniform(0.1, 1, n)


def similarities(x, known):
    """Similarities of all rows to all rows, view by view, in Python numbers."""
    total = np.zeros((len(x), len(x)))
    for share, start, stop in zip(SHARES, EDGES, EDGES[1:], strict=False):
        rows = x[:, start:stop].astype(np.float64)
        has = rows.any(1)
        centred = rows - rows[known & has].mean(0)
        for i in range(len(x)):
            for j in range(len(x)):
                if has[i] and has[j]:
                    cosine = centred[i] @ centred[j] / np.linalg.norm(centred[i]) / np.linalg.norm(centred[j])
                    total[i, j] += share / sum(SHARES) * np.exp((cosine - 1) / WIDTH)
    return total


def refitted(gram, y, weights, penalty, row, unit):
    """Predict a row by a weighted kernel ridge regression with an intercept that has not seen it, via its equations."""
    rest = np.delete(np.arange(len(y)), row)
    centre = weights @ gram / weights.sum()  # the centre is that of all rows, as for the penalty's unit
    features = gram - centre - centre[:, None] + weights @ gram @ weights / weights.sum() ** 2
    root = np.diag(1 / weights[rest])
    system = np.block(
        [[features[np.ix_(rest, rest)] + penalty * unit * root, np.ones((len(rest), 1))],
         [np.ones((1, len(rest))), np.zeros((1, 1))]]
    )  # fmt: skip
    solution = np.linalg.solve(system, np.concatenate([y[rest], np.zeros((1, y.shape[1]))]))
    return features[row, rest] @ solution[:-1] + solution[-1]


def test_left_out_rows_are_those_of_a_refit_without_them():
    x, y, weights = problem()
    regression = KernelRegression(x, edges=EDGES, shares=SHARES, ridge=0.3, weights=weights)
    gram = similarities(x, np.ones(len(x), np.bool_))
    centred = gram - (weights @ gram)[:, None] / weights.sum()
    centred = centred - weights @ centred / weights.sum()
    unit = float(weights @ np.diag(centred)) / len(x)
    wanted = np.stack([refitted(gram, y, weights, 0.3, row, unit) for row in range(len(x))])
    np.testing.assert_allclose(regression.left_out(y, np.arange(len(x))), wanted, rtol=1e-4, atol=1e-5)
    errors = weights @ np.square(wanted - y).sum(1)
    spread = weights @ np.square(y - weights @ y / weights.sum()).sum(1)
    assert regression.chosen.explained == pytest.approx(1 - errors / spread, abs=1e-5)


def test_the_layers_map_vectors_to_what_was_fitted():
    x, y, weights = problem()
    weights[30:] = 0
    regression = KernelRegression(x, edges=EDGES, shares=SHARES, ridge=1e-4, weights=weights)
    placed = Placement(regression.layers(y))(x)
    np.testing.assert_allclose(placed[:30], y[:30], atol=0.05)  # with next to no penalty it interpolates
    np.testing.assert_allclose(regression.left_out(y, np.arange(30, 40)), placed[30:], rtol=1e-4, atol=1e-5)


def test_with_many_entities_landmarks_are_near_the_whole(monkeypatch):
    x, y, weights = problem(300)
    whole = KernelRegression(x, edges=EDGES, shares=SHARES, ridge=None, weights=weights)
    everywhere = whole.left_out(y, np.arange(300))
    monkeypatch.setattr(module, "MOST_EXACT", 200)
    monkeypatch.setattr(module, "LANDMARKS", 150)
    some = KernelRegression(x, edges=EDGES, shares=SHARES, ridge=None, weights=weights)
    (kernel, last) = some.layers(y)
    assert isinstance(kernel, Kernel)
    assert kernel.outputs == 150
    assert np.square(some.left_out(y, np.arange(300)) - everywhere).mean() < 0.05 * y.var()
    assert np.square(last(kernel(x)) - Placement(whole.layers(y))(x)).mean() < 0.05 * y.var()
    assert some.chosen.explained == pytest.approx(whole.chosen.explained, abs=0.05)


def test_a_view_that_an_entity_lacks_says_nothing_about_it():
    x, y, weights = problem()
    regression = KernelRegression(x, edges=EDGES, shares=SHARES, ridge=0.1, weights=weights)
    placement = Placement(regression.layers(y))
    other = x[3:4].copy()
    np.testing.assert_allclose(placement(other), placement(x)[3:4], rtol=1e-5)
    nothing = np.zeros((1, 8), np.float32)
    kernel, last = placement.layers
    np.testing.assert_array_equal(kernel(nothing), 0)
    np.testing.assert_allclose(placement(nothing), last.bias[None])


@pytest.mark.parametrize("ridge", [1e-30, 1e-12])
def test_equal_entities_and_next_to_no_penalty_are_no_error(ridge):
    x, y, weights = problem()
    x[1:4] = x[0]
    regression = KernelRegression(x, edges=EDGES, shares=SHARES, ridge=ridge, weights=weights)
    assert np.isfinite(regression.left_out(y, np.arange(len(x)))).all()
    assert np.isfinite(Placement(regression.layers(y))(x)).all()
