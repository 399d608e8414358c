import numpy as np
import pytest
import scipy.sparse
import torch

from enhancer_plugins.training.compiled import worker
from enhancer_plugins.training.compiled.threads import limited
from enhancer_plugins.training.graph import BipartiteGraph, propagate

WEIGHTS = (0.1, 0.4, 0.2, 0.3)


def interactions(n_users, n_items, share, seed=0):
    users, items = np.nonzero(np.random.default_rng(seed).random((n_users, n_items)) < share)
    return users.astype(np.int32), items.astype(np.int32)


def normalised(n_users, n_items, users, items):
    """Return the adjacency matrix of He et al. 2020, eq. 7-8, by scipy, in float64."""
    n = n_users + n_items
    ones = np.ones(len(users))
    upper = scipy.sparse.coo_matrix((ones, (users, items + n_users)), (n, n))
    whole = (upper + upper.T).tocsr()
    degrees = np.asarray(whole.sum(1)).ravel()
    with np.errstate(divide="ignore"):
        scale = np.where(degrees > 0, degrees**-0.5, 0)
    return (scipy.sparse.diags(scale) @ whole @ scipy.sparse.diags(scale)).tocsr()


def polynomial(matrix, x, weights):
    total, power = np.zeros_like(x), x
    for weight in weights:
        total = total + weight * power
        power = matrix @ power
    return total


@pytest.mark.parametrize("shape", [(40, 30, 0.1), (3, 200, 0.5), (5, 4, 0.02), (1, 1, 1.1)])
@pytest.mark.parametrize("width", [7, 64, 130])
@pytest.mark.parametrize("weights", [(1.0,), (0.0, 1.0), WEIGHTS])
def test_propagation_equals_scipys(shape, width, weights):
    n_users, n_items, share = shape
    users, items = interactions(n_users, n_items, share)
    graph = BipartiteGraph(n_users, n_items, users, items)
    x = np.random.default_rng(1).standard_normal((n_users + n_items, width)).astype(np.float32)
    expected = polynomial(normalised(n_users, n_items, users, items), x.astype(np.float64), weights)
    np.testing.assert_allclose(graph.apply(torch.from_numpy(x), weights).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_kernel_and_torch_agree_in_value_and_gradient():
    users, items = interactions(50, 80, 0.1)
    results = []
    for reference in (False, True):
        graph = BipartiteGraph(50, 80, users, items, reference=reference)
        x = torch.randn(130, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
        y = propagate(x, graph, WEIGHTS)
        (gradient,) = torch.autograd.grad((y**3).sum(), x)
        results.append((y.detach(), gradient))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_the_backward_pass_is_right():
    users, items = interactions(6, 5, 0.4)
    graph = BipartiteGraph(6, 5, users, items)
    x = torch.randn(11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: propagate(rows, graph, WEIGHTS), (x,))


def test_nodes_without_interactions_keep_their_own_share():
    graph = BipartiteGraph(3, 3, np.array([0], np.int32), np.array([1], np.int32))
    x = torch.ones(6, 8)
    y = graph.apply(x, (0.5, 0.25, 0.25))
    torch.testing.assert_close(y[[1, 2, 3, 5]], torch.full((4, 8), 0.5))
    torch.testing.assert_close(y[[0, 4]], torch.ones(2, 8))


@pytest.mark.parametrize("width", [2, 6, 30, 64, 96, 134])
def test_rows_fetched_as_halves_are_nearly_the_same_in_value_and_gradient(width):
    users, items = interactions(50, 80, 0.1)
    x = torch.randn(130, width, generator=torch.Generator().manual_seed(0))
    results = []
    for half in (False, True):  # beside torch's product: its kernel of each width need not be compiled
        graph = BipartiteGraph(50, 80, users, items, half_precision=half, reference=not half)
        rows = x.clone().requires_grad_()
        y = propagate(rows, graph, WEIGHTS)
        (gradient,) = torch.autograd.grad((y**2).sum(), rows)
        results.append((y.detach(), gradient))
    for single, half in zip(*results, strict=True):
        assert not torch.equal(single, half)
        assert float((single - half).norm() / single.norm()) < 0.003


def test_halves_are_rounded_to_the_nearest():
    from enhancer_plugins.training.compiled.kernels import pack_bfloat16

    special = torch.tensor([0.0, -0.0, 1.0, 1e-30, -3e38, 1.00390625, 1.01171875, 3.3e38])
    numbers = torch.cat([torch.randn(1000), special])
    words = np.empty((1, len(numbers) // 2), np.uint32)
    pack_bfloat16(numbers.numpy().view(np.uint32)[None], words)
    halves = np.concatenate([words[0] & 0xFFFF, words[0] >> 16])
    expected = numbers.to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(halves, expected)


def test_rows_of_odd_width_are_fetched_whole():
    users, items = interactions(50, 80, 0.1)
    x = torch.randn(130, 7, generator=torch.Generator().manual_seed(0))
    single, half = (
        BipartiteGraph(50, 80, users, items, half_precision=half).apply(x, WEIGHTS) for half in (False, True)
    )
    assert torch.equal(single, half)


@pytest.mark.parametrize("half", [False, True])
def test_a_product_in_two_pieces_is_the_same_to_the_bit(half):
    users, items = interactions(300, 200, 0.1)
    graph = BipartiteGraph(300, 200, users, items, half_precision=half)
    x = torch.randn(500, 64, generator=torch.Generator().manual_seed(0))
    with limited(torch_threads=1, kernel_threads=1):
        with worker.enabled(True):
            assert worker.splits_kernels()
            pieces = graph.apply(x, WEIGHTS)
        with worker.enabled(False):
            assert not worker.splits_kernels()
            whole = graph.apply(x, WEIGHTS)
    assert torch.equal(pieces, whole)
