"""Default search spaces of the bundled backbones and fusers, and options that only some losses use."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import ClassVar

import pytest

from enhancer.config.evaluation import DimensionConfig, SearchConfig
from enhancer.contracts import Options
from enhancer.errors import ConfigError
from enhancer.evaluation import Arm, Experiment
from enhancer.evaluation.running.fitting import TrainingMonitor
from enhancer.evaluation.running.prepared_run import PreparedRun
from enhancer.evaluation.running.search import search, space_of

pytest.importorskip("torch")

BACKBONES = {"lightgcn": "LightGCN", "fm": "FM"}
FUSERS = {
    "none": "NoFusion",
    "prior": "Prior",
    "concat": "Concat",
    "adapter": "Adapter",
    "align": "Align",
    "generate": "Generate",
    "semantic": "Semantic",
}


@pytest.fixture
def experiment(world, toys):
    from enhancer.contracts import Context
    from enhancer.contracts.options import build_options

    split, vectors = world

    def made(backbone="lightgcn", **base):
        def make(folder, name, classes, options):
            plugin = getattr(import_module(f"enhancer_plugins.{folder}.{name}"), classes[name])
            return plugin(build_options(plugin.options_class, options, where=f"[{name}]"), Context())

        return Experiment.over(
            split,
            lambda _: (None, vectors),
            lambda arm: make("backbones", backbone, BACKBONES, {**base, **arm.backbone_options}),
            lambda arm: make("fusers", arm.fuser, FUSERS, arm.fuser_options),
            metrics=["ndcg@10"],
            pool=toys["pooling"](split),
        )

    return made


def ranges(dimensions):
    assert all(dimension.log for dimension in dimensions.values())
    return {name: pytest.approx((dimension.low, dimension.high)) for name, dimension in dimensions.items()}


def searched(experiment, fuser="none", **options):
    space = space_of(experiment, Arm("mine", fuser, options), SearchConfig())
    return {part: ranges(dimensions) for part, dimensions in space.items()}


STEP = {"learning_rate": (0.00125, 0.02)}


@pytest.mark.parametrize(
    ("backbone", "options", "expected"),
    [
        ("lightgcn", {}, {**STEP, "regularisation": (1e-4, 1e-2)}),
        ("lightgcn", {"loss": "softmax"}, {**STEP, "regularisation": (1e-4, 1e-2), "temperature": (1 / 3, 3)}),
        (
            "lightgcn",
            {"loss": "softmax", "similarity": "cosine"},
            {**STEP, "regularisation": (1e-4, 1e-2), "temperature": (0.2 / 3, 0.6)},
        ),
        (
            "lightgcn",
            {"loss": "softmax", "temperature": 0.3},
            {**STEP, "regularisation": (1e-4, 1e-2), "temperature": (0.1, 0.9)},
        ),
        (
            "lightgcn",
            {"loss": "multinomial"},
            {"learning_rate": (0.03, 0.48), "regularisation": (0.12, 12.0), "temperature": (1 / 3, 3)},
        ),
        ("fm", {}, {**STEP, "regularisation": (1e-3, 1e-1)}),
        ("fm", {"loss": "softmax"}, {**STEP, "regularisation": (1e-3, 1e-1), "temperature": (1 / 3, 3)}),
        ("fm", {"loss": "log"}, {**STEP, "regularisation": (3e-3, 0.3)}),
    ],
)
def test_of_each_backbone_by_each_loss(experiment, backbone, options, expected):
    assert searched(experiment(backbone, **options)) == {"backbone": expected, "fuser": {}}


SLOW, MIDDLING = {"learning_rate": (2.5e-4, 4e-3)}, {"learning_rate": (7.5e-4, 1.2e-2)}


@pytest.mark.parametrize(
    ("fuser", "options", "expected"),
    [
        ("none", {}, {}),
        ("prior", {}, {"items": (0.3, 30.0), "strength": (1 / 3, 3.0)}),
        ("prior", {"items": 0}, {}),
        ("concat", {}, {"scale": (2 / 3, 6.0)}),
        ("adapter", {}, SLOW),
        ("align", {}, {**MIDDLING, "weight": (1e-3, 0.1), "temperature": (0.2 / 3, 0.6)}),
        ("generate", {}, {**MIDDLING, "weight": (1e-3, 0.1), "temperature": (0.2 / 3, 0.6)}),
        ("semantic", {}, {**SLOW, "temperature": (0.05, 0.45)}),
    ],
)
def test_of_each_fuser(experiment, fuser, options, expected):
    assert searched(experiment(), fuser, **options)["fuser"] == expected


def test_no_temperature_of_a_loss_that_the_fuser_takes_the_place_of(experiment):
    assert set(searched(experiment(loss="softmax"), "semantic")["backbone"]) == {"learning_rate", "regularisation"}
    assert "temperature" in searched(experiment(loss="softmax"), "align")["backbone"]


TEMPERATURE = {"temperature": DimensionConfig(low=0.1, high=1.0)}
BPR, SOFTMAX = (
    Arm("bpr", "none", semantic=False),
    Arm("softmax", "none", semantic=False, backbone_options={"loss": "softmax"}),
)


def test_what_is_named_for_every_arm_is_left_out_for_one_that_has_no_use_for_it(experiment):
    config = SearchConfig(backbone=TEMPERATURE)
    assert space_of(experiment(), BPR, config)["backbone"] == {}
    assert space_of(experiment(), SOFTMAX, config)["backbone"] == TEMPERATURE
    batch = {"in_batch": DimensionConfig(choices=[False, True])}
    assert space_of(experiment(), BPR, SearchConfig(backbone=batch))["backbone"] == {}
    assert space_of(experiment(), SOFTMAX, SearchConfig(backbone=batch))["backbone"] == batch
    both = TEMPERATURE | batch | {"loss": DimensionConfig(choices=["bpr", "softmax"])}
    assert space_of(experiment(), BPR, SearchConfig(backbone=both))["backbone"] == both


def trainer(world):
    def run_trials(requests):
        return [
            PreparedRun.of(world, each).train(TrainingMonitor(world.views, "ndcg@10", run=each.name))
            for each in requests
        ]

    return run_trials


def test_what_no_arm_has_a_use_for_is_refused(experiment):
    pytest.importorskip("optuna")
    world = experiment()
    with pytest.raises(ConfigError, match=r"^\[evaluation.search.backbone\] temperature has no effect"):
        search(world, [BPR], SearchConfig(backbone=TEMPERATURE), seed=1, run_trials=trainer(world))


@pytest.mark.parametrize("own", [{}, {"negatives": 16}])
def test_a_search_over_losses_gives_each_its_own_options(experiment, own):
    pytest.importorskip("optuna")
    world = experiment(dim=8, epochs=1, device="cpu")
    arm = Arm("mine", "none", semantic=False, backbone_options={"loss": "softmax", **own})
    space = TEMPERATURE | {"loss": DimensionConfig(choices=["bpr", "softmax"])}
    found = search(world, [arm], SearchConfig(trials=8, backbone=space), seed=1, run_trials=trainer(world))[0]
    tried = [trial.options["backbone"] for trial in found.trials[1:]]
    assert {options["loss"]: set(options) for options in tried} == {
        "bpr": {"loss"},
        "softmax": {"loss", "temperature"},
    }
    assert all(trial.value is not None for trial in found.trials)


@pytest.mark.parametrize(
    ("arm", "space"),
    [
        (Arm("mine", "generate"), {"layers": DimensionConfig(choices=[0, 1, 2])}),
        (Arm("mine", "semantic"), {"loss": DimensionConfig(choices=["bpr", "multinomial"])}),
        (
            Arm("mine", "concat", backbone_options={"loss": "softmax"}),
            {"similarity": DimensionConfig(choices=["dot", "cosine"])},
        ),
        (Arm("mine", "none"), {"dim": DimensionConfig(choices=[-4, 0, 8])}),
    ],
    ids=["no propagation", "a ranking loss", "a widened input", "a value that is refused"],
)
def test_what_cannot_be_trained_is_no_trial(experiment, arm, space):
    pytest.importorskip("optuna")
    world = experiment(dim=8, epochs=1, device="cpu")
    found = search(world, [arm], SearchConfig(trials=8, backbone=space), seed=1, run_trials=trainer(world))[0]
    assert len(found.trials) == 8
    assert all(trial.value is not None for trial in found.trials)


def test_a_space_that_holds_nothing_to_train_is_said(experiment):
    pytest.importorskip("optuna")
    world = experiment(dim=8, epochs=1, device="cpu")
    nothing = SearchConfig(trials=3, backbone={"layers": DimensionConfig(choices=[0])})
    with pytest.raises(ConfigError, match=r"can be trained: fuser 'generate' needs .*propagation") as said:
        search(world, [Arm("mine", "generate")], nothing, seed=1, run_trials=trainer(world))
    assert "remove options" in said.value.hint


def test_whole_numbers_are_searched_as_such(experiment):
    class Counts(Options):
        searched: ClassVar = {"experts": 4.0, "on": 2.0}
        experts: int = 6
        on: bool = True
        weight: float = 0.5

    world = experiment()
    made = world.make_fuser

    def make_fuser(arm):
        fuser = made(arm)
        fuser.options = Counts()
        return fuser

    space = space_of(replace(world, make_fuser=make_fuser), Arm("mine", "none"), SearchConfig())["fuser"]
    assert ranges(space) == {"weight": (0.05, 5.0), "experts": (2, 24)}
    assert isinstance(space["experts"].low, int)
