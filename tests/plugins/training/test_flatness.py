import numpy as np
from hypothesis import given, strategies as st

from enhancer_plugins.training.loop import Flatness


def first_flat(losses, flatness):
    return next((n for n in range(1, len(losses) + 1) if flatness.reached(losses[:n])), None)


@given(st.floats(0.8, 0.99), st.floats(0.1, 10), st.floats(-5, 5))
def test_a_decaying_loss_is_flat_when_its_windows_are_that_close(rate, scale, floor):
    flatness = Flatness(window=10, tolerance=1e-3)
    losses = list(floor + scale * rate ** np.arange(2000))
    found = first_flat(losses, flatness)
    means = np.convolve(losses, np.ones(10) / 10, "valid")
    close = np.flatnonzero(means[:-10] - means[10:] < 1e-3 * np.abs(means[:-10]))
    assert found == (None if not len(close) else close[0] + 20)


def test_noise_does_not_hide_a_falling_loss_nor_a_flat_one():
    random = np.random.default_rng(0)
    falling = 1 / np.arange(1, 400) ** 0.5 * (1 + 0.01 * random.standard_normal(399))
    assert first_flat(list(falling), Flatness()) is None
    flat = np.maximum(1.0, 2 - np.arange(400) / 100) * (1 + 0.01 * random.standard_normal(400))
    assert 150 <= first_flat(list(flat), Flatness()) <= 300


def test_zero_tolerance_trains_on():
    assert first_flat([1.0] * 500, Flatness(tolerance=0)) is None
    assert first_flat([1.0] * 500, Flatness()) == 100


def test_a_loss_that_is_part_of_an_objective_may_rise():
    rising = [1 + 0.01 * epoch for epoch in range(20)]
    assert first_flat(rising, Flatness(window=2, tolerance=1e-3)) == 4
    assert first_flat(rising, Flatness(window=2, tolerance=1e-3, may_rise=True)) is None
    assert first_flat([*rising, *[1.2] * 9], Flatness(window=2, tolerance=1e-3, may_rise=True)) == 24


def test_it_is_told_in_percent():
    assert str(Flatness()) == "the training loss was flat: it fell by less than 0.01 % in 50 epochs"
