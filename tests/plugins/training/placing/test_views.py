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


def gated(form="kernel", *, weighing="gate", seed=0):
    """A gated regression whose target has many columns that ``plot`` tells, and one that ``mood`` tells."""
    random = np.random.default_rng(seed)
    x, _, weights = problem(120, seed=seed)
    told = np.hstack([x[:, :6] @ random.standard_normal((6, 5)), x[:, 6:10] @ random.standard_normal((4, 1))])
    y = told / told.std(axis=0) + 0.4 * random.standard_normal((120, 6))
    return ViewRegression(x, VIEWS, weights=weights, form=form, weighing=weighing), y


def folds_of(n=120, size=24):
    return np.split(np.random.default_rng(3).permutation(n)[: 2 * size], 2)


def errors_in(column, y, asked):
    """A judge to whom one column of the target matters."""

    def judge(rows, placed):
        asked.append(rows)
        return 1 / float(np.square(placed[:, column] - y[rows, column]).mean())

    return judge


@pytest.mark.parametrize("form", ["linear", "kernel"])
def test_what_ranks_well_decides_on_weights_in_the_end(form):
    regression, y = gated(form)
    some = np.arange(5)
    before = regression.left_out(y, some)
    first = regression.shares
    assert first[0] == 1
    asked = []
    folds = folds_of()
    assert regression.reweigh(y, folds, errors_in(5, y, asked))
    assert regression.shares[1] == 1
    assert regression.shares[0] < min(first[0] / first[1], 0.5)
    assert {tuple(rows) for rows in asked} == {tuple(fold) for fold in folds}
    after = regression.left_out(y, some)
    assert not np.allclose(before[:, 5], after[:, 5])


def test_weights_stay_where_nothing_ranks_better():
    regression, y = gated()
    assert not regression.reweigh(y, folds_of(), lambda rows, placed: 1.0)
    shares = regression.shares
    worse = iter([2.0, 2.0])
    assert not regression.reweigh(y, folds_of(), lambda rows, placed: next(worse, 1.0))
    one_fold = iter([1.0, 1.0])  # the first fold alone gains
    first = folds_of()[0]
    assert not regression.reweigh(y, folds_of(), lambda rows, _: next(one_fold, 9.0 if rows is first else 0.9))
    assert regression.shares == shares


def test_without_a_gate_nobody_is_asked():
    regression, y = gated(weighing="equal")
    assert not regression.reweigh(y, folds_of(), lambda rows, placed: pytest.fail("asked"))


def test_a_penalty_that_is_kept_stays_with_other_weights():
    regression, y = gated()
    regression.left_out(y, np.arange(5))
    regression.keep_penalty()
    kept = regression.chosen.ridge
    assert regression.reweigh(y, folds_of(), errors_in(5, y, []))
    regression.left_out(0.1 * y + np.random.default_rng(1).standard_normal(y.shape), np.arange(5))
    assert regression.chosen.ridge == kept
