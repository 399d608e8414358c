import itertools

import numpy as np
import pytest
import torch

from enhancer.contracts import Context
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.factorisation.model import FMModel
from enhancer_plugins.fusers.concat import Concat, ConcatOptions
from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions
from enhancer_plugins.training.loop import Outcome
from enhancer_plugins.training.model import Recipe
from enhancer_plugins.training.sampler import TripletSampler

RECIPE = Recipe(dim=6, learning_rate=0.05, regularisation=1e-3, batch_size=None, init_std=0.3, device="cpu")


def direct(fields, linear, factors):
    """Compute Rendle's eq. 1 pair by pair, in float64."""
    score = sum(x * w for x, w in zip(fields, linear, strict=True))
    for i, j in itertools.combinations(range(len(fields)), 2):
        score += float(factors[i] @ factors[j]) * fields[i] * fields[j]
    return score


def trained(fuser):
    model = FMModel(RECIPE, planted().data, fuser, seed=0)
    for epoch in (1, 2, 3):
        model.train_epoch(epoch)
    return model


def test_inner_products_equal_the_model_equation():
    data = planted().data
    model = trained(Concat(ConcatOptions(scale=1.5), Context()))
    p = {name: t.detach().numpy().astype(np.float64) for name, t in model.parameters.items()}
    assert np.abs(p["item_linear"]).max() > 0.01
    factors = model.factors()
    for u, i in ((0, 0), (3, 8), (4, 21), (11, 49), (50, 30)):
        fields = [
            1,
            1,
            *(1.5 * data.user_vectors[u].astype(np.float64)),
            *(1.5 * data.item_vectors[i].astype(np.float64)),
        ]
        linear = [0, p["item_bias"][i, 0], *np.zeros(12), *p["item_linear"][:, 0]]
        vectors = [p["users"][u], p["items"][i], *p["user_fields"], *p["item_fields"]]
        np.testing.assert_allclose(
            factors.users[u] @ factors.items[i], direct(fields, linear, vectors), rtol=1e-4, atol=1e-5
        )


def test_without_fields_it_is_factors_and_a_bias():
    model = trained(NoFusion(NoFusionOptions(), Context()))
    users, items, bias = (model.parameters[name].detach().numpy() for name in ("users", "items", "item_bias"))
    factors = model.factors()
    seen = np.ix_(np.setdiff1d(np.arange(60), [7]), np.setdiff1d(np.arange(50), planted().cold_items))
    np.testing.assert_allclose(
        (factors.users @ factors.items.T)[seen], (users @ items.T + bias.T)[seen], rtol=1e-4, atol=1e-6
    )


def test_a_placed_item_is_the_models_own_but_for_its_second_order():
    """The factors of an item placed by its fields are exact; its bias is the best linear fit."""
    case = planted()
    model = trained(Concat(ConcatOptions(scale=1.0), Context()))
    placement = model.fitted(Outcome(), RecordingMonitor()).place_items
    p = {name: t.detach() for name, t in model.parameters.items()}
    x = torch.from_numpy(case.data.item_vectors)
    seen = torch.from_numpy(np.bincount(case.data.items, minlength=50) > 0)
    neutral = p["items"][seen].mean(0)
    rows = placement(case.data.item_vectors)
    total = neutral + x @ p["item_fields"]
    np.testing.assert_allclose(rows[:, :6], total.numpy(), rtol=1e-4, atol=1e-5)
    squares = x.square() @ p["item_fields"].square().sum(1)
    exact = (total.square().sum(1) - neutral.square().sum() - squares) / 2
    exact = (exact + (x @ p["item_linear"]).squeeze(1) + p["item_bias"][seen].mean()).numpy()
    seen = seen.numpy()
    assert rows[seen, 6].mean() == pytest.approx(exact[seen].mean(), rel=1e-3, abs=1e-4)
    assert np.corrcoef(rows[seen, 6], exact[seen])[0, 1] > 0.8
    np.testing.assert_allclose(rows[:, 7], 1)


class Plain:
    """Compute Rendle's eq. 1 of a row of features, field by field and pair by pair, independently of the model."""

    def __init__(self, start, user_columns, item_columns):
        self.p = {name: t.clone().requires_grad_() for name, t in start.items()}
        self.columns = user_columns, item_columns

    def score(self, users, items):
        x = torch.cat([torch.ones(len(users), 2), self.columns[0][users], self.columns[1][items]], 1)
        n_user, n_item = self.columns[0].shape[1], self.columns[1].shape[1]
        factors = [self.p["users"][users], self.p["items"][items]]
        factors += [row.expand(len(users), -1) for row in (*self.p["user_fields"], *self.p["item_fields"])]
        weights = [torch.zeros(len(users)), self.p["item_bias"][items, 0]]
        weights += [torch.zeros(len(users))] * n_user + [w.expand(len(users)) for w in self.p["item_linear"]]
        y = torch.zeros(len(users))
        for f in range(2 + n_user + n_item):
            y = y + weights[f] * x[:, f]
            for g in range(f):
                y = y + (factors[f] * factors[g]).sum(1) * x[:, f] * x[:, g]
        return y

    def loss(self, users, positives, negatives, regularisation):
        loss = torch.nn.functional.softplus(self.score(users, negatives) - self.score(users, positives)).mean()
        squares = self.p["users"][users].square().sum()
        for items in (positives, negatives):
            squares = squares + self.p["items"][items].square().sum() + self.p["item_bias"][items].square().sum()
            squares = squares + len(items) * (
                self.p["item_fields"].square().sum() + self.p["item_linear"].square().sum()
            )
        squares = squares + len(users) * self.p["user_fields"].square().sum()
        return loss + regularisation / 2 * squares / len(users)


def test_it_trains_as_a_plain_machine_does():
    """Autograd and torch's own Adam on pair-by-pair scores give the same losses and the same parameters."""
    from dataclasses import replace

    data = planted().data
    recipe = replace(RECIPE, batch_size=400, learning_rate=0.01)
    model = FMModel(recipe, data, Concat(ConcatOptions(scale=1.5), Context()), seed=0, field_rate=0.002)
    columns = [torch.from_numpy(v) * 1.5 for v in (data.user_vectors, data.item_vectors)]
    plain = Plain({name: t.detach() for name, t in model.parameters.items()}, *columns)
    slow = ("user_fields", "item_fields", "item_linear")
    adam = torch.optim.Adam(
        [{"params": [p], "lr": 0.002 if name in slow else 0.01} for name, p in plain.p.items()], eps=1e-8
    )
    for epoch in (1, 2):
        total = []
        for triples in TripletSampler(data, 0).steps(epoch, 400):
            loss = plain.loss(*triples, recipe.regularisation)
            adam.zero_grad()
            loss.backward()
            adam.step()
            total.append(float(loss.detach()))
        assert model.train_epoch(epoch) == pytest.approx(np.mean(total), rel=1e-5)
    for name, parameter in model.parameters.items():
        torch.testing.assert_close(parameter.detach(), plain.p[name].detach(), rtol=1e-3, atol=2e-5)
