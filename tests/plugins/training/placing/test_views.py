"""Form of a regression and weights of its views, chosen by leave-one-out."""

import numpy as np
import pytest

from enhancer.contracts import Dense, Kernel, Placement, View
from enhancer_plugins.training.placing import views as module
from enhancer_plugins.training.placing.views import ViewRegression

VIEWS = (View("plot", 0, 6), View("mood", 6, 10), View("noise", 10, 40))


def problem(n=150, *, scales=(1.0, 1.0, 1.0), bent=False, seed=0):
    """A target that two views decide on, beside a wide third one that says nothing."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((n, 40))
    for view in VIEWS:
        x[:, view.columns] /= np.linalg.norm(x[:, view.columns], axis=1, keepdims=True)
    told = x[:, :10]
    y = np.square(told) @ random.standard_normal((10, 3)) if bent else told @ random.standard_normal((10, 3))
    y += 0.5 * y.std() * random.standard_normal(y.shape)
    for view, scale in zip(VIEWS, scales, strict=True):
        x[:, view.columns] *= scale
    return x.astype(np.float32), y, np.ones(n)


def fitted(x, y, weights, **options):
    regression = ViewRegression(x, VIEWS, weights=weights, **options)
    return regression, regression.layers(y)


def explained(x, y, weights, **options):
    return fitted(x, y, weights, **options)[0].chosen.explained


@pytest.mark.parametrize("form", ["linear", "kernel"])
def test_a_gate_shuts_out_a_view_without_meaning(form):
    x, y, weights = problem()
    regression, _ = fitted(x, y, weights, form=form, weighing="gate")
    assert regression.shares[2] < 0.1
    assert max(regression.shares) == 1
    assert regression.chosen.explained > explained(x, y, weights, form=form) + 0.005


@pytest.mark.parametrize("form", ["linear", "kernel"])
def test_the_scales_of_views_change_nothing(form):
    one = explained(*problem(), form=form)
    assert explained(*problem(scales=(1, 10, 0.1)), form=form) == pytest.approx(one, abs=0.02)


def test_a_kernel_explains_what_no_line_does():
    x, y, weights = problem(400, bent=True)
    kernel, linear = (ViewRegression(x[:, :10], VIEWS[:2], weights=weights, form=form) for form in ("kernel", "linear"))
    assert type(kernel.layers(y)[0]) is Kernel
    assert type(linear.layers(y)[0]) is Dense
    assert kernel.chosen.explained > linear.chosen.explained + 0.2


def test_a_linear_fit_of_scaled_views_is_a_map_of_the_vectors_as_they_are():
    x, y, weights = problem(scales=(1, 10, 0.1))
    _, layers = fitted(x, y, weights, form="linear", ridge=1e-4)
    residuals = Placement(layers)(x) - y
    assert np.square(residuals).mean() < 0.3 * y.var()


def test_with_very_many_entities_the_regression_is_linear(monkeypatch):
    monkeypatch.setattr(module, "MOST_KERNEL_ROWS", 100)
    x, y, weights = problem(bent=True)
    assert len(fitted(x, y, weights, form="kernel")[1]) == 1


def test_a_view_that_is_constant_is_harmless():
    x, y, weights = problem()
    x[:, 6:10] = 1
    for form in ("linear", "kernel"):
        assert np.isfinite(Placement(fitted(x, y, weights, form=form)[1])(x)).all()


def test_one_entity_is_enough():
    x, y, weights = problem()
    weights[1:] = 0
    _, layers = fitted(x, y, weights)
    np.testing.assert_allclose(Placement(layers)(x), np.tile(y[0], (len(x), 1)), rtol=1e-5)
