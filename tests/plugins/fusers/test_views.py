"""Inputs side by side: none drowns another, whatever the scale of its vectors."""

from dataclasses import replace

import numpy as np
import pytest

from enhancer.contracts import Context, View
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.adapter import Adapter, AdapterOptions
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.fusers.concat import Concat, ConcatOptions
from enhancer_plugins.fusers.extrapolate import Extrapolate, ExtrapolateOptions
from enhancer_plugins.fusers.generate import Generate, GenerateOptions
from enhancer_plugins.fusers.prior import Prior, PriorOptions
from enhancer_plugins.fusers.semantic import Semantic, SemanticOptions
from enhancer_plugins.training.semantic_vectors import view_scale

FUSERS = {
    "prior": (Prior, PriorOptions()),
    "prior-linear": (Prior, PriorOptions(regression="linear")),
    "prior-gate": (Prior, PriorOptions(views="gate")),
    "align": (Align, AlignOptions()),
    "align-mlp": (Align, AlignOptions(unseen="mlp")),
    "concat": (Concat, ConcatOptions()),
    "concat-projected": (Concat, ConcatOptions(projection=8)),
    "adapter": (Adapter, AdapterOptions(learning_rate=0.01)),
    "generate": (Generate, GenerateOptions()),
    "semantic": (Semantic, SemanticOptions(negatives=16, learning_rate=0.01)),
    "extrapolate": (Extrapolate, ExtrapolateOptions(learning_rate=0.01)),
}


def two_inputs(factor):
    """The planted vectors beside noise, which is longer by a factor."""
    data = planted().data
    width, random = data.item_vectors.shape[1], np.random.default_rng(0)
    made = {}
    for name, vectors in (("user_vectors", data.user_vectors), ("item_vectors", data.item_vectors)):
        noise = random.standard_normal(vectors.shape)
        noise *= np.linalg.norm(vectors, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
        made[name] = np.concatenate([vectors, factor * noise], 1).astype(np.float32)
    return replace(data, **made, views=(View("told", 0, width), View("noise", width, 2 * width)))


def scores(data, fuser, options):
    backbone = LightGCN(LightGCNOptions(dim=16, epochs=2, batch_size=256, learning_rate=0.01), Context())
    fitted = backbone.fit_checked(data, fuser(options, Context()), seed=0, monitor=RecordingMonitor())
    return fitted.factors.users @ fitted.factors.items.T, fitted


@pytest.mark.parametrize("name", FUSERS)
def test_an_input_whose_vectors_are_long_changes_nothing(name):
    fuser, options = FUSERS[name]
    even, uneven = (scores(two_inputs(factor), fuser, options)[0] for factor in (1.0, 30.0))
    assert np.corrcoef(even.ravel(), uneven.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("name", [name for name in FUSERS if name not in {"prior", "generate", "extrapolate"}])
def test_vectors_are_placed_as_they_are(name):
    """A placement takes the vectors of the store: rows of unseen items are those that it maps their vectors to."""
    data = two_inputs(30.0)
    _, fitted = scores(data, *FUSERS[name])
    cold = planted().cold_items
    placed = fitted.place_items(data.item_vectors[cold])
    np.testing.assert_allclose(placed, fitted.factors.items[cold], rtol=1e-4, atol=1e-5)


def test_several_inputs_have_the_length_of_one():
    assert view_scale(planted().data) is None
    data = two_inputs(3.0)
    rows = (data.item_vectors * view_scale(data))[data.item_vectors.any(1)]
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=0.05)
    lengths = [np.linalg.norm(rows[:, view.columns], axis=1).mean() for view in data.views]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.05)
