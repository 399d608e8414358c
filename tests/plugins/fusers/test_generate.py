import numpy as np
import pytest
import torch

from enhancer.contracts import Batch, Context
from enhancer.errors import FusionError
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.generate import Generate, GenerateOptions
from enhancer_plugins.fusers.semantic import Semantic, SemanticOptions


def build(seed=0, **options):
    return Generate(GenerateOptions(**options), Context()).build(planted().data, 8, seed=seed, device="cpu")


def embeddings():
    data, generator = planted().data, torch.Generator().manual_seed(3)
    return [torch.randn(n, 8, generator=generator) for n in (data.n_users, data.n_items)]


def batch(users, items):
    nothing = torch.zeros(0, dtype=torch.int64)
    return Batch(nothing, nothing, nothing, users, items)


def test_a_share_of_the_nodes_with_a_vector_is_masked_in_training_alone():
    fusion, (users, items) = build(mask=0.2), embeddings()
    served = fusion.embeddings(users, items, training=False)
    assert served[0] is users
    assert served[1] is items
    masked = torch.cat(fusion.embeddings(users, items, training=True))
    changed = (masked != torch.cat([users, items])).any(1).nonzero().squeeze(1)
    data = planted().data
    vectors = np.concatenate([data.user_vectors, data.item_vectors])
    seen = np.concatenate([np.isin(np.arange(data.n_users), data.users), np.isin(np.arange(data.n_items), data.items)])
    candidates = np.flatnonzero(vectors.any(1) & seen)
    assert len(changed) == round(0.2 * len(candidates))
    assert set(changed.tolist()) <= set(candidates.tolist())
    assert len(torch.unique(masked[changed], dim=0)) == 1  # all masked nodes have the same embedding


def test_the_loss_is_info_nce_between_predictions_and_vectors():
    fusion, (users, items) = build(weight=0.5, temperature=0.3), embeddings()
    masked = torch.cat(fusion.embeddings(users, items, training=True))
    nodes = (masked != torch.cat([users, items])).any(1).nonzero().squeeze(1)
    got = float(fusion.loss(batch(users, items)).detach())
    weights = {name: t.double().numpy() for name, t in fusion.state().items() if name.startswith(("weight", "bias"))}
    x = torch.cat([users, items])[nodes].double().numpy()
    hidden = x @ weights["weight.0"] + weights["bias.0"]
    predicted = np.where(hidden > 0, hidden, 0.01 * hidden) @ weights["weight.1"] + weights["bias.1"]
    data = planted().data
    own = np.concatenate([data.user_vectors, data.item_vectors])[nodes.numpy()].astype(np.float64)
    predicted, own = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (predicted, own))
    logits = predicted @ own.T / 0.3
    expected = 0.5 * np.mean(np.log(np.exp(logits).sum(1)) - np.diag(logits))
    assert got == pytest.approx(expected, rel=1e-4)


def test_unseen_nodes_are_placed_by_ridge_regression_on_the_trained_ones():
    from sklearn.linear_model import Ridge

    fusion, data = build(regression="linear"), planted().data
    seen = np.flatnonzero(np.isin(np.arange(data.n_items), data.items))
    target = torch.randn(len(seen), 8, generator=torch.Generator().manual_seed(1))
    placed = fusion.place("item", target.numpy())(data.item_vectors)
    has = data.item_vectors[seen].any(1)
    x, y = data.item_vectors[seen][has].astype(np.float64), target.numpy()[has]
    counts = np.bincount(data.items, minlength=data.n_items)[seen][has]
    weights = counts / (counts + 1)
    centred = x - np.average(x, 0, weights)
    unit = np.mean((weights[:, None] * centred**2).sum(0))

    def left_out_error(penalty):
        """Return the error of predicting each item from all others."""
        rest = [np.delete(np.arange(len(x)), row) for row in range(len(x))]
        models = [Ridge(alpha=penalty * unit).fit(x[some], y[some], sample_weight=weights[some]) for some in rest]
        predicted = np.stack([model.predict(x[[row]])[0] for row, model in enumerate(models)])
        return float((weights[:, None] * (predicted - y) ** 2).sum())

    penalty = min((digit * 10.0**power for power in range(-4, 3) for digit in (1, 3)), key=left_out_error)
    expected = Ridge(alpha=penalty * unit).fit(x, y, sample_weight=weights).predict(data.item_vectors)
    np.testing.assert_allclose(placed, expected, rtol=1e-3, atol=1e-4)
    placed = build(regression="linear", unseen_length=2.0).place("item", target.numpy())(data.item_vectors)
    expected *= 2 * np.linalg.norm(target.numpy(), axis=1).mean() / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(placed, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "backbone",
    [
        LightGCN(LightGCNOptions(layers=0), Context()),
        LightGCN(LightGCNOptions(layers=0, layer_weights=[1]), Context()),
        LightGCN(LightGCNOptions(layer_weights=[1, 0, 0, 0]), Context()),
        FM(FMOptions(), Context()),
    ],
    ids=["no layers", "no layers, weighted", "the input alone", "fm"],
)
def test_a_backbone_that_does_not_propagate_is_refused_before_training(backbone):
    """All masked nodes would have the same embedding, from which no vector can be predicted."""
    fuser = Generate(GenerateOptions(), Context())
    with pytest.raises(FusionError, match=r"needs .*embeddings that depend on a node's neighbours \(propagation\)"):
        fuser.check(backbone)
    with pytest.raises(FusionError, match="propagation"):
        backbone.fit_checked(planted().data, fuser, seed=0, monitor=RecordingMonitor())


@pytest.mark.parametrize("options", [{"layers": 1}, {"layer_weights": "sum"}, {"layer_weights": [0, 0, 0, 1]}])
def test_one_that_does_is_taken(options):
    Generate(GenerateOptions(), Context()).check(LightGCN(LightGCNOptions(**options), Context()))


def test_without_propagation_other_fusers_go_on():
    backbone = LightGCN(LightGCNOptions(layers=0, dim=8, epochs=2), Context())
    fuser = Semantic(SemanticOptions(), Context())  # it does not depend on neighbours
    fuser.check(backbone)
    fitted = backbone.fit_checked(planted().data, fuser, seed=0, monitor=RecordingMonitor())
    assert np.isfinite(fitted.factors.items).all()
