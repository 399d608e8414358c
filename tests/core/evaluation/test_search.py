from __future__ import annotations

import json

import numpy as np
import pytest

from enhancer.config import Settings
from enhancer.config.evaluation import DimensionConfig, SearchConfig
from enhancer.contracts import Options
from enhancer.errors import ConfigError, EvaluationError
from enhancer.evaluation import Arm, Experiment, Views, run_ablation
from enhancer.evaluation.running.fitting import TrainingMonitor
from enhancer.evaluation.running.prepared_run import PreparedRun
from enhancer.evaluation.running.run_cache import RunCache
from enhancer.evaluation.running.search import search, space_of

pytest.importorskip("optuna")


class WeightOptions(Options):
    weight: float = 0.01
    """Far too small, so that the search can improve it."""
    label: str = "x"


@pytest.fixture(scope="module")
def parts(world, toys):
    split, vectors = world

    class Weighted(toys["Beside"]):
        options_class = WeightOptions

        def __init__(self, options=None, context=None):
            self.options = options or WeightOptions()
            self.weight = self.options.weight
            if self.weight > 50:
                self.weight = np.nan

    class SVD(toys["SVD"]):
        def fit(self, data, fuser, *, seed, monitor):
            if np.isnan(getattr(fuser, "weight", 0.0)):
                raise EvaluationError("diverged")
            return super().fit(data, fuser, seed=seed, monitor=monitor)

    def make_fuser(arm):
        if arm.fuser == "none":
            return toys["Nothing"]()
        return Weighted(WeightOptions(**arm.fuser_options))

    def make_backbone(arm):
        made = SVD()
        made.options = type(made.options)(**arm.backbone_options)
        return made

    return {
        "split": split,
        "features": lambda _: (None, vectors),
        "make_backbone": make_backbone,
        "make_fuser": make_fuser,
        "pool": toys["pooling"](split),
    }


ARMS = [Arm("none", "none", semantic=False), Arm("beside", "beside"), Arm("placebo", "beside", shuffle=True)]
SPACE = SearchConfig(
    trials=9,
    backbone={"rank": DimensionConfig(low=2, high=6)},
    fuser={"beside": {"weight": DimensionConfig(low=0.01, high=10.0, log=True)}},
)


def experiment(parts, **changed):
    return Experiment.over(**{"metrics": ["ndcg@10"], **parts, **changed})


def trainer(world, seen=None, cache=None):
    def run_trials(requests):
        if seen is not None:
            seen.extend(requests)
        return [
            PreparedRun.of(world, each, cache).train(TrainingMonitor(world.views, "ndcg@10", run=each.name))
            for each in requests
        ]

    return run_trials


def test_every_arm_gets_the_same_budget_and_the_best_on_validation_is_taken(parts):
    world, jobs = experiment(parts), []
    found = search(world, ARMS, SPACE, seed=9, run_trials=trainer(world, jobs))
    assert [each.arm.name for each in found] == ["none", "beside", "placebo"]
    assert [len(each.trials) for each in found] == [9, 9, 9]
    assert {job.seed for job in jobs} == {9}
    assert len({job.name for job in jobs}) == 27
    for each, arm in zip(found, ARMS, strict=True):
        assert each.trials[0].options == {"backbone": {}, "fuser": {}}  # as configured
        assert each.best.value == max(trial.value for trial in each.trials)
        assert each.arm.fuser_options == each.best.options["fuser"]
        assert each.arm.backbone_options == each.best.options["backbone"]
        assert (each.arm.name, each.arm.shuffle, each.arm.inputs) == (arm.name, arm.shuffle, arm.inputs)
    assert all(2 <= trial.options["backbone"]["rank"] <= 6 for trial in found[0].trials[1:])
    real = found[1]
    assert real.best.value > real.trials[0].value
    assert real.arm.fuser_options["weight"] > 0.1
    again = search(world, ARMS, SPACE, seed=9, run_trials=trainer(world))
    assert [each.arm for each in again] == [each.arm for each in found]
    alone = search(world, ARMS[1:2], SPACE, seed=9, run_trials=trainer(world))  # other arms do not change the result
    assert alone[0].arm == real.arm


class Sealed:
    def __getattr__(self, name):
        raise AssertionError(f"the test part was asked for {name}")


def test_the_test_part_is_not_looked_at(parts, toys, tmp_path):
    from dataclasses import replace

    split = parts["split"]
    sealed = toys["Split"](split.train, split.validation, Sealed(), split.cold_items, split.cold_users)
    world = replace(experiment(parts), views=Views(sealed), panels=[])
    cache = RunCache(tmp_path)
    found = search(world, ARMS, SPACE, seed=9, run_trials=trainer(world, cache=cache))
    open_ = experiment(parts)
    assert [each.arm for each in found] == [
        each.arm for each in search(open_, ARMS, SPACE, seed=9, run_trials=trainer(open_))
    ]
    assert 10 < len(list(tmp_path.glob("*.npz"))) <= 27


def test_an_ablation_compares_what_was_found_and_remembers_trials(parts, tmp_path):
    epochs, progress = [], []

    def ablate():
        return run_ablation(
            experiment(parts, metrics=["ndcg@10", "recall@20"]),
            ARMS,
            [0, 1],
            search=SPACE,
            cache=RunCache(tmp_path),
            on_epoch=lambda *epoch: epochs.append(epoch),
            listener=progress.append,
        )

    result = ablate()
    counts = [(event.done, event.total) for event in progress if event.stage == "search"]
    assert counts == sorted(counts), "progress restarted in each round"
    assert {total for _, total in counts} == {27}
    assert counts[-1] == (27, 27)
    trained = len(epochs)
    assert 3 * 20 < trained <= 3 * (27 + 6)  # options drawn twice are trained once
    assert {arm.name: dict(arm.fuser_options) for arm in result.arms} == {
        name: dict(each.arm.fuser_options) for name, each in result.searched.items()
    }
    said = json.loads(json.dumps(result.to_json(), allow_nan=False))["search"]
    assert set(said) == {"none", "beside", "placebo"}
    assert len(said["beside"]["trials"]) == 9
    assert said["beside"]["validation"] >= said["beside"]["configured"]
    again = ablate().to_json()["search"]
    assert {name: (each["best"], each["validation"]) for name, each in again.items()} == {
        name: (each["best"], each["validation"]) for name, each in said.items()
    }
    assert len(epochs) == trained  # nothing was trained again


def test_a_trial_that_diverges_is_a_bad_trial_and_no_more(parts):
    world = experiment(parts)
    wild = SearchConfig(trials=6, fuser={"beside": {"weight": DimensionConfig(choices=[100.0, 1.0])}}, backbone={})
    found = search(world, ARMS[1:2], wild, seed=1, run_trials=trainer(world))[0]
    assert {trial.value is None for trial in found.trials} == {True, False}
    assert found.arm.fuser_options == {"weight": 1.0}


def test_well_known_options_are_searched_around_their_values(parts):
    world = experiment(parts)
    space = space_of(world, Arm("mine", "beside", {"weight": 0.5}), SearchConfig())
    assert space["fuser"] == {"weight": DimensionConfig(low=0.05, high=5.0, log=True)}
    assert space["backbone"] == {}
    own = SearchConfig(
        fuser={
            "mine": {"weight": DimensionConfig(low=1.0, high=2.0)},
            "beside": {"weight": DimensionConfig(low=3.0, high=4.0)},
        }
    )
    assert space_of(world, Arm("mine", "beside"), own)["fuser"]["weight"].low == 1.0
    assert space_of(world, Arm("other", "beside"), own)["fuser"]["weight"].low == 3.0


def test_what_cannot_be_searched_is_said(parts, toys):
    world = experiment(parts)
    run_trials = trainer(world)
    unknown = SearchConfig(fuser={"beside": {"wieght": DimensionConfig(low=1.0, high=2.0)}})
    with pytest.raises(ConfigError, match="arm 'beside' has no fuser option 'wieght'"):
        search(world, ARMS, unknown, seed=1, run_trials=run_trials)
    with pytest.raises(ConfigError, match="'nobody' is neither an arm"):
        search(world, ARMS, SearchConfig(fuser={"nobody": {}}), seed=1, run_trials=run_trials)
    split, none = parts["split"], np.empty(0, np.int32)
    empty = toys["Part"](none, none, split.train.user_ids, split.train.item_ids)
    bare = experiment(parts, split=toys["Split"](split.train, empty, split.test, split.cold_items, split.cold_users))
    with pytest.raises(EvaluationError, match="searched on the validation part"):
        search(bare, ARMS, SPACE, seed=1, run_trials=run_trials)


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"low": 1}, "low and high"),
        ({"low": 2, "high": 1}, "low below high"),
        ({"low": 0.0, "high": 1.0, "log": True}, "above 0"),
        ({"choices": [1], "low": 0, "high": 1}, "not both"),
        ({"choices": []}, "at least 1"),
    ],
)
def test_a_space_that_is_none(space, says):
    with pytest.raises(ValueError, match=says):
        Settings.model_validate({"evaluation": {"search": {"backbone": {"dim": space}}}})
