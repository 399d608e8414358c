"""Samples that disagree count less where leave-one-out finds that right."""

from dataclasses import replace

import numpy as np
import pytest

from enhancer.contracts import Context, View
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.als import ALS, ALSOptions
from enhancer_plugins.fusers.prior import Prior, PriorOptions
from enhancer_plugins.training.placing.spread import mean_spread, trust_factors, weight_factors
from enhancer_plugins.training.placing.unseen import fill
from enhancer_plugins.training.placing.views import ViewRegression

N, NEW, D, SAMPLES = 300, 200, 24, 3


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def problem(seed, *, noise):
    """Vectors that are means of samples, of which some entities' are noisy, and a target that the true vectors tell."""
    random = np.random.default_rng(seed)
    latent = random.standard_normal((N + NEW, 8))
    true = unit(latent @ random.standard_normal((8, D)))
    error = np.asarray(noise(random))[:, None] * random.standard_normal((SAMPLES, N + NEW, D)) / np.sqrt(D)
    samples = unit(true + error)
    spread = samples.var(axis=0, ddof=1).sum(axis=1)
    target = unit(latent) @ random.standard_normal((8, 6))
    return unit(samples.mean(axis=0)).astype(np.float32), spread, target + 0.3 * random.standard_normal(target.shape)


def error_of_new(x, y, form, spread):
    """The error of entities that no fit has seen, as a share of their variance."""
    weights = np.zeros(len(x))
    weights[:N] = 1
    regression = ViewRegression(x, [View("plot", 0, D)], weights=weights, form=form, spread=spread)
    found = x
    for layer in regression.layers(y):
        found = layer(found)
    mean = y[:N].mean(axis=0)
    if regression.trust is not None:
        found = mean + regression.trust[:, None] * (found - mean)
    return np.square(found[N:] - y[N:]).sum() / np.square(y[N:] - mean).sum(), regression


def two_kinds(random):
    return np.where(random.random(N + NEW) < 0.4, 4.0, 0.2)


@pytest.mark.parametrize("form", ["linear", "kernel"])
def test_a_spread_that_tells_helps(form):
    plain, heeded = [], []
    for seed in range(3):
        x, spread, y = problem(seed, noise=two_kinds)
        plain.append(error_of_new(x, y, form, None)[0])
        error, regression = error_of_new(x, y, form, spread)
        heeded.append(error)
        sure = spread[N:] < 0.5
        assert regression.trust is None or regression.trust[N:][~sure].mean() < regression.trust[N:][sure].mean()
    assert np.mean(heeded) < 0.98 * np.mean(plain)
    assert all(one < two for one, two in zip(heeded, plain, strict=True))


@pytest.mark.parametrize("form", ["linear", "kernel"])
def test_a_spread_that_tells_nothing_does_no_harm(form):
    plain, heeded = [], []
    for seed in range(3):
        x, _, y = problem(seed, noise=lambda random: np.full(N + NEW, 0.5))
        plain.append(error_of_new(x, y, form, None)[0])
        heeded.append(error_of_new(x, y, form, np.random.default_rng(seed).random(N + NEW))[0])
    assert np.mean(heeded) < 1.01 * np.mean(plain)


def test_left_out_predictions_are_drawn_to_the_mean_where_samples_disagree():
    x, spread, y = problem(1, noise=two_kinds)
    regression = ViewRegression(x, [View("plot", 0, D)], weights=np.ones(len(x)), form="linear", spread=spread)
    found = regression.left_out(y, np.arange(len(x)))
    assert regression.trust is not None
    far = np.linalg.norm(found - y.mean(axis=0), axis=1)
    assert far[spread > 0.5].mean() < 0.8 * far[spread <= 0.5].mean()


def test_factors_follow_errors_and_distances():
    spread, weights = np.array([0.0, 0.5, 1.0, 1.5]), np.ones(4)
    np.testing.assert_allclose(weight_factors(1 + 2 * spread, spread, weights), 1 / (1 + 2 * spread))
    np.testing.assert_array_equal(weight_factors(2 - spread, spread, weights), np.ones(4))
    predicted = np.array([[1.0], [-2.0], [1.5], [1.0]])
    found = trust_factors(predicted, predicted * (0.9 - 0.4 * spread)[:, None], spread, np.arange(4), weights)
    np.testing.assert_allclose(found, np.minimum((0.9 - 0.4 * spread) / (0.9 - 0.4 * 0.75), 1), rtol=1e-6)
    assert trust_factors(predicted, predicted * (0.9 + spread)[:, None], spread, np.arange(4), weights) is None


def test_an_unknown_spread_is_that_of_its_view():
    nan = np.nan
    found = mean_spread(np.array([[0, 0.2, nan], [0, nan, nan], [0, 0.6, nan]], np.float32))
    np.testing.assert_allclose(found, [0.1, 0.2, 0.3], rtol=1e-6)
    assert mean_spread(np.full((3, 1), nan, np.float32)) is None
    assert mean_spread(np.zeros((3, 2), np.float32)) is None


def test_rows_are_placed_nearer_to_the_mean_by_their_trust():
    rows = np.vstack([np.eye(3), np.zeros((3, 3))]).astype(np.float32)
    trained = np.arange(6) < 3
    vectors = np.ones((6, 3), np.float32)
    fill(rows, trained, vectors, lambda some: 4 * some, seed=0, trust=np.linspace(1, 0, 6, dtype=np.float32))
    np.testing.assert_allclose(
        rows[3:], 1 / 3 + np.array([0.4, 0.2, 0.0])[:, None] * (4 - 1 / 3) * np.ones(3), rtol=1e-5
    )


def test_a_fuser_heeds_the_spread_if_it_is_told_to():
    data = planted().data
    spread = np.random.default_rng(0).random((data.n_items, 1)).astype(np.float32)

    def items(data, **options):
        als = ALS(ALSOptions(dim=8, epochs=4), Context())
        fuser = Prior(PriorOptions(items=0.0, **options), Context())
        return als.fit_checked(data, fuser, seed=0, monitor=RecordingMonitor()).factors.items

    plain = items(data)
    told = replace(data, item_spread=spread)
    np.testing.assert_array_equal(items(told), plain)
    np.testing.assert_array_equal(items(data, sample_spread=True), plain)
    heeded = items(told, sample_spread=True)
    cold = planted().cold_items
    warm = np.setdiff1d(np.arange(data.n_items), cold)
    assert not np.array_equal(heeded[cold], plain[cold])
    np.testing.assert_array_equal(heeded[warm], plain[warm])
