"""Gradients from the drawn rows, compared with torch's gradients through all rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from enhancer.contracts import Context, Fuser, Fusion, Options, Placement, SideFeatures, TrainingData, WideInput
from enhancer.testing.planted import RecordingMonitor
from enhancer_plugins.backbones.factorisation import drawn_rows
from enhancer_plugins.backbones.factorisation.click_model import ClickModel, Labelled
from enhancer_plugins.backbones.factorisation.constant_fit import ConstantFit
from enhancer_plugins.backbones.factorisation.model import FMModel
from enhancer_plugins.fusers.adapter import Adapter, AdapterOptions
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.fusers.concat import Concat, ConcatOptions
from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions
from enhancer_plugins.fusers.prior import Prior, PriorOptions
from enhancer_plugins.training.loop import Outcome
from enhancer_plugins.training.losses.bpr import bpr_reference
from enhancer_plugins.training.model import Recipe
from enhancer_plugins.training.placing.regression import ridge_regression
from enhancer_plugins.training.sampler import Triples

N_USERS, N_ITEMS, WIDTH = 60, 90, 11
RECIPE = Recipe(dim=6, learning_rate=0.02, regularisation=0.1, batch_size=40, init_std=0.3, device="cpu")


class Squares(Fuser):
    """A third-party fuser with trained columns that does not override ``inputs_of``."""

    needs = frozenset({"input"})

    def build(self, data, dim, *, seed, device):
        del dim, seed, device

        class Live(Fusion):
            weight = torch.linspace(-1, 1, WIDTH)

            def parameters(self):
                return (self.weight,)

            def inputs(self):
                vectors = (torch.from_numpy(data.user_vectors), torch.from_numpy(data.item_vectors))
                return WideInput(*((v * self.weight).square() for v in vectors), constant=False)

            def place(self, kind, embeddings) -> Placement | None:
                del kind, embeddings

        return Live()


FUSERS = {
    "none": lambda: NoFusion(NoFusionOptions(), Context()),
    "concat": lambda: Concat(ConcatOptions(), Context()),
    "projection": lambda: Concat(ConcatOptions(projection=5), Context()),
    "adapter": lambda: Adapter(AdapterOptions(columns=4, hidden=7), Context()),
    "a stranger": lambda: Squares(Options(), Context()),
}


def world(*, features):
    random = np.random.default_rng(0)
    users, items = np.nonzero(random.random((N_USERS, N_ITEMS)) < 0.1)
    vectors = [random.standard_normal((n, WIDTH)).astype(np.float32) for n in (N_USERS, N_ITEMS)]
    for table in vectors:
        table[::9] = 0
    tables = [random.standard_normal((n, 5)) * (random.random((n, 5)) < 0.5) for n in (N_USERS, N_ITEMS)]
    sides = [SideFeatures.of(table.astype(np.float32)) if features else None for table in tables]
    return TrainingData(
        n_users=N_USERS,
        n_items=N_ITEMS,
        users=users.astype(np.int32),
        items=items.astype(np.int32),
        user_vectors=vectors[0],
        item_vectors=vectors[1],
        user_features=sides[0],
        item_features=sides[1],
        labels=(random.random(len(users)) < 0.6).astype(np.float32),
    )


def shaken(model):
    """Perturb all parameters, because some start at zero."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.trainable.values():
            parameter += 0.2 * torch.randn(parameter.shape, generator=random)
    return model


def triples(model, b=40):
    random = np.random.default_rng(2)
    columns = [random.integers(0, n, b) for n in (model.data.n_users, model.data.n_items, model.data.n_items)]
    columns[2][:4] = columns[1][:4]  # the negative of a user of all items is the positive itself
    columns[0][5:9] = columns[0][5]
    return Triples(*(torch.from_numpy(column) for column in columns))


def assert_equal_gradients(found, loss, trained):
    wanted = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
    for name, gradient in zip(trained, wanted, strict=True):
        ours = found.get(name)
        if gradient is None:
            assert ours is None or not ours.any(), name
            continue
        assert ours.shape == gradient.shape, name
        torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-6 * (1 + float(gradient.abs().max())), msg=name)


@pytest.fixture(params=[1 << 20, 3 * WIDTH], ids=["at once", "in blocks"])
def _held(request, monkeypatch):
    monkeypatch.setattr(drawn_rows, "_MAX_GATHERED", request.param)


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize("features", [False, True], ids=["ids", "features"])
@pytest.mark.parametrize("fuser", FUSERS)
def test_gradients_of_bpr_are_those_of_torch_over_all_rows(fuser, features):
    model = shaken(FMModel(RECIPE, world(features=features), FUSERS[fuser](), seed=0))
    step = triples(model)
    for again in range(2):  # buffers of one step must not affect the next one
        step = Triples(*(column.roll(again) + 0 for column in step))
        users, items, extra, _ = model.score_rows(step)
        loss = bpr_reference(users, items, step, extra)
        found = model.gradients(step)
        assert found.loss == pytest.approx(float(loss.detach()), rel=1e-5)
        assert_equal_gradients(found.by, loss, model.trainable)
        step = Triples(*(column[:13] for column in step))


@pytest.mark.usefixtures("_held")
@pytest.mark.parametrize("features", [False, True], ids=["ids", "features"])
@pytest.mark.parametrize("fuser", FUSERS)
def test_gradients_of_log_loss_are_those_of_torch_over_all_rows(fuser, features):
    model = shaken(ClickModel(RECIPE, world(features=features), FUSERS[fuser](), seed=0))
    users, items, _ = triples(model)
    labels = (torch.arange(len(users)) % 3 == 0).float()
    loss = model.loss(Labelled(users, items, labels))
    found = model.gradients(Labelled(users, items, labels))
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-5)
    assert_equal_gradients(found.by, loss, model.trainable)


@pytest.mark.parametrize("kind", [FMModel, ClickModel])
@pytest.mark.parametrize("fuser", FUSERS)
def test_an_epoch_is_that_of_the_reference(fuser, kind):
    made = []
    for engine in ("numba", "torch"):
        recipe = Recipe(6, 1e-3, 0.1, 40, 0.3, "cpu", engine)
        model = kind(recipe, world(features=True), FUSERS[fuser](), seed=0)
        assert (model.row_steps is None) is (engine == "torch")
        losses = [model.train_epoch(epoch) for epoch in (1, 2)]
        made.append((losses, model.factors()))
    assert made[0][0] == pytest.approx(made[1][0], rel=1e-5)
    for side in ("users", "items"):
        ours, wanted = (getattr(factors, side) for _, factors in made)
        np.testing.assert_allclose(ours, wanted, rtol=1e-3, atol=2e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", [FMModel, ClickModel])
@pytest.mark.parametrize("cold", [False, True], ids=["all trained", "some unseen"])
@pytest.mark.parametrize("fuser", [*FUSERS, "align", "prior"])
def test_a_look_shows_what_would_be_served(fuser, cold, kind):
    data = world(features=False)
    if cold:
        kept = (data.items > 5) & (data.users < 50)
        data = replace(data, users=data.users[kept], items=data.items[kept], labels=data.labels[kept])
    others = {
        "align": lambda: Align(AlignOptions(), Context()),
        "prior": lambda: Prior(PriorOptions(users=1.0), Context()),
    }
    model = kind(RECIPE, data, (FUSERS | others)[fuser](), seed=0)
    model.train_epoch(1)
    for _ in range(2):
        look, served = model.factors(), model.fitted(Outcome(), RecordingMonitor()).factors
        np.testing.assert_array_equal(look.users, served.users)
        np.testing.assert_array_equal(look.items, served.items)


@pytest.mark.parametrize("n", [5, 300])
def test_a_fit_on_constant_columns_is_the_fit(n):
    random = np.random.default_rng(0)
    columns = (random.standard_normal((n, 12)) + 3).astype(np.float32)
    fit = ConstantFit(torch.from_numpy(columns), ridge=1e-3)
    for _ in range(2):
        levels = (columns @ random.standard_normal(12) + random.standard_normal(n)).astype(np.float32)
        slope, level = fit(levels)
        wanted = ridge_regression(columns.astype(np.float64), levels[:, None].astype(np.float64), ridge=1e-3)
        np.testing.assert_allclose(slope, wanted[0][:, 0], rtol=1e-6, atol=1e-9)
        assert level == pytest.approx(float(wanted[1][0]), rel=1e-6)
