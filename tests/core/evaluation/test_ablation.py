from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from enhancer.contracts import Factors, View
from enhancer.errors import ConfigError, DataError, EvaluationError, FusionError
from enhancer.evaluation import Arm, Experiment, RunCache, Views, evaluate, fit, training_data


def test_the_json_has_the_keys_of_the_contract_and_no_nan(ablation):
    result = json.loads(json.dumps(ablation.to_json(), allow_nan=False))
    assert set(result["arms"]) == {"none", "beside", "text", "placebo"}
    for arm in result["arms"].values():
        for metric in ("ndcg@10", "recall@20"):
            assert set(arm[metric]) == {"mean", "std", "per_seed"}
            assert arm[metric]["mean"] == pytest.approx(np.mean(arm[metric]["per_seed"]))
            assert len(arm[metric]["per_seed"]) == 3
    wanted = {"arm", "baseline", "metric", "delta", "t", "df", "p", "p_adjusted", "significant"}
    assert all(wanted <= set(comparison) for comparison in result["comparisons"])
    against = {(c["arm"], c["baseline"]) for c in result["comparisons"]}
    assert against == {
        ("beside", "none"),
        ("text", "none"),
        ("placebo", "none"),
        ("beside", "placebo"),
        ("text", "placebo"),
        ("beside", "text"),
    }
    assert set(result["strata"]) >= {"head", "middle", "tail", "cold", "cold_among_all"}
    content = {f"{kind} ({inputs})" for kind in ("mean vector", "ridge") for inputs in ("profile", "text")}
    assert set(result["strata"]["cold"]["arms"]) == set(result["arms"]) | content
    assert set(result["reference"]) - {"als"} == {"popularity", "ease"}
    assert set(result["verdict"]) == {"all", "tail", "cold"}
    looks = result["beyond_accuracy"]["beside"]
    assert set(looks) == {"coverage@20", "gini@20", "novelty@20"}  # the largest cut-off of the metrics
    coverage = [run.beyond_accuracy["coverage"] for run in ablation.runs if run.arm == "beside"]
    assert looks["coverage@20"]["per_seed"] == coverage
    assert looks["coverage@20"]["std"] == pytest.approx(np.std(coverage, ddof=1))


def test_meaning_is_found_on_cold_items_and_told_from_its_placebo(ablation):
    cold = ablation.findings["cold"]
    assert cold.mean("beside", "ndcg@10") > 1.2 * cold.mean("placebo", "ndcg@10")
    assert cold.compare("beside", "placebo", "ndcg@10").better
    assert "semantic gain" in ablation.verdict["cold"]
    assert "no semantic gain" not in ablation.verdict["cold"]


def test_runs_do_not_depend_on_their_company(ablate, ablation, toys):
    alone = ablate(arms=[toys["arms"][3]], seeds=(2,))
    assert alone.overall.per_seed["placebo"]["ndcg@10"] == [ablation.overall.per_seed["placebo"]["ndcg@10"][2]]
    again = ablate(arms=toys["arms"][::-1], seeds=(2, 1, 0), baseline="none")
    for arm in toys["arms"]:
        assert again.overall.per_seed[arm.name]["recall@20"][::-1] == ablation.overall.per_seed[arm.name]["recall@20"]


def test_backbone_and_fuser_of_a_run_are_made_once(world, toys, tmp_path):
    split, vectors = world
    made = []

    def make_backbone(arm):
        made.append(f"backbone of {arm.name}")
        return toys["SVD"]()

    def make_fuser(arm):
        made.append(f"fuser of {arm.name}")
        return toys["make_fuser"](arm)

    def pool(items):
        made.append("user vectors")
        return toys["pooling"](split)(items)

    toys["run_split"](
        split,
        lambda _: (None, vectors),
        make_backbone,
        make_fuser,
        arms=toys["arms"][:2],
        seeds=[0, 1],
        metrics=["ndcg@10"],
        pool=pool,
        cache=RunCache(tmp_path),
    )
    # Each arm is checked once before training; then each of its two runs makes what it needs once.
    assert {name: made.count(name) for name in made} == {
        "backbone of none": 3,
        "fuser of none": 3,
        "backbone of beside": 3,
        "fuser of beside": 3,
        "user vectors": 2,
    }


def test_without_cold_items_there_is_no_cold_panel(ablate):
    result = ablate(cold=False, seeds=(0,)).to_json()
    assert not [name for name in result["strata"] if name.startswith("cold")]
    assert set(result["verdict"]) == {"all", "tail"}
    assert "One seed cannot separate" in result["verdict"]["all"]
    json.dumps(result, allow_nan=False)


def test_everybody_who_listens_is_told(ablate, toys):
    events, epochs = [], []
    ablate(arms=toys["arms"][:2], seeds=(0, 1), listener=events.append, on_epoch=lambda *epoch: epochs.append(epoch))
    assert [(e.stage, e.total) for e in events] == [("ablate", 4)] * len(events)
    done = [e.done for e in events]
    assert done == sorted(done)
    assert done[-1] == 4
    assert [run for run, *_ in epochs][::3] == ["none/seed0", "beside/seed0", "none/seed1", "beside/seed1"]
    assert epochs[0][1] == 1
    assert isinstance(epochs[0][3], float)


def test_a_pair_that_cannot_work_is_refused_before_training(ablate):
    epochs = []
    with pytest.raises(FusionError, match="'deep' needs a further loss"):
        ablate(
            arms=[Arm("none", "none", semantic=False), Arm("deep", "deep")],
            on_epoch=lambda *epoch: epochs.append(epoch),
        )
    assert not epochs


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ({"baseline": "nine"}, ConfigError, "did you mean 'none'"),
        ({"metrics": ["ncdg@10"]}, ConfigError, "did you mean 'ndcg@10'"),
        ({"seeds": (1, 1)}, EvaluationError, "distinct"),
        ({"seeds": ()}, EvaluationError, "at least one"),
    ],
)
def test_what_cannot_be_judged(ablate, wrong, error, says):
    with pytest.raises(error, match=says):
        ablate(**wrong)


def ablated(split, vectors, toys):
    return toys["run_split"](
        split,
        lambda _: (None, vectors),
        lambda _: toys["SVD"](),
        toys["make_fuser"],
        arms=toys["arms"][:1],
        seeds=[0],
        metrics=["ndcg@10"],
    )


def test_a_test_set_that_nobody_could_predict(world, toys):
    split, vectors = world
    stranger = toys["Part"](np.array([0], np.int32), split.cold_items[:1], split.train.user_ids, split.train.item_ids)
    empty = toys["Part"](np.empty(0, np.int32), np.empty(0, np.int32), split.train.user_ids, split.train.item_ids)
    odd = toys["Split"](split.train, empty, stranger, np.empty(0, np.int32), np.empty(0, np.int32))
    with pytest.raises(EvaluationError, match="no test interaction"):
        ablated(odd, vectors, toys)


def test_a_test_set_of_new_items_alone_says_what_it_lacks(world, toys):
    split, vectors = world
    new = np.isin(split.test.items, split.cold_items)
    ids = split.train.user_ids, split.train.item_ids
    test = toys["Part"](split.test.users[new], split.test.items[new], *ids)
    odd = toys["Split"](split.train, split.validation, test, split.cold_items, split.cold_users)
    with pytest.raises(EvaluationError, match="no test interaction") as refused:
        ablated(odd, vectors, toys)
    assert "held-out items only" in refused.value.hint


def test_one_training_alone(world, toys):
    split, vectors = world
    data = training_data(split, toys["pooling"](split)(vectors), vectors)
    events = []
    fitted, metrics = fit(
        toys["SVD"](), toys["Beside"](), data, split, metrics=["ndcg@10", "hit@5"], seed=3, listener=events.append
    )
    assert set(metrics) == {"ndcg@10", "hit@5"}
    assert [(e.stage, e.done, e.total, e.detail["run"]) for e in events] == [
        ("train", i, 3, "train") for i in (1, 2, 3)
    ]
    views = Views(split)
    again = evaluate(fitted.factors, views.warm_test, seen=(split.train, split.validation), candidates=views.warm_items)
    assert again.mean("ndcg@10") == metrics["ndcg@10"]
    validated = evaluate(fitted.factors, views.warm_validation, seen=(split.train,), candidates=views.warm_items)
    assert fitted.history[-1]["metric"] == validated.mean("ndcg@10")


def test_factors_to_serve_are_measured_and_their_cost_is_told(world, toys, caplog):
    class Wide(toys["SVD"]):
        def fit(self, data, fuser, *, seed, monitor):
            found = super().fit(data, fuser, seed=seed, monitor=monitor)
            narrow = Factors(found.factors.users[:, -1:].copy(), found.factors.items[:, -1:].copy())
            return dataclasses.replace(found, serving=lambda: narrow)

    split, vectors = world
    data = training_data(split, None, vectors)
    fitted, metrics = fit(Wide(), toys["Nothing"](), data, split, metrics=["ndcg@10"])
    full, _ = fit(toys["SVD"](), toys["Nothing"](), data, split, metrics=["ndcg@10"])
    assert fitted.factors.items.shape == (80, 1)
    views = Views(split)
    seen = (split.train, split.validation)
    again = evaluate(fitted.factors, views.warm_test, seen=seen, candidates=views.warm_items)
    assert again.mean("ndcg@10") == metrics["ndcg@10"]
    entry = fitted.history[-1]
    assert entry["metric"] == full.history[-1]["metric"] > entry["served_metric"]
    assert "is served by 1 columns in place of 6, which keep " in caplog.text


def test_a_training_that_stops_early_ends_whole(world, toys):
    class Impatient(toys["SVD"]):
        def fit(self, data, fuser, *, seed, monitor):
            monitor.epoch_finished(1, 200, 0.5, 0.25)
            monitor.epoch_finished(2, 200, 0.4, 0.24)

            class Deaf:
                validate, epoch_finished = monitor.validate, staticmethod(lambda *_: None)

            return dataclasses.replace(super().fit(data, fuser, seed=seed, monitor=Deaf), epochs=2)

    split, vectors = world
    data = training_data(split, toys["pooling"](split)(vectors), vectors)
    events = []
    fit(Impatient(), toys["Nothing"](), data, split, metrics=["ndcg@10"], listener=events.append)
    assert [(e.done, e.total) for e in events] == [(1, 200), (2, 200), (2, 2)]
    assert (events[-1].detail["epochs"], events[-1].detail["loss"]) == (2, 0.4)


def test_training_data_that_does_not_fit(world):
    split, vectors = world
    with pytest.raises(EvaluationError, match="3 item vectors for 80 items"):
        training_data(split, None, vectors[:3])


def test_a_difference_without_chance_is_weighed_over_users_alone(ablation):
    from dataclasses import replace

    from enhancer.evaluation.judging.controls import controls_by_arm
    from enhancer.evaluation.judging.verdict import verdicts

    cold = ablation.findings["cold"]
    same = replace(cold.compare("beside", "none", "ndcg@10").paired, p=None, t=None)
    comparison = replace(
        cold.compare("beside", "none", "ndcg@10"), paired=same, p_adjusted=None, users_interval=(-0.05, 0.1)
    )
    finding = replace(cold, comparisons=[comparison])
    arms = ablation.arms[:2]
    text = verdicts({"cold": finding}, arms, controls_by_arm(arms), "none", "ndcg@10")["cold"].text
    assert "same for every seed" in text
    assert "95% interval over users is \N{MINUS SIGN}.0500 to .1000" in text


def test_the_spread_of_samples_reaches_training_and_is_shuffled_with_the_vectors(world, toys):
    split, vectors = world
    experiment = Experiment.over(
        split,
        lambda inputs: (None, vectors, (View("profile", 0, vectors.shape[1]),)),
        lambda arm: toys["SVD"](),
        toys["make_fuser"],
        metrics=["ndcg@10"],
        pool=toys["pooling"](split),
        spread=lambda inputs: np.arange(len(vectors), dtype=np.float32)[:, None],
    )
    plain = experiment.data(Arm("a", "beside"), 0, labelled=False)
    mixed = experiment.data(Arm("b", "beside", shuffle=True), 0, labelled=False)
    np.testing.assert_array_equal(plain.item_spread[:, 0], np.arange(len(vectors)))
    np.testing.assert_array_equal(mixed.item_vectors, vectors[mixed.item_spread[:, 0].astype(int)])
    assert experiment.data(Arm("c", "none", semantic=False), 0, labelled=False).item_spread is None
    with pytest.raises(DataError, match="item_spread has shape"):
        dataclasses.replace(plain, item_spread=np.zeros((3, 1), np.float32)).check()


def test_a_model_that_is_the_same_for_every_seed_is_trained_once(world, toys):
    split, vectors = world
    fitted, told = [], []

    class Same(toys["SVD"]):
        def ignores_seed(self, data):
            assert data.item_vectors is None
            return True

        def fit(self, data, fuser, *, seed, monitor):
            fitted.append((type(fuser).__name__, seed))
            return super().fit(data, fuser, seed=0, monitor=monitor)

    class Plain(toys["Nothing"]):
        ignores_seed = True

    def ablated(backbone):
        fitted.clear()
        told.clear()
        return toys["run_split"](
            split,
            lambda inputs: (None, vectors),
            lambda arm: backbone(),
            lambda arm: Plain() if arm.fuser == "none" else toys["make_fuser"](arm),
            arms=[Arm("none", "none", semantic=False), Arm("beside", "beside"), Arm("placebo", "beside", shuffle=True)],
            seeds=(3, 5, 7),
            metrics=["ndcg@10"],
            pool=toys["pooling"](split),
            on_run=lambda arm, run: told.append((arm.name, run.seed)),
        )

    once = ablated(Same)
    assert sorted(fitted) == sorted([("Plain", 3), *[("Beside", seed) for seed in (3, 3, 5, 5, 7, 7)]])
    assert sorted(told) == sorted((arm, seed) for arm in ("none", "beside", "placebo") for seed in (3, 5, 7))
    assert [run.seed for run in once.runs if run.arm == "none"] == [3, 5, 7]
    each = ablated(type("Each", (Same,), {"ignores_seed": lambda self, data: False}))
    assert len(fitted) == 9
    assert once.to_json()["arms"] == each.to_json()["arms"]
    assert once.to_json()["comparisons"] == each.to_json()["comparisons"]
    assert once.to_json()["strata"] == each.to_json()["strata"]
