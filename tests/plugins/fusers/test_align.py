from dataclasses import replace

import numpy as np
import pytest
import torch

from enhancer.contracts import Batch, Context
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions
from enhancer_plugins.training.run import generator


def embeddings(seed=0, d=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(60, d, generator=generator), torch.randn(50, d, generator=generator)


def batch(users, items, seed=0, b=120):
    """Return a step as a sampler draws it: only nodes with interactions."""
    data, rng = planted().data, np.random.default_rng(seed)
    drawn = rng.integers(0, len(data.users), b)
    negatives = data.items[rng.integers(0, len(data.items), b)]
    columns = (data.users[drawn], data.items[drawn], negatives)
    return Batch(*(torch.from_numpy(c.astype(np.int64)) for c in columns), users, items)


def build(seed=0, **options):
    # The MLP places, so that the test can read its weights from the placement.
    return Align(AlignOptions(**{"unseen": "mlp"} | options), Context()).build(
        planted().data, 8, seed=seed, device="cpu"
    )


def by_the_book(fusion, step, temperature):
    """The loss has three terms over all nodes with a vector, with repetitions, as in RLMRec's code."""
    data = planted().data
    place = {kind: fusion.place(kind, np.ones((1, 8), np.float32)) for kind in ("user", "item")}
    total = 0.0
    for kind, nodes, rows, vectors in (
        ("user", step.users, step.user_embeddings, data.user_vectors),
        ("item", step.positives, step.item_embeddings, data.item_vectors),
        ("item", step.negatives, step.item_embeddings, data.item_vectors),
    ):
        kept = [int(n) for n in nodes if np.any(vectors[n] != 0)]
        a = rows[kept].detach().numpy().astype(np.float64)
        t = place[kind](vectors[kept]).astype(np.float64)
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        t /= np.linalg.norm(t, axis=1, keepdims=True)
        logits = a @ t.T / temperature
        total += float(np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits)))
    return total


@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_the_loss_is_that_of_the_paper(temperature):
    fusion = build(temperature=temperature, weight=0.5)
    step = batch(*embeddings())
    expected = 0.5 * by_the_book(fusion, step, temperature)
    assert float(fusion.loss(step).detach()) == pytest.approx(expected, rel=1e-4)


def test_with_many_nodes_steps_take_the_terms_in_turn(monkeypatch):
    """Three steps have the loss and the gradient of the paper's three terms, and a checkpoint continues the turn."""
    rows = [each.requires_grad_() for each in embeddings()]
    step = batch(*rows)
    together = build().loss(step)
    wanted = torch.autograd.grad(together, rows)
    monkeypatch.setattr("enhancer_plugins.fusers.align._TOGETHER", 0)
    fusion, losses, found = build(), [], [torch.zeros_like(each) for each in rows]
    for turn in range(3):
        if turn == 1:
            state = {name: tensor.clone() for name, tensor in fusion.state().items()}
            fusion = build()
            fusion.load_state(state)
        loss = fusion.loss(step)
        losses.append(float(loss.detach()))
        for total, gradient in zip(found, torch.autograd.grad(loss, rows, allow_unused=True), strict=True):
            if gradient is not None:
                total += gradient
    assert np.mean(losses) == pytest.approx(float(together.detach()), rel=1e-5)
    for total, gradient in zip(found, wanted, strict=True):
        torch.testing.assert_close(total / 3, gradient, rtol=1e-4, atol=1e-8)
    assert float(fusion.loss(step).detach()) == pytest.approx(losses[0], rel=1e-6)


def test_without_negatives_both_terms_are_computed_in_every_step(monkeypatch):
    step = batch(*embeddings())
    step = replace(step, negatives=step.negatives[:0])
    together = float(build().loss(step))
    monkeypatch.setattr("enhancer_plugins.fusers.align._TOGETHER", 0)
    assert float(build().loss(step)) == together


def test_nodes_without_a_vector_get_no_gradient():
    users, items = (rows.requires_grad_() for rows in embeddings())
    loss = build().loss(batch(users, items))
    to_users, to_items = torch.autograd.grad(loss, (users, items))
    assert not to_users[4].any()
    assert not to_items[planted().bare_item].any()
    assert to_users.any()
    assert to_items.any()


def test_a_bound_on_nodes_samples_the_step():
    users, items = (rows.requires_grad_() for rows in embeddings())
    fusion = build(nodes_per_step=5)
    (to_users,) = torch.autograd.grad(fusion.loss(batch(users, items)), users)
    assert int(to_users.any(1).sum()) == 5


def test_the_mlp_has_the_papers_widths_and_is_one_for_both_kinds():
    fusion = build()
    users, items = (fusion.place(kind, np.ones((3, 8), np.float32)) for kind in ("user", "item"))
    assert [layer.weight.shape for layer in users.layers] == [(12, 10), (10, 8)]
    assert [layer.activation for layer in users.layers] == ["leaky_relu", "none"]
    np.testing.assert_array_equal(users.layers[0].weight, items.layers[0].weight)


def test_placed_rows_have_the_typical_length():
    rows = np.array([[3.0, 4.0] + [0.0] * 6, [0.0] * 7 + [1.0]], np.float32)
    placement = build().place("item", rows)
    placed = placement(planted().data.item_vectors[:4])
    np.testing.assert_allclose(np.linalg.norm(placed, axis=1), 3.0, rtol=1e-5)


def test_unseen_nodes_are_placed_where_trained_ones_like_them_are():
    data = planted().data
    trained = np.unique(data.items)
    where = np.random.default_rng(3).standard_normal((data.item_vectors.shape[1], 8)).astype(np.float32)
    rows = data.item_vectors @ where
    fusions = (build(unseen="regression", regression="linear", unseen_length=length) for length in (None, 1.0))
    natural, placed = (fusion.place("item", rows[trained])(data.item_vectors) for fusion in fusions)
    known = np.any(data.item_vectors != 0, axis=1)
    lengths = np.linalg.norm(rows, axis=1)
    cosine = (placed * rows).sum(1)[known] / (np.linalg.norm(placed, axis=1) * lengths)[known]
    assert cosine.min() > 0.97
    np.testing.assert_allclose(np.linalg.norm(placed[known], axis=1), lengths[trained].mean(), rtol=1e-4)
    # With the length of the regression, rows of unusual length keep it.
    assert np.corrcoef(np.linalg.norm(natural[known], axis=1), lengths[known])[0, 1] > 0.95
    np.testing.assert_allclose(np.linalg.norm(natural[known], axis=1).mean(), lengths[known].mean(), rtol=0.1)


def test_minimising_it_draws_embeddings_to_their_vectors():
    fusion = build(weight=1.0)
    users, items = (rows.requires_grad_() for rows in embeddings())
    parameters = [users, items, *fusion.parameters()]
    for p in parameters:
        p.requires_grad_()
    optimiser = torch.optim.Adam(parameters, lr=0.05)
    losses = []
    for turn in range(40):
        optimiser.zero_grad()
        loss = fusion.loss(batch(users, items, seed=turn))
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]


def propagated(rows, layers=3):
    """Propagate all embeddings by a dense matrix and average the layers."""
    data = planted().data
    liked = np.zeros((110, 110))
    liked[data.users, data.items + 60] = 1
    liked += liked.T
    scale = 1 / np.sqrt(np.maximum(liked.sum(1), 1))
    matrix = scale[:, None] * liked * scale[None]
    return sum(np.linalg.matrix_power(matrix, k) @ rows for k in range(layers + 1)) / (layers + 1)


@pytest.mark.parametrize("engine", ["numba", "torch"])
def test_by_the_multinomial_users_and_positives_are_aligned_once_each(engine):
    """Without negatives, RLMRec's terms of users and of positives remain."""
    data = planted().data
    options = LightGCNOptions(dim=8, epochs=1, loss="multinomial", start="random", engine=engine, device="cpu")
    losses = []
    for fuser in (
        NoFusion(NoFusionOptions(), Context()),
        Align(AlignOptions(weight=0.5, temperature=0.3, nodes_per_step=0), Context()),
    ):
        fitted = LightGCN(options, Context()).fit_checked(data, fuser, seed=0, monitor=RecordingMonitor())
        losses.append(fitted.history[0]["loss"])
    start = 0.1 * torch.randn(110, 8, generator=generator(0, "embeddings")).double().numpy()
    users, items = np.split(propagated(start), [60])
    weights = {name: t.double().numpy() for name, t in build().state().items() if name != "random"}
    total = 0.0
    for nodes, rows, vectors in ((data.users, users, data.user_vectors), (data.items, items, data.item_vectors)):
        kept = nodes[vectors[nodes].any(1)]  # node of each interaction, with repetitions
        hidden = vectors[kept] @ weights["weight.0"] + weights["bias.0"]
        mapped = np.where(hidden > 0, hidden, 0.01 * hidden) @ weights["weight.1"] + weights["bias.1"]
        a, t = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (rows[kept], mapped))
        logits = a @ t.T / 0.3
        total += np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))
    assert losses[1] - losses[0] == pytest.approx(0.5 * total, rel=1e-4)
