"""Content baselines, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest

from enhancer.contracts import Factors
from enhancer.evaluation import Arm, RunCache, Views, evaluate
from enhancer.evaluation.measuring.content_baselines import (
    baseline_name,
    content_inputs,
    mean_of_items,
    measure_mean_vectors,
    measure_ridge,
    ridge_by_leave_one_out,
)
from enhancer.evaluation.measuring.panels import make_panels, share_of

METRICS = ["ndcg@10", "recall@5"]


@pytest.mark.parametrize(("n", "d"), [(40, 5), (12, 30), (25, 25)])
def test_the_penalty_is_the_one_that_refits_without_each_row_choose(n, d):
    linear_model = pytest.importorskip("sklearn.linear_model")
    random = np.random.default_rng(n + d)
    x = random.standard_normal((n, d)) * np.linspace(0.2, 2, d)
    y = x[:, :3] @ random.standard_normal((3, 4)) + random.standard_normal((n, 4)) + 5
    unit = float(((x - x.mean(0)) ** 2).sum()) / d
    penalties = unit * 10.0 ** np.arange(-5.0, 3.5, 0.5)

    def error(penalty):
        total = 0.0
        for left_out in range(n):
            rest = np.arange(n) != left_out
            model = linear_model.Ridge(alpha=penalty, solver="svd").fit(x[rest], y[rest])
            total += float(((model.predict(x[[left_out]]) - y[left_out]) ** 2).sum())
        return total

    wanted = linear_model.Ridge(alpha=min(penalties, key=error), solver="svd").fit(x, y)
    slope, intercept = ridge_by_leave_one_out(x.astype(np.float32), y.astype(np.float32))
    assert slope.dtype == intercept.dtype == np.float32
    np.testing.assert_allclose(slope, wanted.coef_.T, atol=2e-4)
    np.testing.assert_allclose(intercept, wanted.intercept_, atol=2e-3)


def test_vectors_that_are_all_alike_predict_the_mean():
    y = np.arange(12, dtype=np.float32).reshape(4, 3)
    slope, intercept = ridge_by_leave_one_out(np.ones((4, 2), np.float32), y)
    np.testing.assert_allclose(np.ones(2) @ slope + intercept, y.mean(0), rtol=1e-6)


def test_the_mean_leaves_out_items_without_a_vector(toys):
    items = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    pairs = toys["Part"](np.array([2, 0, 0, 2], np.int32), np.array([0, 0, 1, 2], np.int32), [], [])
    assert mean_of_items(items, pairs, 3).tolist() == [[0.5, 0.5], [0, 0], [1, 0]]


def test_both_rank_held_out_items_as_if_written_out(world):
    split, vectors = world
    views = Views(split)
    panels = make_panels(views, METRICS)
    random = np.random.default_rng(3)
    factors = Factors(*(random.standard_normal((n, 4)).astype(np.float32) for n in (views.n_users, views.n_items)))

    def measured(users, items):
        found = Factors(users.astype(np.float32), items.astype(np.float32))
        part, candidates = views.cold_test, views.cold_items
        return evaluate(found, part, seen=views.seen_testing, candidates=candidates, metrics=METRICS).means()

    items = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    means = np.array([items[split.train.items[split.train.users == user]].mean(0) for user in range(views.n_users)])
    got = measure_mean_vectors({("profile",): vectors}, panels, views, METRICS)
    assert got["mean vector (profile)"].means() == pytest.approx(measured(means, items))

    trained = views.popularity > 0
    slope, intercept = ridge_by_leave_one_out(vectors[trained], factors.items[trained])
    placed = measure_ridge(factors, vectors, panels, views, METRICS)["cold"]
    assert placed.means() == pytest.approx(measured(factors.users, vectors @ slope + intercept))


def test_they_are_computed_for_the_inputs_of_the_arms(world):
    panels = make_panels(Views(world[0]))
    both = ("profile", "text")
    arms = [Arm("none", "none", semantic=False), Arm("a", "align"), Arm("b", "align", inputs=both)]
    assert content_inputs([*arms, Arm("p", "align", inputs=("text",), shuffle=True)], panels) == (("profile",), both)
    assert content_inputs(arms[:1], panels) == ()
    assert content_inputs(arms, panels[:1]) == ()  # no item is held out
    assert baseline_name("ridge", both) == "ridge (profile + text)"


def test_they_stand_in_the_panel_of_held_out_items_alone(ablation):
    cold = ablation.findings["cold"]
    assert cold.content == [f"{kind} ({own})" for kind in ("mean vector", "ridge") for own in ("profile", "text")]
    assert len(set(cold.per_seed["mean vector (text)"]["ndcg@10"])) == 1  # nothing is trained
    assert len(set(cold.per_seed["ridge (text)"]["ndcg@10"])) == 3  # onto the factors of each seed
    assert cold.mean("ridge (profile)", "ndcg@10") > 1.2 * cold.mean("placebo", "ndcg@10")
    assert all(not finding.content for name, finding in ablation.findings.items() if name != "cold")


def test_arms_on_other_inputs_do_not_train_the_baseline_again(ablate, toys, tmp_path):
    arms, trained = toys["arms"], []

    def run(arms):
        trained.clear()
        return ablate(arms=arms, seeds=(0,), cache=RunCache(tmp_path), on_epoch=lambda name, *_: trained.append(name))

    first = run(arms[:2])
    more = run(arms[:3])
    assert set(trained) == {"text/seed0"}
    assert more.findings["cold"].content == [*first.findings["cold"].content[:1], "mean vector (text)",
                                             *first.findings["cold"].content[1:], "ridge (text)"]  # fmt: skip
    again = run(arms[:3])
    assert not trained
    assert again.findings["cold"].per_seed == more.findings["cold"].per_seed
    fresh = ablate(arms=arms[:3], seeds=(0,))
    assert fresh.findings["cold"].per_seed == more.findings["cold"].per_seed


def test_without_kept_factors_the_baseline_is_trained_again(ablate, toys, tmp_path):
    arms, trained = toys["arms"], []
    ablate(arms=arms[:2], seeds=(0,), cache=RunCache(tmp_path))
    for path in tmp_path.glob("*.factors.npz"):
        path.write_bytes(b"damaged")
    ablate(arms=arms[:3], seeds=(0,), cache=RunCache(tmp_path), on_epoch=lambda name, *_: trained.append(name))
    assert set(trained) == {"none/seed0", "text/seed0"}


def test_the_share_of_new_items_in_lists(ablation, world):
    views = Views(world[0])
    cold, taken = len(views.cold_items), len(views.mixed_test.users) - len(views.warm_test.users)
    found = ablation.to_json()["new_items"]
    assert found["places"] == 10
    assert found["share_of_items"] == pytest.approx(cold / (cold + len(views.warm_items)))
    assert found["share_of_interactions"] == pytest.approx(taken / len(views.mixed_test.users))
    assert found["share_of_places"]["none"] == [0, 0, 0]  # SVD scores them 0, below what users like
    assert all(0.05 < share < 0.5 for share in found["share_of_places"]["beside"])


def test_places_are_counted_without_the_empty_ones():
    ranked = np.array([[4, 1, -1], [2, 4, 3]], np.int32)
    assert share_of(ranked, np.array([4, 3])) == pytest.approx(3 / 5)
    assert share_of(ranked[:0], np.array([4])) == 0
