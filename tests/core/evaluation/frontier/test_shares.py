"""Shares of the catalogue."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.evaluation.frontier.shares import CatalogueShare

POPULARITY = np.array([5, 0, 9, 2, 2, 30, 0, 1])


def test_the_rarest_and_the_commonest_come_first():
    assert np.flatnonzero(CatalogueShare("rarest", 0.25).kept(POPULARITY)).tolist() == [1, 6]
    assert np.flatnonzero(CatalogueShare("commonest", 0.25).kept(POPULARITY)).tolist() == [2, 5]


@pytest.mark.parametrize("order", ["rarest", "commonest", "random"])
@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=40), one=st.floats(0, 1), two=st.floats(0, 1))
def test_shares_have_their_size_and_are_nested(order, counts, one, two):
    small, large = sorted((one, two))
    popularity = np.array(counts)
    inner, outer = (CatalogueShare(order, share).kept(popularity) for share in (small, large))
    assert inner.sum() == round(small * len(counts))
    assert not (inner & ~outer).any()
    assert CatalogueShare(order, 1.0).kept(popularity).all()


def test_a_random_share_does_not_follow_popularity():
    popularity = np.arange(4000)
    kept = CatalogueShare("random", 0.5).kept(popularity)
    assert abs(popularity[kept].mean() / popularity.mean() - 1) < 0.05
