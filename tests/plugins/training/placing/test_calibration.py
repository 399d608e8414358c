"""Placed rows are scaled and shifted until unseen items compete fairly."""

import numpy as np
import pytest

from enhancer.contracts import Dense, Factors, Placement
from enhancer_plugins.training.placing.calibration import calibrate

N_USERS, N_ITEMS, D = 60, 100, 6


@pytest.fixture
def world():
    """Vectors that give the embeddings exactly, and a metric that knows the scores."""
    random = np.random.default_rng(0)
    factors = Factors(
        random.standard_normal((N_USERS, D)).astype(np.float32), random.standard_normal((N_ITEMS, D)).astype(np.float32)
    )
    truth = factors.users @ factors.items.T

    def metric(found):
        return -float(np.square(found.users @ found.items.T - truth).sum())

    return factors, metric


def placement(scale, shift=0.0, **more):
    return Placement((Dense(np.eye(D, dtype=np.float32) * scale, np.full(D, shift, np.float32)),), **more)


def calibrated(found, factors, metric, left_out, known=None):
    known = np.ones(N_ITEMS, np.bool_) if known is None else known
    return calibrate(found, factors, known, left_out, metric, seed=0)


@pytest.mark.parametrize(("scale", "wanted"), [(1.0, 1.0), (2.0, 0.5), (1 / 1.3, 1.3), (1.25, 0.8)])
def test_rows_get_the_length_that_is_best_on_validation(world, scale, wanted):
    factors, metric = world
    found = calibrated(placement(scale), factors, metric, lambda rows: factors.items[rows] * np.float32(scale))
    np.testing.assert_allclose(found(factors.items), factors.items * (scale * wanted), rtol=1e-5)


def test_scores_that_are_too_low_for_everybody_are_raised():
    random = np.random.default_rng(1)
    users = np.concatenate([random.standard_normal((N_USERS, D - 1)), np.ones((N_USERS, 1))], 1).astype(np.float32)
    items = random.standard_normal((N_ITEMS, D)).astype(np.float32)
    factors, deviation = Factors(users, items), float((users @ items.T).std())
    truth = users @ items.T
    lower = items.copy()
    lower[:, -1] -= np.float32(deviation / 2)

    def metric(found):
        return -float(np.square(found.users @ found.items.T - truth).sum())

    found = calibrated(placement(1.0), factors, metric, lambda rows: lower[rows])
    np.testing.assert_allclose(users @ found(lower).T, truth, atol=0.05)


def test_of_equally_good_lengths_the_longest_is_kept(world):
    """Rows that never reach a list cost nothing: unseen items then are as near to being shown as they can be."""
    factors, _ = world
    found = calibrated(placement(1.0), factors, lambda found: 1.0, lambda rows: factors.items[rows])
    np.testing.assert_allclose(found(factors.items), 1.3 * factors.items, rtol=1e-5)


@pytest.mark.parametrize("case", ["fixed length", "no validation", "unknown rows", "few items"])
def test_without_a_measure_the_placement_stays(world, case):
    factors, metric = world
    plain = placement(1.0, norm=2.0 if case == "fixed length" else None)
    known = np.arange(N_ITEMS) < (20 if case == "few items" else N_ITEMS)
    found = calibrated(
        plain,
        factors,
        (lambda found: None) if case == "no validation" else metric,
        (lambda rows: None) if case == "unknown rows" else (lambda rows: factors.items[rows]),
        known,
    )
    assert found is plain


def test_constant_columns_are_shifted_not_scaled(world):
    factors, _ = world
    wide = Factors(
        np.concatenate([factors.users, np.ones((N_USERS, 1), np.float32)], 1),
        np.concatenate([factors.items, np.full((N_ITEMS, 1), 0.5, np.float32)], 1),
    )
    truth = wide.users @ wide.items.T

    def metric(found):
        return -float(np.square(found.users @ found.items.T - truth).sum())

    found = calibrated(placement(2.0, tail=(0.5,)), wide, metric, lambda rows: 2 * factors.items[rows])
    np.testing.assert_allclose(found(factors.items)[:, :D], factors.items, rtol=1e-5)
    assert found.tail == (0.5,)


def test_a_layer_that_is_not_linear_is_followed_by_one_that_scales(world):
    factors, metric = world
    curved = Placement((Dense(np.eye(D, dtype=np.float32), np.zeros(D, np.float32), "tanh"),))
    found = calibrated(curved, factors, metric, lambda rows: factors.items[rows] * np.float32(2))
    np.testing.assert_allclose(found(factors.items), 0.5 * np.tanh(factors.items), rtol=1e-5)


def test_views_are_weighed_by_how_placed_items_rank_among_themselves(world):
    factors, _ = world
    seen = []

    def metric(found):
        scores = found.users @ found.items.T
        seen.append((np.flatnonzero(found.items.any(axis=1)), scores.argmax(axis=1)))
        return 1.0

    told = []

    def weigh(folds, judge):
        told.extend(folds)
        seen.clear()
        judge(folds[0], factors.items[folds[0]])
        placed, best = seen[-1]
        assert set(placed) == set(folds[0])
        own = (factors.users @ factors.items[folds[0]].T).argmax(axis=1)
        assert (best == folds[0][own]).all(), "the order among them is theirs"
        return placement(3.0)

    found = calibrate(
        placement(1.0), factors, np.ones(N_ITEMS, np.bool_), lambda rows: None, metric, seed=0, weigh=weigh
    )
    np.testing.assert_allclose(found(factors.items), 3 * factors.items, rtol=1e-6)
    assert not {*told[0]} & {*told[1]}
    fixed = calibrate(
        placement(1.0, norm=2.0),
        factors,
        np.ones(N_ITEMS, np.bool_),
        lambda rows: None,
        metric,
        seed=0,
        weigh=lambda folds, judge: placement(3.0, norm=2.0) if judge(folds[0], factors.items[folds[0]]) else None,
    )
    np.testing.assert_allclose(np.linalg.norm(fixed(factors.items), axis=1), 2.0, rtol=1e-5)
    assert (
        calibrate(
            placement(1.0), factors, np.ones(N_ITEMS, np.bool_), lambda rows: None, lambda _: None, seed=0, weigh=weigh
        )
        .layers[0]
        .weight[0, 0]
        == 1
    ), "nothing is chosen without a validation part"
