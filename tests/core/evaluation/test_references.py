"""Reference lines: tuned on validation, tested once, remembered."""

import logging
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from enhancer.errors import ConfigError, MemoryLimitError
from enhancer.evaluation import RunCache
from enhancer.evaluation.running.references import tune


@pytest.fixture
def lines(world, toys):
    """Function that runs a small ablation and returns its reference lines over all warm pairs."""

    def run(test=None, references=None, cache=None):
        split, vectors = world
        if test is not None:
            split = replace(split, test=test)
        toys["Popular"].fits.clear()
        ablation = toys["run_split"](
            split,
            lambda _: (None, vectors),
            lambda _: toys["SVD"](),
            toys["make_fuser"],
            arms=toys["arms"][:1],
            seeds=[0],
            metrics=["ndcg@10"],
            references=references,
            cache=cache,
        )
        return ablation.findings["all"].reference

    return run


def climbed(function, grid, start):
    """Return the options found, and those that were tried."""
    tried = []

    def evaluate(changes):
        tried.append(changes)
        return function({**start, **changes})

    return tune(grid, start, evaluate), tried


def test_the_optimum_within_the_grid_is_found():
    found, tried = climbed(
        lambda o: -abs(o["a"] - 4.0) - abs(o["b"] - 1.0),
        {"a": (1.0, 2.0, 4.0, 8.0), "b": (1.0, 3.0)},
        {"a": 1.0, "b": 3.0},
    )
    assert found == {"a": 4.0, "b": 1.0}
    assert tried[0] == {}
    assert len(tried) == len({tuple(sorted(each.items())) for each in tried}), "nothing is fitted twice"


@pytest.mark.parametrize(("best", "found"), [(27.0, {"a": 27.0}), (1 / 9, {"a": 1 / 9}), (3.0, {"a": 3.0}), (1.0, {})])
def test_an_optimum_beyond_the_grid_is_reached(best, found):
    options, _ = climbed(lambda o: -abs(np.log(o["a"] / best)), {"a": (0.33333333, 1.0, 3.0)}, {"a": 1.0})
    assert options == pytest.approx(found)


def test_sizes_and_words_stay_within_the_grid():
    found, tried = climbed(
        lambda o: o["dim"] + 10 * (o["age"] == 0.5),
        {"dim": (32, 64, 128), "age": ("none", 0.5)},
        {"dim": 64, "age": "none"},
    )
    assert found == {"dim": 128, "age": 0.5}
    assert max(each.get("dim", 0) for each in tried) == 128


def test_the_number_of_fits_is_bounded():
    found, tried = climbed(
        lambda o: sum(o.values()), {name: (1.0, 2.0) for name in "abcdefgh"}, dict.fromkeys("abcdefgh", 1.0)
    )
    assert len(tried) == 16
    assert found


def test_failed_options_are_not_chosen():
    assert climbed(lambda o: None if o["a"] > 1 else 0.0, {"a": (1.0, 2.0)}, {"a": 1.0})[0] == {}
    assert climbed(lambda o: None if o["a"] == 1 else 0.0, {"a": (1.0, 2.0)}, {"a": 1.0})[0] == {"a": 2.0}


def test_a_restart_computes_no_reference(lines, toys, tmp_path):
    first = lines(cache=RunCache(tmp_path))
    assert len(toys["Popular"].fits) > 2
    assert lines(cache=RunCache(tmp_path)) == first
    assert toys["Popular"].fits == []


def test_references_are_tuned_on_validation_alone(lines, world, toys):
    split, _ = world
    lines()
    tried = list(toys["Popular"].fits)
    other = replace(split.test, items=np.roll(split.test.items, 7))
    lines(test=other)
    assert toys["Popular"].fits == tried


def test_a_backbone_that_cannot_be_fitted_is_left_out_in_words(lines, toys, caplog):
    class Large(toys["Popular"]):
        reference: ClassVar = {}

        def fit(self, data, fuser, *, seed, monitor):
            raise MemoryLimitError("it needs 9 bytes of memory")

    with caplog.at_level(logging.WARNING):
        found = lines(references={"large": toys["reference"](Large), **toys["references"]})
    assert set(found) == {"popularity", "ease"}
    assert "the reference line 'large' is left out: " in caplog.text
    assert "it needs 9 bytes of memory" in caplog.text


def test_options_that_the_data_do_not_go_with_are_passed_over(lines, toys):
    class Timed(toys["Popular"]):
        def fit(self, data, fuser, *, seed, monitor):
            if self.options.power != 1:
                raise ConfigError("half_life needs timestamps")
            return super().fit(data, fuser, seed=seed, monitor=monitor)

    assert set(lines(references={"timed": toys["reference"](Timed)})) == {"timed"}
