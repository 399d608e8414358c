"""Ridge regression whose penalty is chosen by leave-one-out."""

import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from enhancer_plugins.training.placing import regression as module
from enhancer_plugins.training.placing.regression import RidgeRegression

PENALTIES = [digit * 10.0**power for power in range(-4, 3) for digit in (1, 3)]


def problem(n, width, noise, seed=0):
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, width))
    y = x @ random.standard_normal((width, 3)) + noise * random.standard_normal((n, 3)) + 2
    return x, y, random.uniform(0.1, 1, n)


def left_out_by_hand(x, y, weights, penalty):
    """Fit once without each row, and predict it; the penalty and the centre are those of all rows."""
    centred = x - np.average(x, 0, weights)
    alpha = penalty * np.mean((weights[:, None] * centred**2).sum(0))
    found = np.empty_like(y)
    for row in range(len(x)):
        rest = np.delete(np.arange(len(x)), row)
        found[row] = Ridge(alpha=alpha).fit(x[rest], y[rest], sample_weight=weights[rest]).predict(x[[row]])
    return found


@pytest.mark.parametrize(("n", "width", "noise"), [(60, 8, 0.5), (60, 8, 20.0), (24, 40, 0.1)], ids=str)
def test_the_penalty_is_the_one_that_predicts_left_out_rows_best(n, width, noise):
    x, y, weights = problem(n, width, noise)
    regression = RidgeRegression(x, ridge=None, weights=weights)
    slope, intercept = regression.fit(y)
    by_hand = {each: left_out_by_hand(x, y, weights, each) for each in PENALTIES}
    errors = {each: float((weights[:, None] * (found - y) ** 2).sum()) for each, found in by_hand.items()}
    best = min(errors, key=errors.__getitem__)
    assert regression.chosen.ridge == pytest.approx(best)
    np.testing.assert_allclose(regression.left_out(y, np.arange(n)), by_hand[best], rtol=1e-6, atol=1e-8)
    spread = (weights[:, None] * (y - np.average(y, 0, weights)) ** 2).sum()
    assert regression.chosen.explained == pytest.approx(1 - errors[best] / spread)
    alpha = best * np.mean((weights[:, None] * (x - np.average(x, 0, weights)) ** 2).sum(0))
    reference = Ridge(alpha=alpha).fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(x @ slope + intercept, reference.predict(x), rtol=1e-6, atol=1e-8)


def test_inputs_without_meaning_predict_the_mean():
    random = np.random.default_rng(0)
    x, y = random.standard_normal((200, 50)), random.standard_normal((200, 4)) + 3
    regression = RidgeRegression(x, ridge=None)
    slope, intercept = regression.fit(y)
    assert regression.chosen.ridge >= 30
    assert regression.chosen.explained < 0.02
    np.testing.assert_allclose(x @ slope + intercept, np.broadcast_to(y.mean(0), y.shape), atol=0.25)


def test_rows_without_weight_neither_count_nor_are_left_out():
    x, y, weights = problem(50, 6, 0.5)
    weights[40:] = 0
    some = RidgeRegression(x[:40], ridge=0.1, weights=weights[:40]).fit(y[:40])
    wild = y.copy()
    wild[40:] = 1e6
    regression = RidgeRegression(x, ridge=0.1, weights=weights)
    for one, other in zip(regression.fit(wild), some, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)
    np.testing.assert_allclose(regression.left_out(wild, np.arange(40, 50)), x[40:] @ some[0] + some[1], rtol=1e-6)


def test_a_wide_table_and_a_long_one_give_the_same():
    """With fewer rows than columns, the rows are decomposed; a further row that changes nothing takes the other way."""
    x, y, _ = problem(30, 29, 0.5)
    wide = RidgeRegression(np.concatenate([x, np.zeros((30, 3))], 1), ridge=0.1 * 32 / 29)
    long = RidgeRegression(x, ridge=0.1)
    np.testing.assert_allclose(wide.fit(y)[0][:29], long.fit(y)[0], rtol=1e-6, atol=1e-9)


def test_memory_grows_with_columns_and_not_with_rows(monkeypatch):
    """The inputs are read in blocks; of very many rows, some are used, and the others are predicted by the fit."""
    monkeypatch.setattr(module, "MOST_ROWS", 4096)
    random, n, width = np.random.default_rng(0), 40_000, 64
    x = random.standard_normal((n, width), np.float32)
    y = (x @ random.standard_normal((width, 2), np.float32)).astype(np.float32)
    tracemalloc.start()
    try:
        regression = RidgeRegression(x, ridge=None)
        found = regression.left_out(y, np.arange(n))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes  # half of a copy in float64
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, y, atol=0.05)


@pytest.mark.parametrize("n", [30, 60])
def test_a_penalty_can_be_kept_for_later_targets(n):
    x, y, weights = problem(n, 40, 0.1)
    regression = RidgeRegression(x, ridge=None, weights=weights)
    regression.fit(y)
    first = regression.chosen.ridge
    regression.keep_penalty()
    regression.fit(np.random.default_rng(5).standard_normal(y.shape))
    assert regression.chosen.ridge == first
