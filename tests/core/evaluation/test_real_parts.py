"""The same world, by a real backbone and real fusers."""

from __future__ import annotations

import json

import pytest

from enhancer.evaluation import Arm, run_ablation

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
        return run_ablation(
            arms,
            split,
            lambda _: (None, vectors),
            lambda _: LightGCN(LightGCN.options_class(dim=16, epochs=8, batch_size=512, device="cpu"), Context()),
            lambda arm: fusers[arm.fuser](fusers[arm.fuser].options_class(**arm.fuser_options), Context()),
            metrics=["ndcg@10", "recall@20"],
            seeds=seeds,
            pool=toys["pooling"](split),
        )

    result = run(arms, (0,))
    json.dumps(result.to_json(), allow_nan=False)
    overall, cold = result.overall, result.findings["cold"]
    assert overall.mean("none", "recall@20") > overall.reference["popularity"]["recall@20"] * 0.8
    # Nothing but the vector tells what a cold item is: true ones place it, shuffled ones do not.
    assert cold.mean("align", "ndcg@10") > cold.mean("placebo", "ndcg@10")
    assert all(run.history and run.seconds > 0 for run in result.runs)
    alone = run(arms[2:3], (0,))
    assert alone.overall.per_seed["align"]["ndcg@10"] == overall.per_seed["align"]["ndcg@10"]
