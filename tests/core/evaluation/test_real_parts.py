"""Ablations of the small world with a real backbone and real fusers."""

from __future__ import annotations

import json

import pytest

from enhancer.config.evaluation import DimensionConfig, SearchConfig
from enhancer.errors import DivergenceError
from enhancer.evaluation import Arm

pytest.importorskip("torch")


def test_lightgcn_with_every_bundled_fuser(world, toys):
    from enhancer.contracts import Context
    from enhancer_plugins.backbones.lightgcn import LightGCN
    from enhancer_plugins.fusers.align import Align
    from enhancer_plugins.fusers.concat import Concat
    from enhancer_plugins.fusers.none import NoFusion

    split, vectors = world
    fusers = {"none": NoFusion, "concat": Concat, "align": Align}
    arms = [
        Arm("none", "none", semantic=False),
        Arm("concat", "concat"),
        Arm("align", "align", {"weight": 0.1}),
        Arm("placebo", "align", {"weight": 0.1}, shuffle=True),
    ]

    def run(arms, seeds):
        return toys["run_split"](
            split,
            lambda _: (None, vectors),
            lambda _: LightGCN(LightGCN.options_class(dim=16, epochs=8, batch_size=512, device="cpu"), Context()),
            lambda arm: fusers[arm.fuser](fusers[arm.fuser].options_class(**arm.fuser_options), Context()),
            arms=arms,
            seeds=seeds,
            metrics=["ndcg@10", "recall@20"],
            pool=toys["pooling"](split),
        )

    result = run(arms, (0,))
    json.dumps(result.to_json(), allow_nan=False)
    overall, cold = result.overall, result.findings["cold"]
    assert overall.mean("none", "recall@20") > overall.reference["popularity"]["recall@20"] * 0.8
    # Cold items can only be ranked by their vectors, and shuffled vectors do not help.
    assert cold.mean("align", "ndcg@10") > cold.mean("placebo", "ndcg@10")
    assert all(run.history and run.seconds > 0 for run in result.runs)
    alone = run(arms[2:3], (0,))
    assert alone.overall.per_seed["align"]["ndcg@10"] == overall.per_seed["align"]["ndcg@10"]


WILD = pytest.mark.parametrize("loss", ["bpr", "softmax", "multinomial"])


@pytest.fixture
def ablate_lightgcn(world, toys):
    from enhancer.contracts import Context
    from enhancer_plugins.backbones.lightgcn import LightGCN
    from enhancer_plugins.fusers.none import NoFusion
    from enhancer_plugins.fusers.prior import Prior

    split, vectors = world
    fusers = {"none": NoFusion, "prior": Prior}
    short = {"dim": 8, "epochs": 4, "eval_every": 1, "device": "cpu"}

    def run(fuser, options, **more):
        return toys["run_split"](
            split,
            lambda _: (None, vectors),
            lambda arm: LightGCN(LightGCN.options_class(**short | arm.backbone_options), Context()),
            lambda arm: fusers[arm.fuser](fusers[arm.fuser].options_class(), Context()),
            arms=[Arm("mine", fuser, backbone_options=options, semantic=fuser != "none")],
            seeds=[3],
            metrics=["ndcg@10"],
            pool=toys["pooling"](split),
            **more,
        )

    return run


@pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value) encountered:RuntimeWarning"
)  # numpy warns before the error is raised
@pytest.mark.parametrize("step", [1e30, 3e38])
@pytest.mark.parametrize(
    ("loss", "fuser"), [("bpr", "none"), ("softmax", "prior"), ("multinomial", "none"), ("multinomial", "prior")]
)
def test_a_diverging_trial_of_a_bundled_backbone_is_a_bad_trial_and_no_more(ablate_lightgcn, loss, fuser, step):
    """Either the loss is not finite, or the factors after the only training step of an epoch are not."""
    pytest.importorskip("optuna")
    steps = SearchConfig(trials=6, backbone={"learning_rate": DimensionConfig(choices=[step, 0.01])}, fuser={})
    found = ablate_lightgcn(fuser, {"loss": loss}, search=steps).searched["mine"]
    values = {trial.options["backbone"]["learning_rate"]: trial.value for trial in found.trials[1:]}
    assert values[step] is None
    assert values[0.01] > 0.1
    assert found.arm.backbone_options.get("learning_rate", 0.01) == 0.01


@WILD
def test_a_diverging_arm_outside_a_search_is_an_error_that_names_it(ablate_lightgcn, loss):
    says = r"arm 'mine', seed 3: backbone 'LightGCN' diverged: the loss of epoch \d is nan; lower \[backbone\] learning_rate"
    with pytest.raises(DivergenceError, match=says):
        ablate_lightgcn("none", {"loss": loss, "learning_rate": 1e30, "eval_every": 4})
