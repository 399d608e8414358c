"""Metrics of labelled pairs agree with scikit-learn, and ablations can use them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.contracts import Factors, Fitted, SideFeatures, Sides
from enhancer.errors import ConfigError, EvaluationError
from enhancer.evaluation import Arm, evaluate, training_data
from enhancer.evaluation.measuring.label_metrics import LabelledPairs, auc, evaluate_labelled, gauc, logloss
from enhancer.evaluation.measuring.views import Views
from enhancer.evaluation.reporting.report import render_csv, render_report
from enhancer.evaluation.running.fitting import fit
from enhancer.evaluation.running.references import rates
from enhancer.evaluation.running.run_cache import RunCache

LABELLED = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(-4, 4)), min_size=2, max_size=60)


@given(LABELLED)
def test_auc_and_log_loss_are_those_of_scikit_learn(rows):
    metrics = pytest.importorskip("sklearn.metrics")
    users, good, scores = (np.array(column) for column in zip(*rows, strict=True))
    labels, scores = good.astype(np.float32), scores / 2
    if good.all() or not good.any():
        with pytest.raises(EvaluationError, match="all labels are equal"):
            auc(labels, scores)
        return
    assert auc(labels, scores) == pytest.approx(metrics.roc_auc_score(good, scores), abs=1e-12)
    chances = 1 / (1 + np.exp(-scores))
    assert logloss(labels, scores) == pytest.approx(metrics.log_loss(good, chances), abs=1e-9)
    areas, weights = [], []
    for user in np.unique(users):
        own = users == user
        if 0 < good[own].sum() < own.sum():
            areas.append(metrics.roc_auc_score(good[own], scores[own]))
            weights.append(own.sum())
    if areas:
        assert gauc(users, labels, scores) == pytest.approx(np.average(areas, weights=weights), abs=1e-12)
    else:
        with pytest.raises(EvaluationError, match="all labels are equal"):
            gauc(users, labels, scores)


def test_log_loss_of_a_sure_mistake_is_finite():
    assert logloss(np.array([1.0, 0.0]), np.array([-800.0, 800.0])) == 800


def test_a_ranking_is_not_asked_for_metrics_of_labels():
    factors = Factors(np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32))
    with pytest.raises(ConfigError, match="'auc' is a metric of labelled pairs"):
        evaluate(factors, LabelledPairs(*np.zeros((3, 1), np.int32)), metrics=["auc"])


@dataclass(frozen=True, eq=False)
class Part:
    users: np.ndarray
    items: np.ndarray
    labels: np.ndarray | None
    user_ids: list[str]
    item_ids: list[str]
    ratings: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Split:
    train: Part
    validation: Part
    test: Part
    cold_items: np.ndarray
    cold_users: np.ndarray


N_USERS, N_ITEMS = 40, 30


def make_split(seed=0, *, labels=True, cold=4):
    """Make a split with users and items of different positive rates. The rate of cold items depends on their kind."""
    rng = np.random.default_rng(seed)
    shown = rng.random((N_USERS, N_ITEMS)) < 0.6
    kind = np.arange(N_ITEMS) % 2
    logit = rng.normal(0, 1, (N_USERS, 1)) + rng.normal(0, 0.5, N_ITEMS) + 2.0 * kind - 1
    liked = rng.random((N_USERS, N_ITEMS)) < 1 / (1 + np.exp(-logit))
    cold_items = np.arange(cold, dtype=np.int32)
    users, items = np.nonzero(shown)
    where = rng.choice(3, len(users), p=[0.7, 0.1, 0.2])
    where[items < cold] = 2
    ids = [f"u{n}" for n in range(N_USERS)], [f"i{n}" for n in range(N_ITEMS)]
    parts = []
    for part in range(3):
        keep = where == part
        own_labels = liked[users[keep], items[keep]].astype(np.float32) if labels else None
        parts.append(Part(users[keep].astype(np.int32), items[keep].astype(np.int32), own_labels, *ids))
    return Split(*parts, cold_items, np.empty(0, np.int32)), kind


@pytest.fixture
def click_backbone(toys):
    class Rates(toys["SVD"]):
        """Score by the positive rates of users, items and kinds of items, with a little noise, so that seeds differ."""

        takes = frozenset({"features", "labels"})

        def fit(self, data, fuser, *, seed, monitor):
            rng = np.random.default_rng(seed)
            made = rates(data, data.labels, data.n_users, data.n_items, prior_strength=3.0 * self.options.rank)
            items = made.items.copy()
            if data.item_features is not None:
                kind = data.item_features.dense()[:, 0] > 0
                cold = np.bincount(data.items, minlength=data.n_items) == 0
                for one in (False, True):
                    items[cold & (kind == one), 1] = items[~cold & (kind == one), 1].mean()
            items[:, 1] += 0.02 * rng.standard_normal(len(items)).astype(np.float32)
            factors = Factors(made.users, items)
            metric = monitor.validate(factors)
            monitor.epoch_finished(1, 1, 0.5, metric)
            history = [{"epoch": 1, "loss": 0.5, "seconds": 0.1} | ({} if metric is None else {"metric": metric})]
            return Fitted(factors=factors, epochs=1, best_epoch=1, history=history)

    return Rates


ARMS = [Arm("none", "none", semantic=False), Arm("stiff", "none", semantic=False, backbone_options={"rank": 40})]


def run(backbone, toys, split, *, metrics, arms=ARMS, seeds=(0, 1, 2), **more):
    return toys["run_split"](
        split,
        lambda _: (None, np.zeros((N_ITEMS, 2), np.float32)),
        lambda arm: backbone(backbone.options_class(**arm.backbone_options)),
        lambda _: toys["Nothing"](),
        arms=arms,
        seeds=seeds,
        metrics=metrics,
        **more,
    )


def test_an_ablation_by_log_loss_takes_the_lower_for_the_better(click_backbone, toys):
    split, kind = make_split()
    sides = Sides(items=SideFeatures.of(np.eye(2, dtype=np.float32)[kind]))
    epochs = []
    result = run(
        click_backbone, toys, split, metrics=["logloss", "auc", "gauc", "ndcg@5"], sides=sides,
        on_epoch=lambda *epoch: epochs.append(epoch),
    )  # fmt: skip
    overall = result.overall
    assert overall.mean("stiff", "logloss") > overall.mean("none", "logloss") > 0
    against = overall.compare("stiff", "none", "logloss")
    assert against.paired.delta > 0 > against.gain
    assert against.worse
    assert not against.better
    assert against.users_interval is None
    assert overall.compare("stiff", "none", "ndcg@5").users_interval is not None
    # Callbacks get the log loss itself, not the negated value that a monitor maximises.
    assert all(metric > 0 for _, _, _, metric in epochs)
    assert all(each.validation > 0 and each.history[0]["metric"] == each.validation for each in result.runs)
    assert overall.reference["rates"]["logloss"] > 0
    assert set(overall.reference["popularity"]) == {"auc", "gauc", "ndcg@5"}
    as_json = result.to_json()
    json.dumps(as_json, allow_nan=False)
    assert as_json["facts"]["train_good"] == split.train.labels.sum()
    page = render_report(result)
    assert "log loss" in page
    assert "none,logloss,0," in render_csv(result)
    # Sizes and values agree with the labelled pairs of the split.
    views = Views(split)
    assert overall.interactions == int(views.labelled_test.labels.sum())
    assert "cold" in result.findings
    assert result.findings["cold"].mean("none", "auc") > 0.6
    # The mixed panel has all warm labelled pairs and a sample of the cold ones.
    mixed, warm, cold = views.labelled_mixed, views.labelled_test, views.labelled_cold
    known = {(u, i): label for part in (warm, cold) for u, i, label in zip(*part_of(part), strict=True)}
    found = {(u, i): label for u, i, label in zip(*part_of(mixed), strict=True)}
    assert found.items() <= known.items()
    assert len(warm.users) < len(found) < len(known)
    assert 0 < result.findings["everything"].mean("none", "auc") < 1
    assert 0 < result.findings["everything"].mean("none", "ndcg@5") < 1


def part_of(pairs):
    return pairs.users.tolist(), pairs.items.tolist(), pairs.labels.tolist()


def test_strata_with_one_kind_of_labels_are_left_out(click_backbone, toys):
    split, _ = make_split()
    cold = np.isin(split.test.items, split.cold_items)
    split = replace(split, test=replace(split.test, labels=np.where(cold, 1, split.test.labels).astype(np.float32)))
    assert "cold" not in run(click_backbone, toys, split, metrics=["auc"], seeds=(0,)).findings
    assert "cold" in run(click_backbone, toys, split, metrics=["recall@5"], seeds=(0,)).findings


def test_a_ranker_learns_from_good_interactions_and_finds_them(toys):
    split, _ = make_split()
    data = training_data(split)
    assert data.labels is None
    assert len(data.users) == split.train.labels.sum()
    result = run(toys["SVD"], toys, split, metrics=["recall@5", "auc"], arms=ARMS[:1])
    assert 0.3 < result.overall.mean("none", "auc") < 1
    views = Views(split)
    good = split.test.labels > 0
    assert set(zip(views.warm_test.users, views.warm_test.items, strict=True)) <= set(
        zip(split.test.users[good], split.test.items[good], strict=True)
    )
    # Negative interactions are excluded from rankings too.
    assert len(views.seen_testing.indices) == len(split.train.users) + len(split.validation.users)


def test_runs_are_remembered_with_features_and_labels(click_backbone, toys, tmp_path):
    split, kind = make_split()
    cache = RunCache(tmp_path)
    trained = []
    sides = Sides(items=SideFeatures.of(np.eye(2, dtype=np.float32)[kind]))
    more = {"cache": cache, "on_epoch": lambda name, *_: trained.append(name), "seeds": (0,), "arms": ARMS[:1]}
    first = run(click_backbone, toys, split, metrics=["auc"], sides=sides, **more)
    second = run(click_backbone, toys, split, metrics=["auc"], sides=sides, **more)
    assert len(trained) == 1
    assert first.overall.per_seed == second.overall.per_seed
    assert first.runs[0].history == second.runs[0].history
    other = Sides(items=SideFeatures.of(np.eye(2, dtype=np.float32)[1 - kind]))
    run(click_backbone, toys, split, metrics=["auc"], sides=other, **more)
    run(click_backbone, toys, split, metrics=["auc"], **more)
    assert len(trained) == 3
    flipped = replace(split, test=replace(split.test, labels=1 - split.test.labels))
    run(click_backbone, toys, flipped, metrics=["auc"], sides=sides, **more)
    assert len(trained) == 4


def test_a_search_by_log_loss_goes_downwards(click_backbone, toys):
    pytest.importorskip("optuna")
    from enhancer.config.evaluation import DimensionConfig, SearchConfig

    split, _ = make_split()
    space = SearchConfig(trials=5, backbone={"rank": DimensionConfig(choices=[1, 100])}, fuser={"none": {}})
    arm = Arm("none", "none", semantic=False, backbone_options={"rank": 100})
    result = run(click_backbone, toys, split, metrics=["logloss"], arms=[arm], seeds=(0,), search=space)
    found = result.searched["none"]
    assert found.best.value == min(trial.value for trial in found.trials)
    assert found.arm.backbone_options["rank"] == 1


def test_fit_measures_both_kinds(click_backbone, toys):
    split, _ = make_split()
    backbone = click_backbone()
    data = training_data(split, labelled=True)
    fitted, found = fit(backbone, toys["Nothing"](), data, split, metrics=["auc", "ndcg@5", "logloss"])
    assert set(found) == {"auc", "ndcg@5", "logloss"}
    assert found["auc"] == evaluate_labelled(fitted.factors, Views(split).labelled_test, ["auc"])["auc"]


@pytest.mark.parametrize(
    ("metrics", "change", "error", "says"),
    [
        (["auc"], {"labels": False}, ConfigError, r"'auc' needs labels.*\[data.columns\] label"),
        (["recall@5", "logloss"], {}, ConfigError, "'logloss' needs probabilities"),
        (["auc"], {"test": 1}, EvaluationError, "all labels of the test part are equal"),
        (["auc"], {"validation": 0}, EvaluationError, "all labels of the validation part are equal"),
        (["gauc"], {"by_user": True}, EvaluationError, "no user with interactions of both labels"),
        (["recall@5"], {"train": 0}, EvaluationError, "no training interaction is positive"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(toys, metrics, change, error, says):
    split, _ = make_split(labels=change.get("labels", True))
    for name in ("train", "validation", "test"):
        part = getattr(split, name)
        if name in change:
            split = replace(split, **{name: replace(part, labels=np.full(len(part.users), change[name], np.float32))})
        if "by_user" in change:
            split = replace(split, **{name: replace(part, labels=(part.users % 2).astype(np.float32))})
    with pytest.raises(error, match=says):
        run(toys["SVD"], toys, split, metrics=metrics, arms=ARMS[:1])


def test_labels_all_alike_are_nothing_to_learn(click_backbone, toys):
    split, _ = make_split()
    split = replace(split, train=replace(split.train, labels=np.ones_like(split.train.labels)))
    with pytest.raises(EvaluationError, match="all training interactions are positive"):
        run(click_backbone, toys, split, metrics=["recall@5"])


def test_features_for_a_backbone_without_are_refused_before_training(toys):
    split, kind = make_split()
    sides = Sides(items=SideFeatures.of(np.eye(2, dtype=np.float32)[kind], ["kind=a", "kind=b"]))
    with pytest.raises(ConfigError, match=r"cannot use side features, but \[data.features\] names kind"):
        run(toys["SVD"], toys, split, metrics=["recall@5"], sides=sides)
