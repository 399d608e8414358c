import numba
import numpy as np
import pytest
import torch

from enhancer.contracts import TrainingData
from enhancer_plugins.training.compiled.steps import BprSteps
from enhancer_plugins.training.graph import BipartiteGraph, propagate
from enhancer_plugins.training.losses.bpr import bpr_reference
from enhancer_plugins.training.sampler import Triples, TripletSampler


def crowd(n_users=40, n_items=30, share=0.15, seed=0):
    users, items = np.nonzero(np.random.default_rng(seed).random((n_users, n_items)) < share)
    return TrainingData(n_users=n_users, n_items=n_items, users=users.astype(np.int32), items=items.astype(np.int32))


def graph_of(data, *, reference=False):
    return BipartiteGraph(data.n_users, data.n_items, data.users, data.items, reference=reference)


def start(data, width=8, seed=1):
    random = np.random.default_rng(seed)
    return (random.standard_normal((data.n_users + data.n_items, width)) * 0.5).astype(np.float32)


def first(data, b):
    triples = next(TripletSampler(data, 0).steps(1, b))
    return triples, tuple(column.numpy() for column in triples)


def reference_step(data, weights, embeddings, triples, constant=None, dtype=torch.float32):
    """Compute loss and gradient by autograd over torch's sparse product."""
    rows = torch.from_numpy(embeddings).to(dtype).requires_grad_()
    final = propagate(rows, graph_of(data, reference=True), weights)
    extra = None
    if constant is not None:
        wide = torch.from_numpy(constant).to(dtype)
        items = wide[data.n_users :]
        extra = (wide[triples.users] * (items[triples.positives] - items[triples.negatives])).sum(1)
    loss = bpr_reference(*final.split([data.n_users, data.n_items]), triples, extra)
    (gradient,) = torch.autograd.grad(loss, rows)
    return float(loss.detach()), gradient.numpy()


@pytest.mark.parametrize("weights", [[0.25] * 4, [0.1, 0.7], [1.0, 1.0, 1.0], [1.0]])
@pytest.mark.parametrize("wide", [False, True])
def test_loss_and_gradient_are_those_of_torch(weights, wide):
    data = crowd()
    triples, columns = first(data, 64)
    embeddings, constant = start(data), start(data, 5, seed=2) if wide else None
    found = BprSteps(graph_of(data), weights, 8, 0.5, constant).gradient(embeddings, columns)
    loss, gradient = reference_step(data, weights, embeddings, triples, constant)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(found.rows, gradient, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())


def test_the_slope_of_the_penalty_counts_draws():
    data = crowd()
    triples, columns = first(data, 50)
    found = BprSteps(graph_of(data), [0.5, 0.5], 8, 0.3).gradient(start(data), columns)
    rows = torch.from_numpy(start(data)).requires_grad_()
    drawn = [triples.users, triples.positives + data.n_users, triples.negatives + data.n_users]
    penalty = sum(rows[nodes].square().sum() for nodes in drawn) * 0.3 / (2 * 50)
    (gradient,) = torch.autograd.grad(penalty, rows)
    np.testing.assert_allclose(found.decay[:, None] * start(data), gradient, rtol=1e-5, atol=1e-8)


def test_leaving_out_what_a_small_step_does_not_touch_is_rounding(monkeypatch):
    data = crowd(400, 300, 0.02)
    triples, columns = first(data, 12)
    graph = graph_of(data)
    assert graph.subset(np.bincount(triples.users, minlength=700) > 0) is not None
    part = BprSteps(graph, [0.25] * 4, 8, 0.1).gradient(start(data), columns)
    loss, gradient = reference_step(data, [0.25] * 4, start(data), triples)
    monkeypatch.setattr(BipartiteGraph, "subset", lambda *_: None)
    whole = BprSteps(graph, [0.25] * 4, 8, 0.1).gradient(start(data), columns)
    for step in (part, whole):
        assert step.loss == pytest.approx(loss, rel=1e-5)
        np.testing.assert_allclose(step.rows, gradient, rtol=1e-4, atol=1e-5 * np.abs(gradient).max())


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one core")
def test_the_number_of_threads_changes_no_bit():
    data = crowd(300, 200, 0.05)
    found = []
    for count in (1, 2):
        numba.set_num_threads(count)
        _, columns = first(data, 512)
        step = BprSteps(graph_of(data), [0.25] * 4, 8, 0.1).gradient(start(data), columns)
        found.append((step.loss, step.rows.copy(), *columns))
    assert found[0][0] == found[1][0]
    for one, two in zip(found[0][1:], found[1][1:], strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_user_of_everything_moves_nothing():
    """If the negative is the positive itself, only the penalty has a gradient."""
    data = crowd(3, 2, 1.1)
    columns = tuple(np.array(column) for column in ([0], [1], [1]))
    found = BprSteps(graph_of(data), [0.5, 0.5], 8, 0.1).gradient(start(data), columns)
    assert not found.rows.any()
    assert Triples(*map(torch.from_numpy, columns)).users.dtype == torch.int64
