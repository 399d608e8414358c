"""Several profiles of a node, mixed at random."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from enhancer.contracts import Context, TrainingStep, View
from enhancer.errors import FusionError
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.extrapolate import Extrapolate, ExtrapolateOptions

ALONE = {"spread": 0.0, "invariance": 0.0}


def several(data):
    """The planted data with two inputs of equal width, the second of which some nodes lack."""
    half = data.item_vectors.shape[1] // 2
    items, users = data.item_vectors[:, : 2 * half].copy(), data.user_vectors[:, : 2 * half].copy()
    items[::5, half:] = 0
    return replace(
        data, item_vectors=items, user_vectors=users, views=(View("plot", 0, half), View("mood", half, 2 * half))
    )


DATA = several(planted().data)


def build(data=DATA, **options):
    return Extrapolate(ExtrapolateOptions(**options), Context()).build_checked(data, 16, seed=0)


def step(data=DATA, seed=0, n=40):
    random = torch.Generator().manual_seed(seed)
    users, items = (
        torch.randn(rows, 16, generator=random, requires_grad=True) for rows in (data.n_users, data.n_items)
    )
    drawn = (torch.randint(rows, (n,), generator=random) for rows in (data.n_users, data.n_items, data.n_items))
    return TrainingStep(*drawn, users, items)


def mapped(fusion, kind, views=DATA.views):
    """Map each profile of each node by the MLP, row by row."""
    vectors = DATA.user_vectors if kind == "user" else DATA.item_vectors
    found = np.zeros((len(vectors), len(views), 16))
    for row, vector in enumerate(vectors):
        for number, view in enumerate(views):
            part = vector[view.columns]
            if part.any():
                unit = torch.from_numpy(part / np.linalg.norm(part))[None]
                found[row, number] = fusion._mlp(unit).detach().numpy()[0]
    return found


def test_the_loss_is_that_of_embeddings_plus_a_mixture_of_profiles():
    """With a huge concentration every environment mixes all profiles alike, so that the loss has a closed form."""
    fusion, examples = build(alpha=1e6, environments=2, spread=0.0), step()
    users = examples.user_embeddings.detach().numpy() + mapped(fusion, "user").mean(1)
    items = examples.item_embeddings.detach().numpy() + mapped(fusion, "item").mean(1)
    difference = items[examples.positives] - items[examples.negatives]
    wanted = np.log1p(np.exp(-(users[examples.users] * difference).sum(1))).mean()
    assert float(fusion.ranking_loss(examples).detach()) == pytest.approx(wanted, rel=2e-3)


def test_a_loss_that_differs_between_environments_costs_its_variance():
    losses = [
        float(build(**{**ALONE, "invariance": weight}).ranking_loss(step()).detach()) for weight in (0.0, 1.0, 2.0)
    ]
    assert losses[1] > losses[0]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3)
    alone = [
        float(build(**{**ALONE, "invariance": w}, environments=1).ranking_loss(step()).detach()) for w in (0.0, 9.0)
    ]
    assert alone[0] == alone[1]


def test_served_rows_are_embeddings_plus_the_mean_of_the_profiles_that_there_are():
    fusion = build()
    rows = np.random.default_rng(0).standard_normal((DATA.n_items, 16)).astype(np.float32)
    has = np.stack([DATA.item_vectors[:, view.columns].any(1) for view in DATA.views], 1)
    wanted = rows + mapped(fusion, "item").sum(1) / np.maximum(has.sum(1), 1)[:, None]
    np.testing.assert_allclose(fusion.settle("item", rows), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", ["spread", "reshape", "retrieve"])
def test_each_further_loss_adds_gradients(option):
    losses = []
    for weight in (0.0, 1.0, 2.0):
        fusion, examples = build(**{**ALONE, option: weight, "nodes_per_step": 1000}), step()
        losses.append(fusion.ranking_loss(examples))
    values = [float(loss.detach()) for loss in losses]
    if option == "retrieve":  # drawing the order of nodes does not change the terms
        assert values[1] != values[0]
    assert values[2] - values[1] == pytest.approx(values[1] - values[0], rel=1e-3)
    assert abs(values[1] - values[0]) > 1e-3
    losses[-1].backward()
    assert examples.item_embeddings.grad.abs().sum() > 0


def test_reshaping_is_least_where_scores_follow_the_vectors():
    """Embeddings whose cosines are those of the vectors have the cross entropy of the distribution with itself."""
    fusion = build(reshape=1.0, **ALONE)
    examples = step()
    known = fusion._semantics.known["user"][examples.users]
    users = torch.unique(examples.users[known])
    like = TrainingStep(
        examples.users,
        examples.positives,
        examples.negatives,
        fusion._units["user"],
        fusion._units["item"],
    )
    wild = TrainingStep(
        examples.users,
        examples.positives,
        examples.negatives,
        fusion._units["user"].flip(0),
        fusion._units["item"],
    )
    assert fusion._reshaping(like, users) < fusion._reshaping(wild, users)


def test_retrieved_pairs_are_the_most_similar_that_a_user_has_not_taken():
    pairs = build(retrieve=1.0, retrieved=3)._pairs.to_dense().numpy() > 0
    taken = np.zeros_like(pairs)
    taken[DATA.users, DATA.items] = True
    assert not (pairs & taken).any()
    unit = {}
    for kind, vectors in (("user", DATA.user_vectors), ("item", DATA.item_vectors)):
        parts = [vectors[:, view.columns] for view in DATA.views]
        parts = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12) for part in parts]
        whole = np.concatenate(parts, 1)
        unit[kind] = whole / np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1e-12)
    scores = unit["user"] @ unit["item"].T
    trained = np.bincount(DATA.items, minlength=DATA.n_items) > 0
    allowed = trained & DATA.item_vectors.any(1) & ~taken
    for user in np.flatnonzero(pairs.any(1)):
        best = np.sort(scores[user, allowed[user]])[::-1][:3]
        np.testing.assert_allclose(np.sort(scores[user, pairs[user]])[::-1], best, rtol=1e-5)


@pytest.mark.parametrize("more", [{}, {"reshape": 0.5, "retrieve": 0.1}], ids=["proex", "promax"])
def test_it_learns_from_several_inputs(more):
    backbone = LightGCN(LightGCNOptions(dim=16, epochs=12, batch_size=256, learning_rate=0.05), Context())
    fuser = Extrapolate(ExtrapolateOptions(learning_rate=0.01, **more), Context())
    case = planted()
    fitted = backbone.fit_checked(DATA, fuser, seed=0, monitor=RecordingMonitor())
    scores = fitted.factors.users @ fitted.factors.items[case.cold_items].T
    likes = case.taste[:, None] == case.block[case.cold_items]
    assert scores[likes].mean() > scores[~likes].mean()


def test_inputs_of_different_lengths_are_refused_in_words():
    width = DATA.item_vectors.shape[1]
    uneven = replace(DATA, views=(View("plot", 0, 1), View("mood", 1, width)))
    with pytest.raises(FusionError, match=f"plot 1, mood {width - 1}"):
        build(uneven)
