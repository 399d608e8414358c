"""Checks of a backbone's arguments and result by ``fit_checked``."""

from dataclasses import replace

import numpy as np
import pytest

from enhancer.contracts import Backbone, Context, Dense, Factors, Fitted, Options, Placement, View
from enhancer.errors import ConfigError, DataError, DivergenceError, MemoryLimitError, PluginError
from enhancer.testing.planted import PlainFuser, RecordingMonitor, labelled, planted, side_features

DATA = planted().data


class Steps(Options):
    learning_rate: float = 0.1


class Penalised(Options):
    regularisation: float = 0.1


class SteppedAndPenalised(Steps, Penalised):
    pass


class Returns(Backbone):
    """Backbone that returns a given result."""

    def __init__(self, result, options_class=Options):
        super().__init__(options_class(), Context())
        self.result, self.plugin_name, self.options_class = result, "mine", options_class

    def fit(self, data, fuser, *, seed, monitor):
        del data, fuser, seed
        if isinstance(self.result, Factors):
            monitor.validate(self.result)
        return self.result


def factors(users=(60, 4), items=(50, 4), dtype=np.float32):
    return Factors(np.ones(users, dtype), np.ones(items, dtype))


def fitted(**changes):
    return Fitted(**{"factors": factors(), **changes})


def run(backbone, data=DATA, monitor=None):
    return backbone.fit_checked(data, PlainFuser(), seed=0, monitor=monitor or RecordingMonitor())


def placement(inputs, outputs):
    return Placement((Dense(np.zeros((inputs, outputs), np.float32), np.zeros(outputs, np.float32)),))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (factors(), r"fit\(\) returned Factors, not Fitted"),
        (fitted(factors=(1, 2)), "factors are tuple, not Factors"),
        (fitted(factors=Factors([[1.0]], [[1.0]])), "factors.users is list, not a numpy array"),
        (fitted(factors=factors(users=(4, 60))), r"factors.users has shape \[4, 60\], expected \[60, k\]"),
        (fitted(factors=factors(items=(4, 50))), r"factors.items has shape \[4, 50\], expected \[50, k\]"),
        (fitted(factors=factors(users=(60,))), r"factors.users has shape \[60\]"),
        (fitted(factors=factors(items=(50, 3))), r"users has shape \[60, 4\] and factors.items has shape \[50, 3\]"),
        (fitted(factors=factors(dtype=np.float64)), "factors.users has dtype float64, expected float32"),
        (fitted(place_items=placement(12, 5)), "place_items returns 5 columns, but factors have 4"),
        (fitted(place_users=placement(11, 4)), "place_users takes 11 columns, but vectors have 12"),
    ],
)
def test_a_wrong_result_is_an_error_that_names_the_plugin(result, message):
    with pytest.raises(PluginError, match=f"^backbone 'mine': .*{message}"):
        run(Returns(result))


def test_factors_are_checked_before_they_are_validated():
    watcher = RecordingMonitor()
    with pytest.raises(PluginError, match=r"backbone 'mine': factors.users has shape \[4, 60\]"):
        run(Returns(factors(users=(4, 60))), monitor=watcher)
    assert not watcher.validated


@pytest.mark.parametrize(
    ("options_class", "hint"),
    [
        (Options, None),
        (Steps, "lower [backbone] learning_rate"),
        (Penalised, "raise [backbone] regularisation"),
        (SteppedAndPenalised, "lower [backbone] learning_rate, or raise [backbone] regularisation"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_factors_that_are_not_finite_are_a_diverged_run(options_class, hint, value):
    bad = factors()
    bad.items[7, 2] = value
    with pytest.raises(DivergenceError, match="backbone 'mine': the factors of item row 7 are not finite") as refused:
        run(Returns(fitted(factors=bad), options_class))
    assert refused.value.hint == hint


def test_a_result_without_epochs_is_validated_once():
    watcher = RecordingMonitor(metrics=[0.25])
    (entry,) = run(Returns(fitted()), monitor=watcher).history
    assert (entry["epoch"], entry["metric"], len(watcher.validated)) == (1, 0.25, 1)
    assert "metric" not in run(Returns(fitted())).history[0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"users": DATA.users[:0], "items": DATA.items[:0]}, DataError, "no training interactions"),
        ({"users": DATA.users[:-1]}, DataError, "users but"),
        ({"users": DATA.users - 1}, DataError, "user row -1"),
        ({"items": DATA.items + 9}, DataError, r"item row \d+, but there are 50 rows"),
        (side_features(planted()), ConfigError, "backbone 'mine' cannot use side features"),
        ({"labels": labelled(planted()).labels}, ConfigError, "backbone 'mine' cannot use labels"),
    ],
)
def test_data_are_checked_before_the_plugin_runs(changes, error, message):
    with pytest.raises(error, match=message):
        run(Returns(None), replace(DATA, **changes))


class Large(Returns):
    memory_hint = "set [backbone] small = true"

    def memory(self, data):
        return 1_000 * len(data.users)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_fitted(monkeypatch):
    monkeypatch.setattr("enhancer.contracts.backbone.available_memory", lambda: 5_000)
    needed = f"{1_000 * len(DATA.users):,}"
    with pytest.raises(MemoryLimitError, match=rf"would need {needed} bytes .* 5,000 bytes .*small = true") as found:
        run(Large("never returned"))
    assert found.value.exit_code == 1
    assert run(Returns(fitted())).factors.users.shape == (60, 4)  # without an estimate it is tried


@pytest.mark.parametrize("available", [None, 10**9])
def test_what_fits_into_memory_or_is_unknown_is_fitted(monkeypatch, available):
    monkeypatch.setattr("enhancer.contracts.backbone.available_memory", lambda: available)
    assert run(Large(fitted())).factors.users.shape == (60, 4)


@pytest.mark.parametrize("column", ["ratings", "labels", "timestamps"])
def test_columns_have_a_value_for_each_interaction(column):
    values = np.zeros(3, np.int64 if column == "timestamps" else np.float32)
    data = replace(DATA, **{column: values})
    with pytest.raises(DataError, match=f"{len(DATA.users)} users but 3 {column}"):
        data.check()


@pytest.mark.parametrize("column", ["ratings", "labels"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(column, value):
    values = np.ones(len(DATA.users), np.float32)
    values[4] = value
    with pytest.raises(DataError, match=rf"{column} .*NaN or infinite values, first at interaction 4"):
        replace(DATA, **{column: values}).check()


def test_all_columns_are_one_view_unless_views_say_otherwise():
    (view,) = DATA.views
    assert (view.start, view.stop, view.columns) == (0, 12, slice(0, 12))
    assert replace(DATA, user_vectors=None, item_vectors=None).views == ()
    two = replace(DATA, views=(View("plot", 0, 4), View("mood", 4, 12)))
    two.check()
    assert two.item_vectors[:, two.views[1].columns].shape == (50, 8)


@pytest.mark.parametrize("edges", [[(0, 4), (5, 12)], [(0, 8), (4, 12)], [(0, 4)], [(0, 12), (12, 13)]])
def test_views_must_cover_the_columns(edges):
    views = tuple(View(str(number), *ends) for number, ends in enumerate(edges))
    with pytest.raises(DataError, match="do not cover the 12 columns of the user vectors"):
        replace(DATA, views=views).check()
