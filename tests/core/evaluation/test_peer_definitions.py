"""Our versions of other libraries' metrics give the values that the libraries themselves gave on one ranking.

The values were computed by RecTools 0.19.0, LensKit 2025.8.1, pytrec_eval-terrier 0.5.11 (trec_eval 9), implicit 0.7.3,
torchmetrics 1.9.0 and RecBole 1.2.1, each from the lists and the relevant items below, with a cut-off of 5.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.errors import ConfigError
from enhancer.evaluation import Scores, compare_definitions, metric_like
from enhancer.evaluation.measuring.hits import Hits
from enhancer.evaluation.measuring.metrics import PairList, score_ranking
from enhancer.evaluation.measuring.peer_definitions import LIBRARIES

LISTS = [
    [1, 2, 3, 4, 5],
    [3, 1, 6, 2, 8],
    [7, 8, 9, 1, 2],
    [4, 5, 6, 7, 8],
    [9, 3, 1, 5, 2],
    [2, 6, 10, 0, 7],
    [10, 9, 8, 7, 6],
    [5, 11, 0, 3, 4],
]
RELEVANT = [{1}, {1, 2}, {2, 7, 8}, {0, 1}, {1, 2, 3, 5, 9, 10, 11}, {2, 4, 10, 11}, {6}, {0, 1, 2, 3, 4, 5}]
NAMES = ("ndcg", "recall", "precision", "mrr", "map", "hit")

NDCG = [1.0, 0.650921, 0.946902, 0.0, 1.0, 0.58557, 0.386853, 0.786014]
RECALL = [1.0, 1.0, 1.0, 0.0, 0.714286, 0.5, 1.0, 0.666667]
PRECISION = [0.2, 0.4, 0.6, 0.0, 1.0, 0.4, 0.2, 0.8]
MRR = [1.0, 0.5, 1.0, 0.0, 1.0, 1.0, 0.2, 1.0]
HIT = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0]
MAP_OVER_RELEVANT = [1.0, 0.5, 0.866667, 0.0, 0.714286, 0.416667, 0.2, 0.536111]
SHARED = {"recall": RECALL, "precision": PRECISION, "mrr": MRR, "hit": HIT}

RECBOLE = {**SHARED, "ndcg": NDCG, "map": [1.0, 0.5, 0.866667, 0.0, 1.0, 0.416667, 0.2, 0.643333]}
MEASURED = {
    "rectools": {
        **SHARED,
        "ndcg": [0.33916, 0.360055, 0.684352, 0.0, 1.0, 0.50874, 0.131205, 0.786014],
        "map": MAP_OVER_RELEVANT,
    },
    "lenskit": {
        **SHARED,
        "ndcg": [1.0, 0.75, 0.923885, 0.0, 1.0, 0.520909, 0.430677, 0.719228],
        "recall": [1.0, 1.0, 1.0, 0.0, 1.0, 0.5, 1.0, 0.8],
    },
    "trec_eval": {**SHARED, "ndcg": NDCG, "map": MAP_OVER_RELEVANT},
    "torchmetrics": {**SHARED, "ndcg": NDCG, "map": [1.0, 0.5, 0.866667, 0.0, 1.0, 0.833333, 0.2, 0.804167]},
}
IMPLICIT = {"precision": 0.782609, "map": 0.578333, "ndcg": 0.669532}
"""implicit gives means over users alone."""
SHORT = {
    "rectools": {"ndcg": 0.50874, "map": 0.416667, "recall": 0.5, "precision": 0.4, "mrr": 1.0, "hit": 1.0},
    "lenskit": {"ndcg": 0.520909, "recall": 0.5, "precision": 0.666667, "mrr": 1.0, "hit": 1.0},
    "trec_eval": {"ndcg": 0.58557, "map": 0.416667, "recall": 0.5, "precision": 0.4, "mrr": 1.0, "hit": 1.0},
}
"""Values of the sixth user with a list of three items, ``[2, 6, 10]``."""


def scored(lists=LISTS, relevant=RELEVANT, k=5):
    ranked = np.full((len(lists), k), -1, np.int32)
    for row, items in zip(ranked, lists, strict=True):
        row[: len(items)] = items
    pairs = np.array([(user, item) for user, items in enumerate(relevant) for item in sorted(items)], np.int32)
    users = np.arange(len(lists), dtype=np.int32)
    return score_ranking(ranked, users, PairList(*pairs.T), 12, [f"{name}@{k}" for name in NAMES])


def test_the_definitions_of_recbole_are_ours():
    for name, values in RECBOLE.items():
        np.testing.assert_allclose(scored().values[f"{name}@5"], values, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("library", MEASURED)
def test_every_users_value_is_that_of_the_library(library):
    hits = scored().hits
    assert set(LIBRARIES[library]) == set(MEASURED[library]) - ({"map"} if library == "lenskit" else set())
    for name, define in LIBRARIES[library].items():
        np.testing.assert_allclose(define(hits, 5), MEASURED[library][name], atol=1e-6, err_msg=name)


def test_means_are_those_of_implicit():
    assert set(LIBRARIES["implicit"]) == set(IMPLICIT)
    for name, value in IMPLICIT.items():
        assert metric_like(scored(), f"{name}@5", "implicit") == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("library", SHORT)
def test_a_list_shorter_than_the_cut_off(library):
    hits = scored([*LISTS[:5], [2, 6, 10], *LISTS[6:]]).hits
    for name, value in SHORT[library].items():
        assert LIBRARIES[library][name](hits, 5)[5] == pytest.approx(value, abs=1e-6), name


def test_what_a_library_does_not_have_is_none_and_an_unknown_library_is_an_error():
    assert metric_like(scored(), "map@5", "lenskit") is None
    assert metric_like(scored(), "auc", "rectools") is None
    with pytest.raises(ConfigError, match="did you mean 'rectools'"):
        metric_like(scored(), "ndcg@5", "rectool")


def test_runs_are_compared_by_arm_and_stratum():
    run = {"all": scored()}
    compared = compare_definitions({"none": [run, run]}, ["ndcg@5", "auc", "map@5"], "lenskit")
    values = compared["strata"]["all"]["none"]
    assert list(values) == ["ndcg@5", "map@5"]
    assert values["ndcg@5"]["ours"] == pytest.approx(np.mean(NDCG), abs=1e-6)
    assert values["ndcg@5"]["theirs"] == pytest.approx(np.mean(MEASURED["lenskit"]["ndcg"]), abs=1e-6)
    assert values["map@5"]["theirs"] is None


@given(st.integers(1, 20), st.integers(1, 6), st.randoms(use_true_random=False))
def test_hits_are_kept_bit_by_bit(k, n, chance):
    mask = np.array([[chance.random() < 0.5 for _ in range(k)] for _ in range(n)])
    hits = Hits.of(mask, np.full(n, 3), np.full(n, k))
    for cut in range(1, k + 1):
        assert (hits.up_to(cut) == mask[:, :cut]).all()
    longer = hits.up_to(k + 9)
    assert longer.shape == (n, k + 9)
    assert not longer[:, k:].any()


def test_without_users_the_mean_is_zero():
    none = Scores(
        np.empty(0, np.int32), {"ndcg@5": np.empty(0)}, hits=Hits.of(np.zeros((0, 5), bool), *np.zeros((2, 0)))
    )
    assert metric_like(none, "ndcg@5", "implicit") == 0.0
