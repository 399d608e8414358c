"""Tests of the fuser: the conformance suite, and the formula."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from enhancer_svd.backbone import SVD
from enhancer_svd.fuser import Retrofit, RetrofitOptions, nearest

from enhancer.contracts import Context
from enhancer.testing.fuser import FuserConformance
from enhancer.testing.planted import planted
from enhancer_plugins.backbones.fm import FM
from enhancer_plugins.backbones.lightgcn import LightGCN

SHORT = {"epochs": 12, "batch_size": 256, "learning_rate": 0.05}


class TestConformance(FuserConformance):
    fuser_class = Retrofit
    backbones: ClassVar = {"svd": (SVD, {"dim": 4}), "lightgcn": (LightGCN, SHORT), "fm": (FM, SHORT)}


def test_an_item_moves_towards_its_neighbours_the_less_the_more_interactions_it_has():
    case = planted()
    data = case.data
    fusion = Retrofit(RetrofitOptions(neighbours=5, strength=2.0), Context()).build_checked(data, 8, seed=0)
    embeddings = np.random.default_rng(0).standard_normal((data.n_items, 8)).astype(np.float32)
    settled = fusion.settle("item", embeddings)
    counts, known = case.known.sum(0), case.known.any(0) & data.item_vectors.any(1)
    for item in np.flatnonzero(known):
        cosines = np.where(known, data.item_vectors @ data.item_vectors[item], -np.inf)
        cosines[item] = -np.inf
        mean = embeddings[np.argsort(-cosines)[:5]].mean(0)
        expected = (counts[item] * embeddings[item] + 2.0 * mean) / (counts[item] + 2.0)
        np.testing.assert_allclose(settled[item], expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(settled[~known], embeddings[~known])
    np.testing.assert_array_equal(fusion.settle("user", embeddings), embeddings)


@pytest.mark.parametrize(("n", "columns"), [(0, 0), (1, 0), (2, 1), (3, 2), (2000, 2)])
def test_nearest_leaves_out_the_row_itself(n, columns):
    vectors = np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)
    found = nearest(vectors, 2)
    assert found.shape == (n, columns)
    assert not (found == np.arange(n)[:, None]).any()
