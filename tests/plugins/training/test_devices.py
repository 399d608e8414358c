"""Runs on another device than the CPU give the same losses and rows, and their steps do not synchronise.

Without a GPU, a stand-in device (``standin``) is used: it has the memory of the CPU and the rules of a GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from device_runs import RUNS
from dists import HELPERS

from enhancer.contracts import TrainingData
from enhancer_plugins.training.graph import BipartiteGraph, propagate
from enhancer_plugins.training.sampler import PrefetchedEpochs, TripletSampler, occurrences

DEVICE = "cuda" if torch.cuda.is_available() else "standin"
gpu = pytest.mark.skipif(DEVICE != "cuda", reason="no GPU")
# These losses must synchronise, because the number of distinct nodes of a step is known only after drawing them.
WAITING = {
    "lightgcn-align", "lightgcn-semantic", "lightgcn-in-batch", "lightgcn-softmax", "lightgcn-multinomial", "lightgcn-extrapolate",
    "fm-align", "fm-softmax",
}  # fmt: skip


@pytest.fixture(scope="module")
def found():
    done = subprocess.run(
        [sys.executable, HELPERS / "device_runs.py", DEVICE], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_the_same_on_every_device(found, name):
    assert "error" not in found[name], found[name]["error"]
    here, there, _ = found[name]["losses"]
    assert there == pytest.approx(here, rel=1e-4)
    assert max(found[name]["apart"]) < 1e-2


@pytest.mark.parametrize("name", RUNS)
def test_equal_arguments_give_equal_factors(found, name):
    """By default the order of summation on a GPU depends on scheduling."""
    _, there, again = found[name]["losses"]
    assert there == again
    assert found[name]["equal"]


@pytest.mark.skipif(DEVICE == "cuda", reason="a GPU does not count what it waits for")
@pytest.mark.parametrize("name", sorted(set(RUNS) - WAITING))
def test_no_step_waits(found, name):
    """Twice as many steps synchronise as often."""
    some, twice_as_many = found[name]["waits"]
    assert some == twice_as_many
    assert some


def test_the_device_is_as_strict_as_a_gpu():
    """The stand-in refuses the operations that a GPU refuses, and records synchronisations."""
    program = """
import stand_in_device, pytest, torch
keep = stand_in_device.install()
there, here = torch.ones(3, 2, device="standin"), torch.ones(3, 2)
assert there.device.type == "standin" and (there + 1).device.type == "standin"
for refused in (
    lambda: there + here,
    lambda: there @ here.T,
    lambda: there.index_select(0, torch.arange(2)),
    lambda: torch.rand(3, device="standin", generator=torch.Generator()),
    there.numpy,
):
    with pytest.raises((RuntimeError, TypeError)):
        refused()
assert not stand_in_device.WAITS
assert float(there.sum()) == 6.0 and there.nonzero().shape == (6, 2) and torch.equal(there.cpu(), here)
here.copy_(there * 2)
assert here.sum() == 12 and there[there > 0].shape == (6,)
assert len(stand_in_device.WAITS) == 5, stand_in_device.WAITS
there.requires_grad_()
(slope,) = torch.autograd.grad((there.exp() @ there.T).sum(), there)
assert slope.device.type == "standin"
stand_in_device.leave()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=HELPERS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_occurrences_are_counted_alike_everywhere():
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 50, 400))
    program = "import stand_in_device, json, sys, torch; keep = stand_in_device.install(); from enhancer_plugins.training.sampler import occurrences\n"
    program += "ids = torch.tensor(json.load(sys.stdin)).to('standin')\n"
    program += (
        "print(json.dumps(occurrences(ids, 60).cpu().tolist())); assert stand_in_device.WAITS == ['aten::_to_copy']; "
        "stand_in_device.leave()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=HELPERS,
        input=json.dumps(ids.tolist()),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == occurrences(ids, 60).tolist() == np.bincount(ids.numpy(), minlength=60).tolist()


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

    ahead = PrefetchedEpochs(make, "cpu")
    for number in (1, 2, 3, 7, 8):  # 7: as in a resumed run
        for mine, other in zip(ahead(number), sampler.epoch(number), strict=True):
            assert torch.equal(mine, other)
    ahead.close()
    assert drawn == [1, 2, 3, 4, 7, 8, 9]
