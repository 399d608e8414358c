from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from enhancer.contracts import Factors
from enhancer.errors import ConfigError, EvaluationError
from enhancer.evaluation import CSR, evaluate, parse_metric, rank
from enhancer.evaluation.measuring import ranking as ranking_module
from enhancer.evaluation.measuring.metrics import PairList, score_ranking
from enhancer.evaluation.measuring.ranking import tie_order

ALL = ["ndcg@5", "recall@5", "precision@5", "mrr@5", "map@5", "hit@5"]


def pairs(*rows):
    users, items = zip(*rows, strict=True) if rows else ((), ())
    return PairList(np.array(users, np.int32), np.array(items, np.int32))


def scores_as_factors(scores):
    """Return factors whose product is a given score matrix."""
    scores = np.asarray(scores, np.float32)
    return Factors(scores, np.eye(scores.shape[1], dtype=np.float32))


def naive(scores, relevant, seen, k, candidates=None):
    """Compute the metrics of one user step by step from their definitions."""
    out = {}
    for user, wanted in relevant.items():
        candidates_ = tie_order(scores.shape[1]).tolist() if candidates is None else candidates
        wanted = {i for i in wanted if i in set(candidates_)}
        if not wanted:
            continue
        # sorted() is stable: ties keep the order of the candidates
        order = sorted((i for i in candidates_ if i not in seen.get(user, ())), key=lambda i: -scores[user, i])[:k]
        hits = [i in wanted for i in order]
        ideal = sum(1 / math.log2(i + 2) for i in range(min(k, len(wanted))))
        out[user] = {
            f"ndcg@{k}": sum(1 / math.log2(i + 2) for i, hit in enumerate(hits) if hit) / ideal,
            f"recall@{k}": sum(hits) / len(wanted),
            f"precision@{k}": sum(hits) / k,
            f"mrr@{k}": next((1 / (i + 1) for i, hit in enumerate(hits) if hit), 0.0),
            f"map@{k}": sum(sum(hits[: i + 1]) / (i + 1) for i, hit in enumerate(hits) if hit) / min(k, len(wanted)),
            f"hit@{k}": float(any(hits)),
        }
    return out


def test_a_ranking_worked_by_hand():
    # One user with ranking 3 1 4 0 2; the relevant items 1 and 2 are at ranks 2 and 5.
    factors = scores_as_factors([[2, 4, 1, 5, 3]])
    scores = evaluate(factors, pairs((0, 1), (0, 2)), metrics=ALL)
    ideal = 1 + 1 / math.log2(3)
    assert scores.means() == pytest.approx(
        {
            "ndcg@5": (1 / math.log2(3) + 1 / math.log2(6)) / ideal,
            "recall@5": 1.0,
            "precision@5": 0.4,
            "mrr@5": 0.5,
            "map@5": (1 / 2 + 2 / 5) / 2,
            "hit@5": 1.0,
        }
    )


def test_cut_off_shorter_than_the_relevant_items():
    factors = scores_as_factors([[5, 4, 3, 2, 1]])
    scores = evaluate(factors, pairs(*((0, i) for i in range(4))), metrics=["ndcg@2", "recall@2", "map@2"])
    assert scores.means() == pytest.approx({"ndcg@2": 1.0, "recall@2": 0.5, "map@2": 1.0})


def test_seen_items_are_never_ranked_and_users_without_relevant_items_do_not_count():
    factors = scores_as_factors([[5, 4, 3], [5, 4, 3], [1, 1, 1]])
    seen = pairs((0, 0), (1, 0), (1, 1))
    ranked = rank(factors, np.arange(3), CSR.of([seen], 3), k=3)
    assert ranked.tolist() == [[1, 2, -1], [2, -1, -1], tie_order(3).tolist()]
    scores = evaluate(factors, pairs((0, 1), (1, 2)), seen=[seen], metrics=["ndcg@1"])
    assert scores.users.tolist() == [0, 1]
    assert scores.values["ndcg@1"].tolist() == [1.0, 1.0]


def test_ties_go_to_the_earlier_candidate():
    factors = scores_as_factors(np.zeros((2, 6)))
    drawn = tie_order(6).tolist()
    assert rank(factors, np.array([0, 1]), None, k=3).tolist() == [drawn[:3]] * 2
    assert rank(factors, np.array([0, 1]), None, np.arange(6), k=3).tolist() == [[0, 1, 2]] * 2
    assert rank(factors, np.array([0]), None, np.array([4, 2, 5, 0]), k=3).tolist() == [[4, 2, 5]]
    mask = np.array([False, True, False, True, True, True])
    assert rank(factors, np.array([0]), None, mask, k=2).tolist() == [[row for row in drawn if mask[row]][:2]]


def test_ties_at_the_cut_off():
    factors = scores_as_factors([[1, 3, 2, 2, 2, 0], [2, 2, 2, 2, 2, 2], [6, 5, 4, 3, 2, 1]])
    assert rank(factors, np.arange(3), None, np.arange(6), k=3).tolist() == [[1, 2, 3], [0, 1, 2], [0, 1, 2]]


def test_more_places_than_candidates():
    factors = scores_as_factors([[1, 2]])
    assert rank(factors, np.array([0]), None, k=4).tolist() == [[1, 0, -1, -1]]
    assert rank(factors, np.array([0]), None, np.array([], np.int64), k=2).tolist() == [[-1, -1]]
    assert rank(factors, np.array([], np.int64), None, k=2).shape == (0, 2)


def test_relevant_items_that_are_no_candidates_do_not_count():
    factors = scores_as_factors([[5, 4, 3, 2]])
    part = pairs((0, 0), (0, 2))
    scores = evaluate(factors, part, candidates=np.array([3, 2]), metrics=["recall@1", "ndcg@1"])
    assert scores.means() == {"recall@1": 1.0, "ndcg@1": 1.0}


def test_no_user_to_judge():
    scores = evaluate(scores_as_factors([[1, 2]]), pairs(), metrics=["ndcg@10"])
    assert scores.means() == {"ndcg@10": 0.0}
    assert len(scores.users) == 0


@pytest.mark.parametrize("candidates", [None, np.ones(500, np.bool_)], ids=["all", "mask"])
def test_a_constant_model_is_at_chance_wherever_the_popular_item_stands(candidates):
    """With ties by row, every user of a popular item in row 0 would be a hit."""
    constant = Factors(np.ones((400, 1), np.float32), np.zeros((500, 1), np.float32))
    rates = []
    for row in range(500):
        everyone = PairList(np.arange(400, dtype=np.int32), np.full(400, row, np.int32))
        rates.append(evaluate(constant, everyone, candidates=candidates, metrics=["hit@10"]).mean("hit@10"))
        if row == 0:
            assert rates == [0.0]
    assert np.mean(rates) == pytest.approx(10 / 500)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_factors_that_are_not_finite_are_refused(bad):
    factors = scores_as_factors([[1, bad]])
    with pytest.raises(EvaluationError, match="user row 0"):
        evaluate(factors, pairs((0, 0)))


worlds = st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=60)
@given(worlds, st.integers(1, 12), st.booleans())
def test_agrees_with_the_definitions_step_by_step(seed, k, few_candidates):
    rng = np.random.default_rng(seed)
    n_users, n_items = rng.integers(1, 9), rng.integers(1, 15)
    scores = rng.integers(-3, 4, (n_users, n_items)).astype(np.float32)  # integers: many ties
    state = rng.choice(3, (n_users, n_items), p=[0.5, 0.25, 0.25])
    relevant, seen = (PairList(*np.argwhere(state == s).astype(np.int32).T.reshape(2, -1)) for s in (1, 2))
    candidates = rng.permutation(n_items)[: rng.integers(1, n_items + 1)] if few_candidates else None
    metrics = [f"{name}@{k}" for name in ("ndcg", "recall", "precision", "mrr", "map", "hit")]
    got = evaluate(scores_as_factors(scores), relevant, seen=[seen], candidates=candidates, metrics=metrics)
    wanted = {u: set(np.flatnonzero(state[u] == 1).tolist()) for u in range(n_users)}
    masked = {u: set(np.flatnonzero(state[u] == 2).tolist()) for u in range(n_users)}
    reference = naive(scores, wanted, masked, k, None if candidates is None else candidates.tolist())
    assert got.users.tolist() == sorted(reference)
    for metric in metrics:
        np.testing.assert_allclose(got.values[metric], [reference[u][metric] for u in got.users.tolist()], atol=1e-12)
        assert ((got.values[metric] >= 0) & (got.values[metric] <= 1)).all()


@settings(deadline=None, max_examples=40)
@given(worlds, st.integers(1, 30))
def test_agrees_with_scikit_learn(seed, k):
    from sklearn.metrics import average_precision_score, ndcg_score  # takes seconds to import

    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(30), (5, 1)), axis=1).astype(np.float32)
    relevance = rng.random((5, 30)) < 0.2
    relevance[:, 0] |= ~relevance.any(axis=1)
    got = evaluate(
        scores_as_factors(scores),
        PairList(*np.argwhere(relevance).astype(np.int32).T),
        metrics=[f"ndcg@{k}", "map@30"],
    )
    assert got.mean(f"ndcg@{k}") == pytest.approx(ndcg_score(relevance.astype(float), scores, k=k))
    reference = [average_precision_score(relevance[u], scores[u]) for u in range(5)]
    np.testing.assert_allclose(got.values["map@30"], reference)


@settings(deadline=None)
@given(hnp.arrays(np.float32, (7, 11), elements=st.integers(-2, 2).map(float)), st.integers(1, 11))
def test_ranking_in_blocks_changes_nothing(scores, k):
    factors = scores_as_factors(scores)
    whole = rank(factors, np.arange(7), None, np.arange(11), k=k)
    block, fewest = ranking_module.BLOCK_SCORES, ranking_module.FEWEST_USERS
    try:
        ranking_module.BLOCK_SCORES, ranking_module.FEWEST_USERS = 20, 1
        assert rank(factors, np.arange(7), None, np.arange(11), k=k).tolist() == whole.tolist()
    finally:
        ranking_module.BLOCK_SCORES, ranking_module.FEWEST_USERS = block, fewest
    stable = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    assert whole.tolist() == stable.tolist()


def test_one_ranking_serves_several_strata():
    factors = scores_as_factors([[4, 3, 2, 1], [1, 2, 3, 4], [4, 3, 2, 1]])
    users = np.array([0, 1, 2], np.int32)
    ranked = rank(factors, users, None, k=2)
    part = score_ranking(ranked, users, pairs((0, 0), (2, 3)), 4, ["recall@1", "recall@2"])
    assert part.users.tolist() == [0, 2]
    assert part.values["recall@2"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ndgc@10", "did you mean 'ndcg@10'"),
        ("ndgc", "did you mean 'ndcg@10'"),
        ("acu", "did you mean 'auc'"),
        ("zzz@10", "known: auc, gauc, hit, logloss, map, mrr, ndcg, precision, recall"),
        ("auc@10", "has no cut-off; write 'auc'"),
        ("logless", "did you mean 'logloss'"),
        ("ndcg", "for example ndcg@10"),
        ("map", "for example map@10"),
        ("mrr", "for example mrr@10"),
        ("hr@10", "did you mean 'hit@10'"),
        ("HitRate@10", "did you mean 'hit@10'"),
        ("hit_ratio@5", "did you mean 'hit@5'"),
        ("hr", "did you mean 'hit@10'"),
        ("ndcg10", "did you mean 'ndcg@10'"),
        ("recall_20", "did you mean 'recall@20'"),
        ("NDCG at 5", "did you mean 'ndcg@5'"),
        ("precision@k", "did you mean 'precision@10'"),
        ("P@5", "did you mean 'precision@5'"),
        ("average_precision@3", "did you mean 'map@3'"),
        ("log_loss", "did you mean 'logloss'"),
        ("roc_auc", "did you mean 'auc'"),
        ("ndcg@0", "cut-off of 1"),
        ("ndcg@-1", "unknown metric"),
        ("", "unknown metric"),
    ],
)
def test_a_metric_that_is_none(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_metric(text)


def test_csr_gathers_parts_in_order():
    csr = CSR.of([pairs((2, 5), (0, 3)), pairs((2, 1))], 4)
    assert csr.indptr.tolist() == [0, 1, 1, 3, 3]
    assert csr.indices.tolist() == [3, 1, 5]
    rows, items = csr.rows(np.array([2, 3, 0]))
    assert rows.tolist() == [0, 0, 2]
    assert items.tolist() == [1, 5, 3]


@given(
    st.integers(0, 10**6),
    st.integers(1, 6),
    st.integers(1, 400),
    st.sampled_from([2, 5, 50, 10**6]),
    st.sampled_from([0.0, 0.1, 0.9, 1.0]),
)
def test_the_best_are_those_of_a_full_sort(seed, k, n_items, levels, masked):
    """With few score levels and many masked items, selection by set maxima falls back to the general method."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (7, n_items)).astype(np.float32)
    hidden = np.argwhere(rng.random((7, n_items)) < masked)
    factors = Factors(np.eye(7, dtype=np.float32), np.ascontiguousarray(scores.T))
    seen = CSR.of((PairList(*hidden.astype(np.int32).T),), 7)
    order = rng.permutation(n_items)
    got = rank(factors, np.arange(7), seen, order, k)
    scores[tuple(hidden.T)] = -np.inf
    for user in range(7):
        best = order[np.argsort(-scores[user, order], kind="stable")][:k]
        wanted = [item if scores[user, item] > -np.inf else -1 for item in best.tolist()]
        assert got[user].tolist() == wanted + [-1] * (k - len(wanted))


@given(st.lists(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 70)), max_size=20), max_size=3))
def test_the_items_of_each_user_ascend_whatever_the_parts(parts):
    csr = CSR.of([pairs(*part) for part in parts], 9)
    for user in range(9):
        own = sorted(item for part in parts for one, item in part if one == user)
        assert csr.indices[csr.indptr[user] : csr.indptr[user + 1]].tolist() == own
