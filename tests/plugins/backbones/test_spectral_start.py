import numpy as np
import pytest
import torch

from enhancer.contracts import Context, TrainingData
from enhancer.errors import ConfigError
from enhancer.testing.planted import PlainFuser, RecordingMonitor, planted
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.backbones.spectral_start import Likelihood, spectral_start
from enhancer_plugins.training.graph import BipartiteGraph

LIKELIHOOD = Likelihood((0.25,) * 4, temperature=1.0, penalty=1e-3)


def tastes(n_users=300, n_items=200, groups=6):
    """Return interactions of users with one of several tastes."""
    random = np.random.default_rng(0)
    same = np.arange(n_users)[:, None] % groups == np.arange(n_items) % groups
    users, items = np.nonzero(random.random(same.shape) < np.where(same, 0.25, 0.02))
    return TrainingData(n_users=n_users, n_items=n_items, users=users.astype(np.int32), items=items.astype(np.int32))


def start(data, dim, by=LIKELIHOOD, seed=0):
    graph = BipartiteGraph(data.n_users, data.n_items, data.users, data.items)
    return spectral_start(data, graph, dim, seed, by).numpy().astype(np.float64)


def normalised(data):
    matrix = np.zeros((data.n_users, data.n_items))
    matrix[data.users, data.items] = 1
    return matrix / np.sqrt(np.maximum(matrix.sum(1), 1))[:, None] / np.sqrt(np.maximum(matrix.sum(0), 1))


def penalised_loss(data, rows, by):
    """Return the penalised multinomial loss from its definition, over all users."""
    matrix = normalised(data)
    adjacency = np.block([[np.zeros((data.n_users,) * 2), matrix], [matrix.T, np.zeros((data.n_items,) * 2)]])
    layers = [rows]
    for _ in by.weights[1:]:
        layers.append(adjacency @ layers[-1])
    final = sum(weight * layer for weight, layer in zip(by.weights, layers, strict=True))
    users, items = final[: data.n_users], final[data.n_users :]
    logits = users @ items[np.unique(data.items)].T / by.temperature
    log_normaliser = np.log(np.exp(logits).sum(1))
    scores = (users[data.users] * items[data.items]).sum(1) / by.temperature
    drawn = (rows[data.users] ** 2).sum() + (rows[data.n_users + data.items] ** 2).sum()
    return np.mean(log_normaliser[data.users] - scores) + by.penalty / 2 * drawn / len(data.users)


def test_the_rows_are_those_of_the_singular_value_decomposition():
    data = tastes()
    left, values, right = np.linalg.svd(normalised(data))
    rows = start(data, 8)
    users, items = rows[: data.n_users], rows[data.n_users :]
    # The decomposition is unique up to signs and rotations, on which products of rows do not depend.
    for ours, vectors in ((users @ users.T, left[:, :6]), (items @ items.T, right[:6].T)):
        wanted = (vectors * values[:6] ** 2) @ vectors.T
        assert np.sum(ours * wanted) / np.linalg.norm(ours) / np.linalg.norm(wanted) > 0.9
    strengths = np.sort(np.linalg.norm(users, axis=0))[::-1]
    np.testing.assert_allclose(strengths[:6] / strengths[0], values[:6] / values[0], rtol=0.02)
    np.testing.assert_allclose(np.linalg.norm(users, axis=0), np.linalg.norm(items, axis=0), rtol=1e-2)


@pytest.mark.parametrize("penalty", [1e-4, 1e-2])
@pytest.mark.parametrize("weights", [(0.25,) * 4, (1.0,), (0.0, 1.0)])
def test_the_scale_is_that_of_the_smallest_loss(weights, penalty):
    data, by = tastes(), Likelihood(weights, 0.5, penalty)
    rows = start(data, 8, by)
    losses = [penalised_loss(data, factor * rows, by) for factor in (0.8, 1.0, 1.25)]
    assert losses[1] <= min(losses) + 1e-3
    assert losses[1] < penalised_loss(data, 0 * rows, by)


def test_columns_beyond_the_rank_are_zero():
    data = planted().data
    rows = start(data, 64)
    assert np.isfinite(rows).all()
    assert np.linalg.matrix_rank(rows, tol=1e-3 * np.linalg.norm(rows, 2)) <= 46
    untrained = np.setdiff1d(np.arange(data.n_users), data.users)
    assert not rows[untrained].any()


def test_one_user_and_one_item():
    data = TrainingData(n_users=1, n_items=1, users=np.zeros(1, np.int32), items=np.zeros(1, np.int32))
    assert np.isfinite(start(data, 4)).all()


def fit(data, **options):
    backbone = LightGCN(LightGCNOptions(loss="multinomial", dim=16, **options), Context())
    return backbone.fit_checked(data, PlainFuser(), seed=options.pop("seed", 0), monitor=RecordingMonitor())


def test_training_from_there_needs_fewer_epochs():
    data = tastes()
    spectral, random = (
        [entry["loss"] for entry in fit(data, epochs=60, start=way, learning_rate=0.08, regularisation=0.9).history]
        for way in ("spectral", "random")
    )
    assert spectral[14] < random[44]
    assert spectral[-1] == pytest.approx(random[-1], rel=0.01)


def test_the_start_does_not_depend_on_the_engine():
    data = tastes()
    one, other = (fit(data, epochs=0, engine=engine).factors for engine in ("numba", "torch"))
    np.testing.assert_allclose(one.items, other.items, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        again = fit(data, epochs=0).factors
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(one.items, again.items)


def test_the_start_goes_with_the_multinomial_alone():
    assert LightGCNOptions(loss="multinomial").in_effect("start") == "spectral"
    assert LightGCNOptions(loss="multinomial", similarity="cosine").in_effect("start") == "random"
    assert LightGCNOptions().in_effect("start") == "random"
    with pytest.raises(ConfigError, match="start = 'spectral' requires loss = 'multinomial'"):
        LightGCN(LightGCNOptions(start="spectral"), Context())
