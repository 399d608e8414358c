"""Side features and log loss, compared with an independent textbook implementation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from enhancer.contracts import Context, SideFeatures
from enhancer.errors import ConfigError, DataError
from enhancer.testing.planted import PlainFuser, RecordingMonitor, planted
from enhancer_plugins.backbones.factorisation.additive_fit import AdditiveFit
from enhancer_plugins.backbones.factorisation.click_model import ClickModel, LabelledSampler
from enhancer_plugins.backbones.factorisation.model import FMModel
from enhancer_plugins.backbones.fm import FM, FMOptions
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.align import Align, AlignOptions
from enhancer_plugins.fusers.concat import Concat, ConcatOptions
from enhancer_plugins.training.loop import Outcome
from enhancer_plugins.training.model import Recipe
from enhancer_plugins.training.sampler import TripletSampler

RECIPE = Recipe(dim=5, learning_rate=0.02, regularisation=0.1, batch_size=200, init_std=0.3, device="cpu")
SCALE = 1.5


def with_features(seed=0):
    """Return the planted data with tags, a category and a number of both sides, some of them missing, and labels."""
    rng = np.random.default_rng(seed)
    case = planted()
    tables = []
    for n in (60, 50):
        tags = (rng.random((n, 4)) < 0.4).astype(float)
        tags /= np.maximum(tags.sum(1, keepdims=True), 1)
        category = np.eye(3)[rng.integers(0, 3, n)]
        number = rng.standard_normal((n, 1))
        table = np.hstack([tags, category, number])
        table[rng.random(n) < 0.1] = 0
        tables.append(table.astype(np.float32))
    labels = (rng.random(len(case.data.users)) < 0.6).astype(np.float32)
    users, items = (SideFeatures.of(table) for table in tables)
    return case, replace(case.data, user_features=users, item_features=items), labels


class Textbook:
    """Rendle 2010, eq. 1, in float64, over rows ``x`` with a column for every id, feature and vector column.

    ``y(x) = w_0 + sum_i w_i x_i + sum_i sum_{j > i} <v_i, v_j> x_i x_j``, pair by pair.
    """

    def __init__(self, data, parameters, *, dense):
        n_users, n_items = data.n_users, data.n_items
        blocks = [("users", "user_bias", np.eye(n_users), np.zeros((n_items, n_users)))]
        blocks.append(("items", "item_bias", np.zeros((n_users, n_items)), np.eye(n_items)))
        for kind, features, vectors in (
            ("user", data.user_features, data.user_vectors),
            ("item", data.item_features, data.item_vectors),
        ):
            tables = [(f"{kind}_side", f"{kind}_side_linear", features.dense())]
            if dense:
                tables.append((f"{kind}_fields", f"{kind}_linear", SCALE * vectors))
            for name, linear, table in tables:
                nothing = np.zeros((n_items if kind == "user" else n_users, table.shape[1]))
                both = (table, nothing) if kind == "user" else (nothing, table)
                blocks.append((name, linear, *both))
        self.blocks = [(name, linear) for name, linear, *_ in blocks]
        self.user_rows = torch.from_numpy(np.hstack([u for *_, u, _ in blocks]).astype(np.float64))
        self.item_rows = torch.from_numpy(np.hstack([i for *_, i in blocks]).astype(np.float64))
        self.p = {name: t.detach().double().requires_grad_() for name, t in parameters.items()}

    def score(self, users, items):
        x = self.user_rows[users] + self.item_rows[items]
        v = torch.cat([self.p[name] for name, _ in self.blocks])
        w = torch.cat(
            [
                self.p[linear][:, 0] if linear in self.p else torch.zeros(len(self.p[name]), dtype=torch.float64)
                for name, linear in self.blocks
            ]
        )
        pairs = torch.triu(v @ v.T, diagonal=1)
        y = x @ w + torch.einsum("ni,ij,nj->n", x, pairs, x)
        return y + self.p["level"].squeeze() if "level" in self.p else y

    def penalty(self, users, items, regularisation, priors=None):
        """Sum the squared parameters of the features of all rows, once per row that has the feature.

        ``priors`` are precisions of groups of linear terms, each spread over the training rows that have the feature.
        """
        brought = torch.cat([(self.user_rows[users] != 0), (self.item_rows[items] != 0)]).double().sum(0)
        dense = {"user_fields": len(users), "user_linear": len(users), "item_fields": len(items)}
        dense["item_linear"] = len(items)
        total, start = 0.0, 0
        for name, linear in self.blocks:
            width = len(self.p[name])
            counts = brought[start : start + width]
            if name in dense:  # a dense field counts for any value
                counts = torch.full_like(counts, dense[name])
            total = total + regularisation * (counts * self.p[name].square().sum(1)).sum()
            if linear in self.p:
                weights = torch.full_like(counts, regularisation)
                if priors and linear in priors:
                    precision, rows = priors[linear]
                    weights = precision / torch.from_numpy(rows)
                    weights[rows == 0] = 0
                total = total + (weights * counts * self.p[linear][:, 0].square()).sum()
            start += width
        return total


def fuser(dense):
    return Concat(ConcatOptions(scale=SCALE), Context()) if dense else PlainFuser()


@pytest.mark.parametrize("engine", ["numba", "torch"])
@pytest.mark.parametrize("dense", [False, True], ids=["features", "features and vectors"])
def test_ranking_trains_as_the_textbook_does(dense, engine):
    _, data, _ = with_features()
    model = FMModel(replace(RECIPE, engine=engine), data, fuser(dense), seed=0)
    book = Textbook(data, model.parameters, dense=dense)
    adam = torch.optim.Adam(book.p.values(), lr=RECIPE.learning_rate, eps=1e-8)
    for epoch in (1, 2):
        losses = []
        for users, positives, negatives in TripletSampler(data, 0).steps(epoch, 200):
            loss = torch.nn.functional.softplus(book.score(users, negatives) - book.score(users, positives)).mean()
            squares = book.penalty(users, torch.cat([positives, negatives]), RECIPE.regularisation)
            loss = loss + squares / 2 / len(users)
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(float(loss.detach()))
        assert model.train_epoch(epoch) == pytest.approx(np.mean(losses), rel=1e-5)
    for name, parameter in model.parameters.items():
        torch.testing.assert_close(parameter.detach().double(), book.p[name].detach(), rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize("engine", ["numba", "torch"])
@pytest.mark.parametrize("dense", [False, True], ids=["features", "features and vectors"])
def test_clicks_train_as_the_textbook_does(dense, engine):
    _, data, labels = with_features()
    data = replace(data, labels=labels)
    model = ClickModel(replace(RECIPE, engine=engine), data, fuser(dense), seed=0)
    book = Textbook(data, model.parameters, dense=dense)
    priors = {}
    for kind, rows, features in (
        ("user", data.users, data.user_features.dense()),
        ("item", data.items, data.item_features.dense()),
    ):
        side = AdditiveFit(data).sides[kind]
        priors[f"{kind}_bias"] = side.bias_precision, np.bincount(rows, minlength=len(features))
        priors[f"{kind}_side_linear"] = side.linear_precision, (features[rows] != 0).sum(0)
    first = next(iter(LabelledSampler(data, 0).steps(1, 200)))
    by_model = torch.autograd.grad(model.loss(first), list(model.parameters.values()))
    cross_entropy = torch.nn.functional.binary_cross_entropy
    by_book = torch.autograd.grad(
        cross_entropy(torch.sigmoid(book.score(first.users, first.items)), first.labels.double()),
        [book.p[name] for name in model.parameters],
    )
    for one, other in zip(by_model, by_book, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-7)
    adam = torch.optim.Adam(book.p.values(), lr=RECIPE.learning_rate, eps=1e-8)
    for epoch in (1, 2):
        losses = []
        for users, items, good in LabelledSampler(data, 0).steps(epoch, 200):
            loss = cross_entropy(torch.sigmoid(book.score(users, items)), good.double())
            loss = loss + book.penalty(users, items, RECIPE.regularisation, priors) / 2 / len(users)
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(float(loss.detach()))
        assert model.train_epoch(epoch) == pytest.approx(np.mean(losses), rel=1e-5)
    for name, parameter in model.parameters.items():
        torch.testing.assert_close(parameter.detach().double(), book.p[name].detach(), rtol=1e-3, atol=5e-5)


@pytest.mark.parametrize("clicks", [False, True], ids=["ranking", "clicks"])
def test_inner_products_are_the_textbook_score_of_what_was_trained(clicks):
    case, data, labels = with_features()
    if clicks:
        data = replace(data, labels=labels)
    model = (ClickModel if clicks else FMModel)(RECIPE, data, fuser(dense=True), seed=0)
    for epoch in (1, 2, 3):
        model.train_epoch(epoch)
    factors = model.factors()
    users = torch.from_numpy(np.setdiff1d(np.arange(60), [case.cold_user]))
    items = torch.from_numpy(np.setdiff1d(np.arange(50), case.cold_items))
    grid_users, grid_items = (each.ravel() for each in torch.meshgrid(users, items, indexing="ij"))
    expected = Textbook(data, model.parameters, dense=True).score(grid_users, grid_items).detach().numpy()
    found = (factors.users[grid_users] * factors.items[grid_items]).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("clicks", [False, True], ids=["ranking", "clicks"])
@pytest.mark.parametrize("dense", [False, True], ids=["features", "features and vectors"])
def test_what_training_never_saw_is_placed_by_its_features_at_a_mean_id(dense, clicks):
    case, data, labels = with_features()
    if clicks:
        data = replace(data, labels=labels)
    model = (ClickModel if clicks else FMModel)(RECIPE, data, fuser(dense), seed=0)
    model.train_epoch(1)
    fitted = model.fitted(Outcome(), RecordingMonitor())
    parameters = {name: t.detach().clone() for name, t in model.parameters.items()}
    cold_users, cold_items = np.array([case.cold_user]), case.cold_items
    for kind, cold in (("user", cold_users), ("item", cold_items)):
        seen = np.setdiff1d(np.arange(len(parameters[f"{kind}s"])), cold)
        for name in (f"{kind}s", f"{kind}_bias"):
            if name in parameters:
                parameters[name][cold] = parameters[name][seen].mean(0)
    book = Textbook(data, parameters, dense=dense)
    known = [i for i in cold_items if len(data.item_features.dense()[i].nonzero()[0])]
    assert len(known) > 1
    some = torch.arange(10)
    for item in known:
        users = some[some != case.cold_user]
        expected = book.score(users, torch.full_like(users, int(item))).detach().numpy()
        np.testing.assert_allclose(
            fitted.factors.users[users] @ fitted.factors.items[item], expected, rtol=1e-4, atol=1e-5
        )
    if data.user_features.dense()[case.cold_user].any():
        items = torch.from_numpy(np.setdiff1d(np.arange(12), cold_items))
        expected = book.score(torch.full_like(items, case.cold_user), items).detach().numpy()
        np.testing.assert_allclose(
            fitted.factors.items[items] @ fitted.factors.users[case.cold_user], expected, rtol=1e-4, atol=1e-5
        )


def test_features_that_no_trained_entity_has_say_nothing():
    case, data, _ = with_features()
    table = np.zeros((50, 2), np.float32)
    table[:, 0] = np.arange(50) % 2
    table[case.cold_items[0], 1] = 1  # no other item has it
    model = FMModel(RECIPE, replace(data, item_features=SideFeatures.of(table)), PlainFuser(), seed=0)
    model.train_epoch(1)
    assert not model.parameters["item_side"][1].any()


def test_the_order_of_interactions_and_vectors_beside_do_not_move_initial_features():
    _, data, _ = with_features()
    one = FMModel(RECIPE, data, PlainFuser(), seed=0).parameters
    other = FMModel(RECIPE, data, fuser(dense=True), seed=0).parameters
    for name in ("users", "items", "user_side", "item_side"):
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


def make(**options):
    return FM(FMOptions(**{"epochs": 4, "eval_every": 2, "batch_size": 256, **options}), Context(root=Path()))


def test_probabilities_are_calibrated_in_the_large():
    _, data, labels = with_features()
    fitted = make(loss="log", epochs=30).fit_checked(
        replace(data, labels=labels), PlainFuser(), seed=0, monitor=RecordingMonitor()
    )
    scores = (fitted.factors.users[data.users] * fitted.factors.items[data.items]).sum(1)
    assert (1 / (1 + np.exp(-scores))).mean() == pytest.approx(labels.mean(), abs=0.02)


def test_align_goes_with_clicks():
    _, data, labels = with_features()
    align = Align(AlignOptions(), Context())
    fitted = make(loss="log").fit_checked(replace(data, labels=labels), align, seed=0, monitor=RecordingMonitor())
    assert np.isfinite(fitted.factors.items).all()
    assert fitted.place_items is not None


def test_features_help_where_ids_know_nothing():
    """A feature distinguishes cold items of different kinds."""
    case, _, _ = with_features()
    kind = np.eye(2, dtype=np.float32)
    data = replace(
        case.data, user_features=SideFeatures.of(kind[case.taste]), item_features=SideFeatures.of(kind[case.block])
    )
    fitted = make(epochs=25, learning_rate=0.05).fit_checked(data, PlainFuser(), seed=0, monitor=RecordingMonitor())
    warm = np.setdiff1d(np.arange(60), [case.cold_user])
    scores = fitted.factors.users[warm] @ fitted.factors.items[case.cold_items].T
    likes = case.taste[warm][:, None] == case.block[case.cold_items]
    assert scores[likes].mean() > scores[~likes].mean() + 0.1
    of_stranger = fitted.factors.users[case.cold_user] @ fitted.factors.items.T
    liked = case.block == case.taste[case.cold_user]
    assert of_stranger[liked].mean() > of_stranger[~liked].mean()


def test_a_schedule_holds_for_clicks_too():
    _, data, labels = with_features()

    def losses(schedule):
        made = make(loss="log", epochs=6, schedule=schedule)
        return [
            e["loss"]
            for e in made.fit_checked(
                replace(data, labels=labels), PlainFuser(), seed=0, monitor=RecordingMonitor()
            ).history
        ]

    constant, cosine = losses("constant"), losses("cosine")
    assert constant[0] == cosine[0]
    assert constant[-1] != cosine[-1]


def test_a_checkpoint_of_other_features_is_not_resumed(tmp_path):
    _, data, _ = with_features()
    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        make().fit_checked(data, PlainFuser(), seed=0, monitor=RecordingMonitor(checkpoint=path, stop_after=3))
    other = replace(data, item_features=None)
    whole = make().fit_checked(other, PlainFuser(), seed=0, monitor=RecordingMonitor())
    again = make().fit_checked(other, PlainFuser(), seed=0, monitor=RecordingMonitor(checkpoint=path))
    np.testing.assert_array_equal(whole.factors.items, again.factors.items)


def test_what_does_not_go_together_is_refused_in_words():
    _, data, labels = with_features()
    lightgcn = LightGCN(LightGCNOptions(epochs=1), Context())
    with pytest.raises(ConfigError, match=r"cannot use side features, but \[data.features\] names column 0"):
        lightgcn.fit_checked(data, PlainFuser(), seed=0, monitor=RecordingMonitor())
    with pytest.raises(ConfigError, match="cannot use labels"):
        make().fit_checked(replace(data, labels=labels), PlainFuser(), seed=0, monitor=RecordingMonitor())
    with pytest.raises(
        ConfigError, match=r"learns from labels, but the interactions have none.*\[data.columns\] label"
    ):
        make(loss="log").fit_checked(data, PlainFuser(), seed=0, monitor=RecordingMonitor())
    with pytest.raises(DataError, match="all training labels are equal"):
        make(loss="log").fit_checked(
            replace(data, labels=np.ones_like(labels)), PlainFuser(), seed=0, monitor=RecordingMonitor()
        )


def test_defaults_go_with_the_loss():
    assert (FMOptions().regularisation, FMOptions().eval_every) == (0.01, 5)
    assert (FMOptions(loss="log").regularisation, FMOptions(loss="log").eval_every) == (0.03, 1)
    assert FMOptions(loss="log", regularisation=0.5).regularisation == 0.5


def test_draws_by_user_are_refused_for_clicks():
    with pytest.raises(ConfigError, match=r"draws = 'users' has no effect with loss = 'log'"):
        make(loss="log", draws="users")
