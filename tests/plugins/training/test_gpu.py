"""A run on another device than the kernels' CPU: the same losses and rows, whatever the device, and no step that waits.

Where there is no GPU, torch takes ``cpu:0`` in its place: the same way through the code, without the device.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from enhancer.contracts import Context, TrainingData
from enhancer.testing.backbone import Watcher, labelled, planted
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.adapter import Adapter, AdapterOptions
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.fusers.concat import Concat, ConcatOptions
from enhancer_plugins.fusers.generate import Generate, GenerateOptions
from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions
from enhancer_plugins.fusers.prior import Prior, PriorOptions
from enhancer_plugins.fusers.semantic import Semantic, SemanticOptions
from enhancer_plugins.training.graph import BipartiteGraph, propagate
from enhancer_plugins.training.sampler import Ahead, TripletSampler

DEVICE = "cuda" if torch.cuda.is_available() else "cpu:0"
gpu = pytest.mark.skipif(DEVICE != "cuda", reason="no GPU")
OPTIONS = {"dim": 16, "epochs": 3, "batch_size": 128, "learning_rate": 1e-3, "engine": "torch"}
FUSERS = {
    "none": (NoFusion, NoFusionOptions),
    "prior": (Prior, PriorOptions),
    "concat": (Concat, ConcatOptions),
    "align": (Align, AlignOptions),
    "adapter": (Adapter, AdapterOptions),
    "generate": (Generate, GenerateOptions),
    "semantic": (Semantic, SemanticOptions),
}
RUNS = [
    *((LightGCN, LightGCNOptions, name, {}) for name in FUSERS),
    *((FM, FMOptions, name, {}) for name in ("none", "prior", "concat", "align", "adapter")),
    (LightGCN, LightGCNOptions, "align", {"loss": "softmax", "in_batch": True}),
    (LightGCN, LightGCNOptions, "none", {"loss": "softmax", "similarity": "cosine"}),
    (LightGCN, LightGCNOptions, "concat", {"loss": "multinomial"}),
    (FM, FMOptions, "concat", {"loss": "softmax"}),
    (FM, FMOptions, "concat", {"loss": "log"}),
]


def fit(backbone, fuser, device, **more):
    (backbone_class, options_class), (fuser_class, fuser_options) = backbone, FUSERS[fuser]
    data = labelled(planted()) if more.get("loss") == "log" else planted().data
    made = backbone_class(options_class(**{**OPTIONS, **more, "device": device}), Context())
    return made.fit(data, fuser_class(fuser_options(), Context()), seed=0, monitor=Watcher())


@pytest.mark.parametrize(("backbone", "options", "fuser", "more"), RUNS)
def test_a_run_is_the_same_on_every_device(backbone, options, fuser, more):
    here, there = (fit((backbone, options), fuser, device, **more) for device in ("cpu", DEVICE))
    for mine, other in zip(here.history, there.history, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4)
    for side in ("users", "items"):
        mine, other = getattr(here.factors, side), getattr(there.factors, side)
        assert np.linalg.norm(mine - other) < 1e-2 * np.linalg.norm(mine)


@pytest.mark.parametrize("fuser", FUSERS)
def test_equal_arguments_give_equal_factors(fuser):
    """A GPU adds up in any order, unless it is told otherwise."""
    one, two = (fit((LightGCN, LightGCNOptions), fuser, DEVICE) for _ in range(2))
    np.testing.assert_array_equal(one.factors.users, two.factors.users)
    np.testing.assert_array_equal(one.factors.items, two.factors.items)


@gpu
def test_propagation_and_its_gradient_are_the_kernels():
    random = np.random.default_rng(0)
    users, items = np.nonzero(random.random((300, 200)) < 0.05)
    parts = 300, 200, users.astype(np.int32), items.astype(np.int32)
    start = torch.from_numpy(random.standard_normal((500, 24)).astype(np.float32))
    slopes = torch.from_numpy(random.standard_normal((500, 24)).astype(np.float32))
    found = []
    for device in ("cpu", DEVICE):
        rows = start.to(device).requires_grad_()
        made = propagate(rows, BipartiteGraph(*parts, device=device), [0.4, 0.3, 0.2, 0.1])
        (gradient,) = torch.autograd.grad(made, rows, slopes.to(device))
        found.append((made.detach().cpu().numpy(), gradient.cpu().numpy()))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_epochs_are_drawn_ahead_and_are_the_same():
    users, items = np.nonzero(np.random.default_rng(0).random((40, 30)) < 0.3)
    data = TrainingData(n_users=40, n_items=30, users=users.astype(np.int32), items=items.astype(np.int32))
    sampler, drawn = TripletSampler(data, 0), []

    def make(number):
        drawn.append(number)
        return sampler.epoch(number)

    ahead = Ahead(make, "cpu")
    for number in (1, 2, 3, 7, 8):  # 7: a run that is resumed
        for mine, other in zip(ahead(number), sampler.epoch(number), strict=True):
            assert torch.equal(mine, other)
    ahead.close()
    assert drawn == [1, 2, 3, 4, 7, 8, 9]
