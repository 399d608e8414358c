"""The additive part of the click model, and what a click model owes to it on sparse data."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from enhancer.contracts import Context, SideFeatures, TrainingData
from enhancer.evaluation.measuring.label_metrics import LabelledPairs, evaluate_labelled
from enhancer.evaluation.running.references import rates
from enhancer.testing.planted import PlainFuser, RecordingMonitor
from enhancer_plugins.backbones.factorisation.additive_fit import AdditiveFit
from enhancer_plugins.backbones.factorisation.click_model import smoothed_log_odds
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.fusers.concat import Concat, ConcatOptions


class Books(NamedTuple):
    """Few labelled interactions of many users and books."""

    data: TrainingData
    validation: LabelledPairs
    test: LabelledPairs


def books(seed=0, n=4000, *, user_deviation=0.9, item_deviation=0.6, features=False):
    """Return interactions whose labels depend on user, item and, if asked, their features, but on no interaction."""
    random = np.random.default_rng(seed)
    n_users, n_items = 600, 900
    fame = 1 / np.arange(1, n_items + 1) ** 0.7
    pairs = random.integers(0, n_users, 2 * n) * n_items + random.choice(n_items, 2 * n, p=fame / fame.sum())
    users, items = np.divmod(random.permutation(np.unique(pairs))[:n], n_items)
    tables = [random.standard_normal((size, 3)).astype(np.float32) for size in (n_users, n_items)]
    weights = np.array([0.8, 0, -0.4]) * features
    logit = 0.7 + user_deviation * random.standard_normal(n_users)[users] + (tables[0] @ weights)[users]
    logit += item_deviation * random.standard_normal(n_items)[items] + (tables[1] @ weights)[items]
    labels = (random.random(len(users)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    part = random.choice(3, len(users), p=[0.7, 0.15, 0.15])
    train = part == 0
    known = np.isin(users, users[train]) & np.isin(items, items[train])
    rows = users.astype(np.int32), items.astype(np.int32), labels
    sides = [SideFeatures.of(table) if features else None for table in tables]
    data = TrainingData(
        n_users=n_users, n_items=n_items, users=rows[0][train], items=rows[1][train], labels=labels[train],
        user_features=sides[0], item_features=sides[1],
        user_vectors=random.standard_normal((n_users, 8)).astype(np.float32),
        item_vectors=random.standard_normal((n_items, 8)).astype(np.float32),
    )  # fmt: skip
    return Books(data, *(LabelledPairs(*(row[known & (part == number)] for row in rows)) for number in (1, 2)))


class Validating(RecordingMonitor):
    """Monitor of a metric of labelled pairs; higher is better."""

    def __init__(self, pairs, metric):
        super().__init__()
        self.pairs, self.metric = pairs, metric

    def value(self, factors):
        found = evaluate_labelled(factors, self.pairs, [self.metric])[self.metric]
        return -found if self.metric == "logloss" else found

    def validate(self, factors):
        super().validate(factors)
        return self.value(factors)


FUSERS = {
    "none": PlainFuser,
    "concat": lambda: Concat(ConcatOptions(), Context()),
    "align": lambda: Align(AlignOptions(), Context()),
}


@pytest.mark.parametrize("features", [False, True], ids=["ids", "features"])
def test_the_fit_is_that_of_scikit_learn_at_the_same_precisions(features):
    from scipy.sparse import csr_matrix, hstack
    from sklearn.linear_model import LogisticRegression

    data = books(n=2000, features=features).data
    fit = AdditiveFit(data)
    blocks, places = [], []
    for kind, rows, n, known in (
        ("user", data.users, data.n_users, data.user_features),
        ("item", data.items, data.n_items, data.item_features),
    ):
        side = fit.sides[kind]
        seen = np.bincount(rows, minlength=n) > 0
        assert not side.bias[~seen].any()
        blocks.append(csr_matrix(np.eye(n)[:, seen])[rows] / np.sqrt(side.bias_precision))
        places.append(side.bias[seen] * np.sqrt(side.bias_precision))
        if known is not None:
            blocks.append(csr_matrix(known.dense()[rows]) / np.sqrt(side.linear_precision))
            places.append(side.linear * np.sqrt(side.linear_precision))
    # Scaled columns turn one penalty into a precision of each group.
    wanted = LogisticRegression(C=1.0, tol=1e-8, max_iter=3000).fit(hstack(blocks), data.labels)
    np.testing.assert_allclose(np.concatenate(places), wanted.coef_[0], atol=1e-3)
    assert fit.level == pytest.approx(wanted.intercept_[0], abs=1e-3)


def test_precisions_are_those_that_the_labels_were_drawn_with():
    found = [AdditiveFit(books(seed, 30_000, user_deviation=1.0, item_deviation=0.5).data) for seed in range(2)]
    users, items = (np.mean([fit.sides[kind].bias_precision for fit in found]) for kind in ("user", "item"))
    assert users == pytest.approx(1.0, rel=0.25)
    assert items == pytest.approx(4.0, rel=0.4)


def test_labels_that_do_not_depend_on_ids_leave_their_weights_small():
    fit = AdditiveFit(books(user_deviation=0, item_deviation=0).data)
    for side in fit.sides.values():
        assert np.abs(side.bias).max() < 0.3


def test_extreme_labels_are_fitted_to_finite_weights():
    """Every user has one label only, so that without a prior the weights would diverge."""
    users, items = np.divmod(np.arange(400, dtype=np.int32), 10)
    data = TrainingData(n_users=40, n_items=10, users=users, items=items, labels=(users < 39).astype(np.float32))
    fit = AdditiveFit(data)
    assert np.isfinite(fit.sides["user"].bias).all()
    assert fit.sides["user"].bias[39] < fit.sides["user"].bias[:39].min() - 2


def test_smoothed_log_odds_are_the_reference_of_an_ablation():
    data = books().data
    wanted = rates(data, data.labels, data.n_users, data.n_items, prior_strength=3.0)
    np.testing.assert_allclose(smoothed_log_odds(data.items, data.labels, data.n_items, 3.0), wanted.items[:, 1], 1e-5)


@pytest.mark.parametrize("metric", ["auc", "logloss"])
@pytest.mark.parametrize("fuser", FUSERS)
def test_a_click_model_is_never_behind_the_rates_on_validation(fuser, metric):
    made = books(seed=3, features=fuser == "none")
    watcher = Validating(made.validation, metric)
    options = {"epochs": 6, "patience": 3, "batch_size": 512, "dim": 8, "learning_rate": 0.02}
    backbone = FM(FMOptions(loss="log", **options), Context())
    fitted = backbone.fit_checked(made.data, FUSERS[fuser](), seed=0, monitor=watcher)
    reached = watcher.value(fitted.factors)
    lines = [
        rates(made.data, made.data.labels, made.data.n_users, made.data.n_items, prior_strength=strength)
        for strength in (3.0, 10.0, 30.0)
    ]
    assert all(reached >= watcher.value(line) - 1e-7 for line in lines)
    assert reached == pytest.approx(max(watcher.value(each) for each in watcher.validated), abs=1e-7)
    at_best = [entry["metric"] for entry in fitted.history if entry["epoch"] == fitted.best_epoch]
    assert at_best == [pytest.approx(reached, abs=1e-7)]


def test_without_interactions_in_the_labels_a_click_model_beats_the_rates_on_test():
    """Labels depend on users and items alone: log loss and AUC are at least those of rates tuned on validation."""
    differences = []
    for seed in range(3):
        made = books(seed)
        size = made.data.n_users, made.data.n_items
        lines = [rates(made.data, made.data.labels, *size, prior_strength=strength) for strength in (3.0, 10.0, 30.0)]
        line = min(lines, key=lambda each: evaluate_labelled(each, made.validation, ["logloss"])["logloss"])
        watcher = Validating(made.validation, "logloss")
        fitted = FM(FMOptions(loss="log", epochs=4, dim=8), Context()).fit_checked(
            made.data, PlainFuser(), seed=0, monitor=watcher
        )
        found, wanted = (evaluate_labelled(each, made.test, ["logloss", "auc"]) for each in (fitted.factors, line))
        differences.append([wanted["logloss"] - found["logloss"], found["auc"] - wanted["auc"]])
    assert (np.mean(differences, 0) > -1e-3).all()


def test_features_improve_the_start():
    made = books(features=True)
    with_features, without = (Validating(made.validation, "auc") for _ in range(2))
    options = FMOptions(loss="log", epochs=0)
    FM(options, Context()).fit_checked(made.data, PlainFuser(), seed=0, monitor=with_features)
    bare = replace(made.data, user_features=None, item_features=None)
    FM(options, Context()).fit_checked(bare, PlainFuser(), seed=0, monitor=without)
    assert with_features.value(with_features.validated[0]) > without.value(without.validated[0]) + 0.02


def test_arms_share_the_start():
    made = books()
    starts = []
    for fuser in FUSERS.values():
        watcher = Validating(made.validation, "auc")
        FM(FMOptions(loss="log", epochs=0), Context()).fit_checked(made.data, fuser(), seed=0, monitor=watcher)
        starts.append([watcher.value(each) for each in watcher.validated[:4]])  # placement is calibrated after them
    assert starts[0] == starts[1] == starts[2]
