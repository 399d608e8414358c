import pytest
import torch

from enhancer_plugins.training.adam import Adam
from enhancer_plugins.training.model import Recipe


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return {
        "rows": torch.randn(20, 8, generator=generator).to(dtype),
        "bias": torch.randn(5, generator=generator).to(dtype),
    }


def steps(count, dtype, decay):
    ours = parameters(dtype)
    adam = Adam(ours, 0.01, rates={"bias": 0.002})
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        gradients = {name: torch.randn(p.shape, generator=generator).to(dtype) for name, p in ours.items()}
        adam.step(gradients, {"rows": decay})
    return ours, adam


def test_it_equals_torchs_own_adam():
    decay = torch.linspace(0, 0.5, 20)
    theirs = parameters()
    for p in theirs.values():
        p.requires_grad_()
    reference = torch.optim.Adam([{"params": [theirs["rows"]]}, {"params": [theirs["bias"]], "lr": 0.002}], lr=0.01)
    generator = torch.Generator().manual_seed(1)
    for _ in range(25):
        for p in theirs.values():
            p.grad = torch.randn(p.shape, generator=generator)
        theirs["rows"].grad += decay.unsqueeze(1) * theirs["rows"].detach()
        reference.step()
    for dtype in (torch.float32, torch.float64):  # the kernel and torch
        ours, _ = steps(25, dtype, decay)
        for name in ours:
            torch.testing.assert_close(ours[name].float(), theirs[name].detach(), rtol=1e-4, atol=1e-5)


def test_a_parameter_without_gradient_stays():
    ours = parameters()
    before = ours["rows"].clone()
    Adam(ours, 0.1).step({"rows": None, "bias": torch.ones(5)})
    assert torch.equal(ours["rows"], before)
    assert not torch.equal(ours["bias"], parameters()["bias"])


def test_state_goes_round():
    decay = torch.zeros(20)
    ours, adam = steps(3, torch.float32, decay)
    theirs = {name: p.clone() for name, p in ours.items()}
    other = Adam(theirs, 0.01, rates={"bias": 0.002})
    other.load_state({name: t.clone() for name, t in adam.state().items()})
    gradients = {name: torch.ones_like(p) for name, p in ours.items()}
    adam.step(gradients)
    other.step(gradients)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_step_size_falls_along_half_a_cosine_as_torchs_own_does():
    recipe = Recipe(4, 0.01, 0.0, None, 0.1, "cpu", cosine_epochs=12)
    weight = torch.zeros(1, requires_grad=True)
    reference = torch.optim.Adam([weight], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(reference, T_max=12)
    for epoch in range(1, 13):
        assert recipe.rate_factor(epoch) == pytest.approx(schedule.get_last_lr()[0])
        reference.step()
        schedule.step()
    assert Recipe(4, 0.01, 0.0, None, 0.1, "cpu").rate_factor(12) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # the kernel and torch
def test_a_slower_pace_is_a_smaller_step(dtype):
    ends = []
    for rate, pace in ((0.01, 0.25), (0.0025, 1.0)):
        ours = parameters(dtype)
        adam = Adam(ours, rate)
        adam.rate_factor = pace
        for _ in range(3):
            adam.step({name: torch.ones_like(p) for name, p in ours.items()})
        ends.append(ours)
    for name, rows in ends[0].items():
        torch.testing.assert_close(rows, ends[1][name])


@pytest.mark.parametrize("reference", [False, True], ids=["kernel", "torch"])
def test_a_vector_decays_as_one_row(reference):
    bias = torch.tensor([1.0, 2.0, -2.0])
    adam = Adam({"bias": bias}, 0.1, reference=reference)
    penalty = adam.step({"bias": torch.zeros(3)}, {"bias": torch.tensor([0.5])})
    assert penalty == pytest.approx(0.5 / 2 * 9)
    assert bias.tolist() == pytest.approx([0.9, 1.9, -1.9], abs=1e-4)  # Adam's first step equals the learning rate
