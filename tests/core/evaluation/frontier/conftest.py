"""A small world whose items have notes: one tells the themes that users like, the others nothing."""

from __future__ import annotations

import numpy as np
import pytest

from enhancer.contracts.training import SemanticVectors, View
from enhancer.evaluation import Arm, Experiment
from enhancer.evaluation.frontier.read_once import read_once


@pytest.fixture(scope="session")
def noted(world, toys):
    """Return a function that makes an experiment, given which note tells the themes: ``mood``, or None for none."""
    split, vectors = world

    def make(telling="mood", backbone=None):
        noise = {
            name: np.random.default_rng(seed).standard_normal(vectors.shape).astype(np.float32)
            for seed, name in enumerate(("text", "plot", "mood"))
        }
        read = []

        def features(inputs):
            (name,) = inputs
            read.append(name)
            table = vectors if name == telling else noise[name] / np.linalg.norm(noise[name], axis=1, keepdims=True)
            return SemanticVectors(None, table, (View(name, 0, table.shape[1]),))

        experiment = Experiment.over(
            split,
            read_once(features),
            backbone or (lambda arm: toys["SVD"]()),
            lambda arm: toys["make_fuser"](Arm(arm.name, "beside" if arm.semantic else "none")),
            metrics=["ndcg@10", "recall@20"],
            pool=toys["pooling"](split),
        )
        return experiment, read

    return make
