import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from enhancer_plugins.training.compiled import kernels
from enhancer_plugins.training.losses.bpr import Term, bpr_loss, bpr_reference, info_nce, info_nce_sum
from enhancer_plugins.training.sampler import Triples


def rows(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def triples(b=200, n_users=12, n_items=9, seed=0):
    rng = np.random.default_rng(seed)
    return Triples(*(torch.from_numpy(rng.integers(0, n, b)) for n in (n_users, n_items, n_items)))


def test_bpr_of_one_triple_by_hand():
    users, items = (
        torch.tensor([[1.0, 2.0, 0, 0, 0, 0]]),
        torch.tensor([[0.5, 0.5, 9, 9, 9, 9], [1.0, -1.0, 9, 9, 9, 9]]),
    )
    one = Triples(torch.tensor([0]), torch.tensor([0]), torch.tensor([1]))
    # scores 1.5 and -1: -log sigmoid(2.5) = 0.0788...
    assert float(bpr_loss(users, items, one)) == pytest.approx(math.log1p(math.exp(-2.5)), rel=1e-5)
    assert float(bpr_loss(users, items, one, torch.tensor([-2.5]))) == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("width", [6, 64])
def test_kernel_and_torch_agree_in_loss_and_gradient(width):
    results = []
    for loss_of in (bpr_loss, bpr_reference):
        users, items, extra = (
            rows(12, width).requires_grad_(),
            rows(9, width, 1).requires_grad_(),
            rows(200, 1, 2).squeeze(1).requires_grad_(),
        )
        loss = loss_of(users, items, triples(), extra) * 3
        results.append((loss.detach(), *torch.autograd.grad(loss, (users, items, extra))))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=2e-4, atol=1e-6)


def test_bpr_of_extreme_scores_is_finite():
    users, items = torch.zeros(1, 6), torch.zeros(2, 6)
    users[0, 0], items[0, 0], items[1, 0] = 1000.0, 1.0, -1.0
    items.requires_grad_()
    for i, j, expected in ((0, 1, 0.0), (1, 0, 2000.0)):
        one = Triples(torch.tensor([0]), torch.tensor([i]), torch.tensor([j]))
        loss = bpr_loss(users, items, one)
        assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)
        (gradient,) = torch.autograd.grad(loss, items)
        assert bool(torch.isfinite(gradient).all())


def naive_info_nce(anchors, targets, temperature):
    """Compute the formula of RLMRec's code row by row, with repetitions, in float64."""
    a = anchors / anchors.norm(dim=1, keepdim=True)
    t = targets / targets.norm(dim=1, keepdim=True)
    total = 0.0
    for row in range(len(a)):
        cosines = torch.stack([a[row] @ t[other] for other in range(len(t))]) / temperature
        total = total - cosines[row] + torch.log(torch.exp(cosines).sum())
    return total / len(a)


@pytest.mark.parametrize("temperature", [0.2, 0.01])
def test_info_nce_of_distinct_rows_equals_that_of_the_batch_with_repetitions(temperature):
    generator = torch.Generator().manual_seed(0)
    embeddings, profiles = rows(10, 5, 1, torch.float64), rows(10, 5, 2, torch.float64)
    nodes = torch.randint(0, 10, (40,), generator=generator)
    distinct, counts = torch.unique(nodes, return_counts=True)
    results = []
    for loss_of in (
        lambda e, p: naive_info_nce(e[nodes], p[nodes], temperature),
        lambda e, p: info_nce(
            e[distinct], p[distinct], torch.arange(len(distinct)),
            temperature=temperature, anchor_counts=counts, target_counts=counts,
        ),
    ):  # fmt: skip
        e, p = embeddings.clone().requires_grad_(), profiles.clone().requires_grad_()
        loss = loss_of(e, p)
        results.append((loss.detach(), *torch.autograd.grad(loss, (e, p))))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 0.2, 0.05, 0.02, 0.005])
def test_info_nce_in_single_precision_is_that_in_double(temperature):
    """Logits may be shifted or not; opposite rows are the hardest case."""
    anchors, targets = rows(30, 8, 1), rows(20, 8, 2)
    anchors[:20] = -targets
    results = []
    for dtype in (torch.float32, torch.float64):
        a, t = anchors.to(dtype).requires_grad_(), targets.to(dtype).requires_grad_()
        loss = info_nce(a, t, torch.arange(30) % 20, temperature=temperature)
        results.append((loss.detach(), *torch.autograd.grad(loss, (a, t))))
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5 * float(double.abs().max()))


def test_info_nce_by_hand():
    # One anchor between two targets at cosines 1 and 0, temperature 1: -log(e / (e + 1)).
    anchors, targets = torch.tensor([[2.0, 0.0]]), torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    loss = info_nce(anchors, targets, torch.tensor([0]), temperature=1.0)
    assert float(loss) == pytest.approx(-math.log(math.e / (math.e + 1)), rel=1e-6)


def test_the_backward_pass_of_info_nce_is_right():
    anchors, targets = (rows(6, 4, seed, torch.float64).requires_grad_() for seed in (0, 1))
    positions = torch.tensor([0, 2, 2, 4, 5, 1])
    counts = torch.tensor([1, 3, 2, 1, 5, 1])

    def loss(a, t):
        return info_nce(a, t, positions, temperature=0.3, anchor_counts=counts, target_counts=counts)

    assert torch.autograd.gradcheck(loss, (anchors, targets))


def test_a_zero_row_is_no_trap():
    anchors = torch.zeros(3, 4).requires_grad_()
    loss = info_nce(anchors, rows(3, 4), torch.arange(3), temperature=0.2)
    (gradient,) = torch.autograd.grad(loss, anchors)
    assert bool(torch.isfinite(gradient).all())
    assert math.isfinite(float(loss.detach()))


def test_who_does_the_terms_changes_no_bit(monkeypatch):
    """If torch has one thread, a second thread computes some terms; sum and gradients do not change."""
    sizes = (400, 300, 500)
    results = []
    for threads in (1, 2):
        monkeypatch.setattr("numba.get_num_threads", lambda threads=threads: threads)
        tensors = [(rows(n, 16, n).requires_grad_(), rows(n, 16, n + 1).requires_grad_()) for n in sizes]
        terms = [Term(*pair, torch.arange(len(pair[0]))) for pair in tensors]
        loss = info_nce_sum(terms, temperature=0.2)
        leaves = [tensor for pair in tensors for tensor in pair]
        results.append((loss.detach(), *torch.autograd.grad(loss, leaves)))
        alone = sum(info_nce(*pair, torch.arange(len(pair[0])), temperature=0.2) for pair in tensors)
        torch.testing.assert_close(loss, alone)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


@given(
    st.lists(st.floats(-87, 88, width=32), min_size=1, max_size=70),
    st.sampled_from([1, 2, 7]),
)
def test_exponentials_are_off_by_a_unit_in_the_last_place_at_most(numbers, rows):
    given_numbers = np.tile(np.array(numbers, np.float32), (rows, 1))
    found = given_numbers.copy()
    kernels.exponentials(found)
    exact = np.exp(given_numbers.astype(np.float64))
    assert np.all(np.abs(found - exact) <= np.spacing(exact.astype(np.float32)))


def test_exponentials_of_what_is_far_below_are_next_to_nothing():
    found = np.array([[-88.0, -200.0, -3e38, -np.inf]], np.float32)
    kernels.exponentials(found)
    assert np.all((found >= 0) & (found < 1e-37))
