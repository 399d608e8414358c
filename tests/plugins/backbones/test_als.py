"""Recency in alternating least squares. The steps themselves are tested with the kernels."""

from dataclasses import replace

import numpy as np
import pytest

from enhancer.contracts import Context, TrainingData
from enhancer.errors import ConfigError
from enhancer.testing.planted import PlainFuser, RecordingMonitor, planted, same
from enhancer_plugins.backbones.als import ALS, ALSOptions


def fit(data, **options):
    als = ALS(ALSOptions(dim=16, epochs=6, **options), Context())
    return als.fit_checked(data, PlainFuser(), seed=0, monitor=RecordingMonitor()).factors


@pytest.fixture(scope="module")
def data():
    """Planted data in which items of kind 0 were taken early and those of kind 1 late."""
    case = planted()
    return replace(case.data, timestamps=(1000 * case.block[case.data.items]).astype(np.int64))


def test_late_interactions_weigh_more(data):
    early, late = (np.flatnonzero(planted().block == kind) for kind in (0, 1))
    known = np.bincount(data.items, minlength=50) > 0

    def level(factors, items):
        scores = factors.users @ factors.items.T
        return scores[data.users, data.items][np.isin(data.items, items[known[items]])].mean()

    equal, recent = fit(data), fit(data, half_life=0.5)
    assert level(recent, late) > level(equal, late)
    assert level(recent, early) < level(equal, early)


def test_equal_times_change_nothing(data):
    assert same(fit(replace(data, timestamps=np.zeros(len(data.users), np.int64)), half_life=0.1), fit(data))


def test_auto_tries_a_half_life_where_there_are_times(data):
    candidates = [ALS(ALSOptions(**options), Context()) for options in ALS.candidates]
    assert [each.options.half_life for each in candidates] == ["none", 0.2]
    assert [each.unsuited(data) for each in candidates] == [None, None]
    without = replace(data, timestamps=None)
    assert [each.unsuited(without) for each in candidates] == [None, "interactions have no timestamps"]


def test_a_half_life_needs_times(data):
    with pytest.raises(ConfigError, match=r"half_life .* no timestamps; set \[data.columns\] timestamp"):
        fit(replace(data, timestamps=None), half_life=0.1)


def test_it_stops_when_its_loss_is_flat_and_says_so():
    als = ALS(ALSOptions(dim=16, epochs=200), Context())
    watcher = RecordingMonitor()
    fitted = als.fit_checked(planted().data, PlainFuser(), seed=0, monitor=watcher)
    assert 4 <= fitted.epochs < 200
    assert fitted.best_epoch == fitted.epochs
    assert fitted.stopped == "the training loss was flat: it changed by less than 0.1 % in 2 epochs"


def test_what_is_of_low_rank_is_recovered():
    rng = np.random.default_rng(0)
    likes = rng.integers(0, 4, 60)[:, None] == rng.integers(0, 4, 40)[None, :]
    seen = likes & (rng.random(likes.shape) < 0.7)
    users, items = (each.astype(np.int32) for each in np.nonzero(seen))
    factors = fit(TrainingData(n_users=60, n_items=40, users=users, items=items))
    ranked = np.argsort(np.where(seen, np.inf, -(factors.users @ factors.items.T)), axis=1)[:, :10]
    hidden = likes & ~seen
    hits = np.take_along_axis(hidden, ranked, axis=1).sum(1)
    wanted = hidden.sum(1)
    assert np.mean(hits[wanted > 0] / wanted[wanted > 0]) > 0.9
