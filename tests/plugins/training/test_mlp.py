import pytest
import torch

from enhancer_plugins.training.mlp import Mlp


@pytest.mark.parametrize("widths", [(12, 8, 5), (12, 5), (6, 7, 8, 3)])
@pytest.mark.parametrize("threads", [1, 2])
def test_halves_are_the_whole_in_value_and_gradient(widths, threads, monkeypatch):
    monkeypatch.setattr("numba.get_num_threads", lambda: threads)
    mlp = Mlp(widths, torch.Generator().manual_seed(0), "cpu")
    for tensor in mlp.parameters():
        tensor.requires_grad_()
    x = torch.randn(701, widths[0], generator=torch.Generator().manual_seed(1), requires_grad=True)
    towards = torch.randn(701, widths[-1], generator=torch.Generator().manual_seed(2))
    results = []
    for wanted in (512, 10_000):
        monkeypatch.setattr("enhancer_plugins.training.mlp._MIN_ROWS", wanted)
        made = mlp(x)
        results.append((made.detach(), *torch.autograd.grad((made * towards).sum(), (x, *mlp.parameters()))))
    for halves, whole in zip(*results, strict=True):
        torch.testing.assert_close(halves, whole, rtol=1e-4, atol=1e-4)


def test_who_does_the_halves_changes_no_bit(monkeypatch):
    mlp = Mlp((12, 8, 5), torch.Generator().manual_seed(0), "cpu")
    for tensor in mlp.parameters():
        tensor.requires_grad_()
    x = torch.randn(1000, 12, generator=torch.Generator().manual_seed(1))
    results = []
    for threads in (1, 2):
        monkeypatch.setattr("numba.get_num_threads", lambda threads=threads: threads)
        made = mlp(x)
        results.append((made.detach(), *torch.autograd.grad(made.square().sum(), list(mlp.parameters()))))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
