"""A run changes how often the collector works, and leaves it as it was."""

from __future__ import annotations

import gc

import pytest

from enhancer.features.generating.rare_collections import rare_collections


@pytest.fixture
def thresholds():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_runs_that_overlap(thresholds):
    gc.set_threshold(700, 10, 10)
    first, second = rare_collections(), rare_collections()
    with first:
        assert gc.get_threshold()[0] > 10_000
        second.__enter__()
    assert gc.get_threshold()[0] > 10_000
    second.__exit__(None, None, None)
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.parametrize("chosen", [(0, 10, 10), (100_000, 5, 5)])
def test_what_the_program_has_chosen_stays(thresholds, chosen):
    gc.set_threshold(*chosen)
    with rare_collections():
        assert gc.get_threshold() == chosen
    assert gc.get_threshold() == chosen


def test_a_run_that_fails(thresholds):
    gc.set_threshold(700, 10, 10)
    with pytest.raises(KeyError), rare_collections():
        raise KeyError
    assert gc.get_threshold() == (700, 10, 10)


def test_a_run(thresholds, tmp_path):
    from enhancer.features.generating.run_in_thread import run_in_thread

    gc.set_threshold(700, 10, 10)

    async def seen():
        return gc.get_threshold()

    assert run_in_thread(seen, lambda times: None)[0] > 10_000
    assert gc.get_threshold() == (700, 10, 10)
