"""Runs with planted gains, in place of training, for tests of the frontier."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from enhancer.evaluation import ArmRun
from enhancer.evaluation.frontier.density import measure_density
from enhancer.evaluation.frontier.ladder import make_ladder
from enhancer.evaluation.frontier.prices import Cost
from enhancer.evaluation.measuring.metrics import PairList, Scores
from enhancer.evaluation.measuring.strata import Stratum
from enhancer.evaluation.running.arms import Arm

NOTES = ("plot", "mood", "making")
STRATA = ("all", "tail", "cold")
METRIC = "ndcg@10"
PRICE = 0.5
"""Dollars for a note of all items."""


class Simulated:
    """Runs whose users differ, and whose seeds and users add noise to a planted gain."""

    def __init__(self, gain, seed=0):
        pairs = PairList(np.arange(200, dtype=np.int32), np.arange(200, dtype=np.int32))
        strata = tuple(Stratum(name, name, pairs, 100) for name in STRATA)
        self.experiment = SimpleNamespace(metrics=[METRIC], panels=[SimpleNamespace(strata=strata)])
        self.gain, self.seed, self.trained = gain, seed, []

    def run(self, requests, listener):
        return [self.train(request.arm, request.seed) for request in requests]

    def train(self, arm, seed):
        self.trained.append(arm.name)
        rng = np.random.default_rng([self.seed, seed, *arm.name.encode()])
        base = 0.3 + 0.1 * np.random.default_rng(self.seed).standard_normal(200)
        scores = {}
        for stratum in STRATA:
            level = 0.0 if arm.shuffle or not arm.semantic else self.gain(arm, stratum)
            values = base + level + 0.003 * rng.standard_normal() + 0.05 * rng.standard_normal(200)
            scores[stratum] = Scores(np.arange(200, dtype=np.int32), {METRIC: values})
        return ArmRun(
            arm=arm.name,
            seed=seed,
            seconds=0.0,
            epochs=1,
            best_epoch=1,
            validation=None,
            history=[],
            scores=scores,
            beyond_accuracy={},
        )


def arm_of(rung):
    return Arm(rung.name, "prior", inputs=rung.inputs, kept=rung.kept, semantic=bool(rung.inputs))


def weigh(gain, seed=0, price=PRICE, **more):
    ladder = make_ladder(["text", *NOTES], NOTES)
    costs = {
        rung.name: Cost(
            records=100 * len(rung.generated), usd=price and price * rung.share * len(rung.generated), **more
        )
        for rung in ladder.rungs
    }
    executor = Simulated(gain, seed)
    return measure_density(ladder, costs, executor, arm_of, [0, 1, 2]), executor
