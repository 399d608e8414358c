from dataclasses import replace

import numpy as np
import pytest

from enhancer.contracts import Context, TrainingData
from enhancer.errors import ConfigError
from enhancer.testing.planted import PlainFuser, RecordingMonitor
from enhancer_plugins.backbones.popularity import Popularity, PopularityOptions

DATA = TrainingData(
    n_users=3,
    n_items=4,
    users=np.array([0, 1, 2, 0, 1], np.int32),
    items=np.array([0, 0, 0, 1, 2], np.int32),
    timestamps=np.array([0, 0, 0, 100, 90], np.int64),
)


def scores(data=DATA, monitor=None, **options):
    plugin = Popularity(PopularityOptions(**options), Context())
    fitted = plugin.fit_checked(data, PlainFuser(), seed=0, monitor=monitor or RecordingMonitor())
    found = fitted.factors.users @ fitted.factors.items.T
    assert (found == found[0]).all(), "all users get the same scores"
    return found[0], fitted


def test_items_are_scored_by_their_number_of_interactions():
    found, _ = scores(half_life="none")
    np.testing.assert_allclose(found, np.log1p([3, 1, 1, 0]))


def test_interactions_lose_half_of_their_weight_in_a_half_life():
    found, _ = scores(half_life=0.1)
    weights = np.exp2([-10, -10, -10, 0, -1])
    weights /= weights.mean()
    np.testing.assert_allclose(found, np.log1p([weights[:3].sum(), weights[3], weights[4], 0]), rtol=1e-5)


def test_equal_times_weigh_the_same():
    found, _ = scores(replace(DATA, timestamps=np.full(5, 7, np.int64)), half_life=0.1)
    np.testing.assert_allclose(found, np.log1p([3, 1, 1, 0]))


def test_validation_chooses_the_half_life():
    _, fitted = scores(monitor=RecordingMonitor(metrics=[0.2, 0.3, 0.5, 0.4]))
    assert "half_life" not in fitted.history[0], "the first attempt weighs all the same"
    assert fitted.history[fitted.best_epoch - 1] | {"seconds": 0} == {
        "epoch": 3, "seconds": 0, "half_life": 0.2, "metric": 0.5,
    }  # fmt: skip
    found, _ = scores(half_life=0.2)
    np.testing.assert_array_equal(fitted.factors.items[:, 0], found)


@pytest.mark.parametrize("data", [DATA, replace(DATA, timestamps=None)])
def test_auto_counts_without_validation_or_times(data):
    monitor = RecordingMonitor(metrics=None if data.timestamps is not None else [0.1])
    found, fitted = scores(data, monitor)
    np.testing.assert_allclose(found, np.log1p([3, 1, 1, 0]))
    assert fitted.epochs == 1


def test_a_half_life_needs_times():
    with pytest.raises(ConfigError, match=r"no timestamps; set \[data.columns\] timestamp"):
        scores(replace(DATA, timestamps=None), half_life=0.1)
