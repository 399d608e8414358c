from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from enhancer.evaluation import bootstrap, holm, paired


@pytest.fixture(scope="module")
def stats():
    return pytest.importorskip("scipy.stats")  # takes seconds to import


BASE, TREATED = [0.28, 0.30, 0.29, 0.31, 0.32], [0.30, 0.31, 0.32, 0.33, 0.34]


def test_the_worked_example(stats):
    result = paired(TREATED, BASE)
    assert np.mean(BASE) == pytest.approx(0.300)
    assert np.mean(TREATED) == pytest.approx(0.320)
    assert result.delta == pytest.approx(0.020)
    assert result.sd == pytest.approx(0.00707, abs=5e-6)
    assert result.t == pytest.approx(6.3, abs=0.05)
    assert result.df == 4
    assert result.p == pytest.approx(0.003, abs=5e-4)
    assert result.effect_size == pytest.approx(2.83, abs=0.01)
    assert result.wilcoxon_p == pytest.approx(0.0625)
    assert result.interval == pytest.approx(stats.t.interval(0.95, 4, 0.02, 0.0070711 / 5**0.5), rel=1e-3)


numbers = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 1000)).map(lambda ab: (ab[0] / 1000, ab[1] / 1000)),
    min_size=2,
    max_size=12,
)


@settings(deadline=None)
@given(numbers)
def test_agrees_with_scipy(stats, rows):
    a, b = np.array(rows).T
    result = paired(a, b)
    differences = a - b
    if result.t is None:
        assert np.ptp(differences) < 1e-12
        return
    reference = stats.ttest_rel(a, b)
    assert result.t == pytest.approx(reference.statistic)
    assert result.p == pytest.approx(reference.pvalue, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(-500, 500).filter(bool), min_size=2, max_size=12, unique_by=abs))
def test_signed_ranks_agree_with_scipy(stats, differences):
    values = np.array(differences) / 1000
    result = paired(values, np.zeros(len(values)))
    assert result.wilcoxon_p == pytest.approx(stats.wilcoxon(values, method="exact").pvalue)


def test_signed_ranks_with_ties_count_every_assignment():
    # Ranks 1.5 1.5 3 with signs + - +: rank sums 4.5 and 1.5; 3 of 8 assignments are as extreme in either direction.
    assert paired([0.1, -0.1, 0.3], [0, 0, 0]).wilcoxon_p == pytest.approx(2 * 3 / 8)
    assert paired([0.1, 0.0, 0.3], [0, 0, 0]).wilcoxon_p == pytest.approx(2 * 1 / 4)


@pytest.mark.parametrize(
    ("a", "b", "delta"),
    [
        ([0.3], [0.2], 0.1),
        ([0.3, 0.3], [0.3, 0.3], 0.0),
        ([0.30, 0.31, 0.33], [0.28, 0.29, 0.31], 0.02),
        ([0, 0], [0, 0], 0),
    ],
)
def test_what_cannot_be_told_is_none_and_never_nan(a, b, delta):
    result = paired(a, b)
    assert result.delta == pytest.approx(delta)
    assert (result.t, result.p, result.effect_size, result.interval) == (None, None, None, None)
    json.dumps([getattr(result, name) for name in result.__slots__], allow_nan=False)


@pytest.mark.parametrize(("a", "b"), [([], []), ([1, 2], [1]), ([np.nan], [1.0])])
def test_what_is_no_pair(a, b):
    with pytest.raises(ValueError):
        paired(a, b)


def test_holm_by_hand():
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([None, 0.04]) == [None, 0.04]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_never_below_p(ps):
    adjusted = holm(ps)
    assert all(p <= a <= 1 for p, a in zip(ps, adjusted, strict=True))
    order = np.argsort(ps, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


def test_bootstrap_covers_the_mean_and_is_reproducible():
    values = np.random.default_rng(0).normal(0.1, 1.0, (2000, 2))
    intervals = bootstrap(values)
    assert bootstrap(values) == intervals
    assert bootstrap(values[:, 1:])[0] == pytest.approx(intervals[1])
    error = values.std(axis=0, ddof=1) / 2000**0.5
    for column, got in enumerate(intervals):
        mean = values[:, column].mean()
        wanted = (mean - 1.96 * error[column], mean + 1.96 * error[column])
        assert got == pytest.approx(wanted, abs=0.15 * error[column])
    assert bootstrap(values, exact_up_to=10)[0] == pytest.approx(intervals[0], abs=0.15 * error[0])


def test_bootstrap_without_enough():
    assert bootstrap(np.array([[0.1, 0.2]])) == [None, None]
    assert bootstrap(np.empty((0, 1))) == [None]
    assert bootstrap(np.zeros((5, 1))) == [(0.0, 0.0)]


@pytest.mark.parametrize("n", [51, 3000])
def test_many_pairs_are_weighed_by_the_normal_distribution(n, stats):
    rng = np.random.default_rng(n)
    values = np.round(rng.standard_normal(n) + 0.1, 1)  # with ties and zeros
    found = paired(values, np.zeros(n))
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(values, method="asymptotic").pvalue, rel=1e-6)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-9)
