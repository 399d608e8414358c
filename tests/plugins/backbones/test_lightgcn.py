from itertools import pairwise

import numpy as np
import pytest
import torch

from enhancer.contracts import Context, Fuser, Fusion, Options, TrainingData
from enhancer.errors import ConfigError, FusionError
from enhancer.testing.planted import RecordingMonitor, planted
from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
from enhancer_plugins.fusers.concat import Concat, ConcatOptions
from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions
from enhancer_plugins.fusers.semantic import Semantic, SemanticOptions
from enhancer_plugins.training.run import generator


def alone():
    return NoFusion(NoFusionOptions(), Context())


def fit(fuser=None, data=None, **options):
    backbone = LightGCN(LightGCNOptions(**options), Context())
    return backbone.fit_checked(data or planted().data, fuser or alone(), seed=0, monitor=RecordingMonitor())


def layer_by_layer(data, rows, weights):
    """Compute eq. 3 and 4 of the paper node by node."""
    liked = np.zeros((data.n_users, data.n_items))
    liked[data.users, data.items] = 1
    user_degree, item_degree = liked.sum(1), liked.sum(0)
    users, items = rows[: data.n_users].astype(np.float64), rows[data.n_users :].astype(np.float64)
    final_users, final_items = weights[0] * users, weights[0] * items
    for weight in weights[1:]:
        next_users, next_items = np.zeros_like(users), np.zeros_like(items)
        for u, i in zip(data.users, data.items, strict=True):
            share = 1 / np.sqrt(user_degree[u] * item_degree[i])
            next_users[u] += share * items[i]
            next_items[i] += share * users[u]
        users, items = next_users, next_items
        final_users, final_items = final_users + weight * users, final_items + weight * items
    return final_users, final_items


@pytest.mark.parametrize(("given", "weights"), [("mean", [0.25] * 4), ("sum", [1.0] * 4), ([0.1, 0.2, 0.3, 0.4],) * 2])
def test_factors_are_those_of_the_paper(given, weights):
    data = planted().data
    fitted = fit(epochs=0, dim=16, layer_weights=given)
    start = 0.1 * torch.randn(110, 16, generator=generator(0, "embeddings")).numpy()
    users, items = layer_by_layer(data, start, weights)
    seen_users = np.bincount(data.users, minlength=60) > 0
    seen_items = np.bincount(data.items, minlength=50) > 0
    np.testing.assert_allclose(fitted.factors.users[seen_users], users[seen_users], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(fitted.factors.items[seen_items], items[seen_items], rtol=1e-4, atol=1e-6)


def test_a_raw_widened_input_is_propagated_and_the_rest_starts_alike():
    data = planted().data
    plain, wide = (fit(fuser, epochs=0, dim=16) for fuser in (alone(), Concat(ConcatOptions(scale=3), Context())))
    _, columns = layer_by_layer(data, np.concatenate([data.user_vectors, data.item_vectors]) * 3, [0.25] * 4)
    seen = np.bincount(data.items, minlength=50) > 0
    np.testing.assert_array_equal(plain.factors.items[seen], wide.factors.items[seen, :16])
    np.testing.assert_allclose(wide.factors.items[seen, 16:], columns[seen], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("draws", ["users", "interactions"])
def test_a_step_follows_the_gradient_of_the_whole_loss(draws):
    """With one step per epoch, Adam's first step has the sign of the gradient of eq. 15, computed densely."""
    data = planted().data
    fitted = fit(epochs=1, dim=16, batch_size=10_000, learning_rate=1e-3, regularisation=0.5, draws=draws)
    rows = (0.1 * torch.randn(110, 16, generator=generator(0, "embeddings"))).requires_grad_()
    from enhancer_plugins.training.sampler import TripletSampler

    triples = TripletSampler(data, 0, by_user=draws == "users").epoch(1)
    liked = torch.zeros(110, 110)
    liked[torch.from_numpy(data.users).long(), torch.from_numpy(data.items).long() + 60] = 1
    liked = liked + liked.T
    scale = liked.sum(1).clamp(min=1).rsqrt()
    matrix = scale[:, None] * liked * scale[None]
    final = sum(torch.linalg.matrix_power(matrix, k) @ rows for k in range(4)) / 4
    drawn = [triples.users, triples.positives + 60, triples.negatives + 60]
    difference = (final[drawn[0]] * (final[drawn[1]] - final[drawn[2]])).sum(1)
    penalty = sum(rows[nodes].square().sum() for nodes in drawn) * 0.5 / (2 * len(triples.users))
    loss = torch.nn.functional.softplus(-difference).mean() + penalty
    assert fitted.history[0]["loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    (gradient,) = torch.autograd.grad(loss, rows)
    with torch.no_grad():
        moved = rows - 1e-3 * gradient / (gradient.abs() + 1e-8)
        users = (sum(torch.linalg.matrix_power(matrix, k) @ moved for k in range(4)) / 4)[:60]
    seen = np.bincount(data.users, minlength=60) > 0
    np.testing.assert_allclose(fitted.factors.users[seen], users.numpy()[seen], rtol=1e-3, atol=1e-5)


def test_the_multinomial_is_a_likelihood_with_a_normal_prior():
    """The loss of one step over all interactions is minus their log posterior, divided by their number."""
    data = planted().data
    fitted = fit(epochs=1, dim=16, loss="multinomial", start="random", regularisation=0.7, learning_rate=1e-3)
    rows = (0.1 * torch.randn(110, 16, generator=generator(0, "embeddings"))).double()
    users, items = torch.from_numpy(data.users).long(), torch.from_numpy(data.items).long()
    liked = torch.zeros(110, 110, dtype=torch.float64)
    liked[users, items + 60] = 1
    liked = liked + liked.T
    scale = liked.sum(1).clamp(min=1).rsqrt()
    matrix = scale[:, None] * liked * scale[None]
    final = sum(torch.linalg.matrix_power(matrix, k) @ rows for k in range(4)) / 4
    scores = final[:60] @ final[60:].T
    scores[:, liked[60:].sum(1) == 0] = -torch.inf
    likelihood = torch.log_softmax(scores, 1)[users, items].sum()
    activity = liked.sum(1)
    active = activity[activity > 0]
    prior = -0.7 / 2 * (activity / active.mean() * rows.square().sum(1)).sum()
    assert fitted.history[0]["loss"] == pytest.approx(float(-(likelihood + prior) / len(users)), rel=1e-5)


@pytest.mark.parametrize("more", [{}, {"batch_size": 256}, {"draws": "users"}], ids=["whole", "in steps", "by user"])
@pytest.mark.parametrize(("loss", "drawn"), [("multinomial", False), ("softmax", True), ("bpr", True)])
def test_fusers_see_negatives_where_the_loss_takes_some(loss, drawn, more):
    seen = []

    class Looks(Fuser):
        needs, uses_semantics = frozenset({"loss"}), False

        def build(self, data, dim, *, seed, device):
            fusion = Fusion()
            fusion.loss = lambda batch: seen.append((len(batch.positives), len(batch.negatives)))
            return fusion

    fit(Looks(Options(), Context()), dim=8, epochs=2, loss=loss, **more)
    assert sum(positives for positives, _ in seen) == 2 * len(planted().data.users)
    assert [negatives for _, negatives in seen] == [positives if drawn else 0 for positives, _ in seen]


def test_each_loss_has_defaults_of_its_own():
    own = LightGCNOptions(loss="multinomial", epochs=10)
    assert (own.learning_rate, own.epochs, own.eval_every) == (0.12, 10, 20)


@pytest.mark.parametrize(
    ("options", "items_of_a_user", "expected"),
    [
        ({}, 5, 1e-3),
        ({"loss": "softmax"}, 60, 1e-3),
        ({"loss": "multinomial"}, 60, 0.9),
        ({"loss": "multinomial"}, 30, 0.9),
        ({"loss": "multinomial"}, 10, 1.4),  # 0.9 · 3 ** 0.4
        ({"loss": "multinomial"}, 1, 2.0),
        ({"loss": "multinomial", "regularisation": 0.3}, 1, 0.3),
    ],
)
def test_the_penalty_follows_from_the_loss_and_the_density(options, items_of_a_user, expected):
    users = np.repeat(np.arange(60, dtype=np.int32), items_of_a_user)
    items = ((users + np.tile(np.arange(items_of_a_user), 60)) % 60).astype(np.int32)
    data = TrainingData(n_users=999, n_items=99, users=users, items=items)  # rows without interactions do not matter
    assert LightGCN(LightGCNOptions(**options), Context()).resolved(data).regularisation == expected
    same = LightGCNOptions(**{**options, "regularisation": expected, "epochs": 2})
    short = LightGCNOptions(**options, epochs=2)
    if items_of_a_user == 10:
        runs = [fit(data=data, **made.model_dump(exclude_unset=True)).factors.items for made in (same, short)]
        np.testing.assert_array_equal(*runs)


def test_a_fuser_that_ranks_in_its_own_way_is_refused_by_the_multinomial_before_training():
    fuser = Semantic(SemanticOptions(), Context())
    fuser.check(LightGCN(LightGCNOptions(), Context()))
    with pytest.raises(
        FusionError, match=r"does not offer with its current options; .* or another \[backbone\] loss or "
    ):
        fuser.check(LightGCN(LightGCNOptions(loss="multinomial"), Context()))


def test_items_that_cannot_be_placed_rank_at_random():
    """The rank of an item without interactions and vector must not depend on its row number."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((200, 30)) < 0.3)
    data = TrainingData(n_users=200, n_items=80, users=users.astype(np.int32), items=items.astype(np.int32))
    factors = fit(data=data, epochs=3).factors
    scores = factors.users @ factors.items[30:].T
    assert len(np.unique(scores[0])) == 50
    order = np.argsort(-scores, axis=1)
    assert abs(order[:, :10].mean() - 24.5) < 8
    warm = factors.users @ factors.items[:30].T
    assert scores.max() < warm.max()


def test_layer_weights_must_fit_the_layers():
    with pytest.raises(ConfigError, match="2 numbers for 3 layers; set 4"):
        LightGCN(LightGCNOptions(layer_weights=[1.0, 1.0]), Context())


def test_a_device_that_is_not_there_is_an_error_in_words():
    with pytest.raises(ConfigError, match="device 'nonsense' is not available"):
        fit(device="nonsense")


@pytest.mark.parametrize("fuser", [alone, lambda: Concat(ConcatOptions(), Context())])
def test_both_engines_train_alike(fuser):
    """The kernels and torch give the same losses, and the same rows up to rounding."""
    options = {"dim": 16, "epochs": 2, "batch_size": 512, "learning_rate": 1e-3}
    numba, torch_ = (fit(fuser(), engine=engine, device="cpu", **options) for engine in ("numba", "torch"))
    for mine, other in zip(numba.history, torch_.history, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
    np.testing.assert_allclose(numba.factors.users, torch_.factors.users, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numba.factors.items, torch_.factors.items, rtol=1e-4, atol=1e-5)


def test_half_precision_learns_the_same():
    options = {"dim": 16, "epochs": 2, "batch_size": 512, "learning_rate": 1e-3}
    single, half = (fit(precision=precision, **options) for precision in ("auto", "half"))
    assert not np.array_equal(single.factors.users, half.factors.users)
    for mine, other in zip(single.history, half.history, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-3)
    apart = np.linalg.norm(single.factors.users - half.factors.users) / np.linalg.norm(single.factors.users)
    assert apart < 0.02


def test_kernels_are_for_the_cpu_alone():
    from enhancer_plugins.training.run import choose_engine

    assert (choose_engine("auto", "cpu"), choose_engine("auto", "cuda")) == ("numba", "torch")
    with pytest.raises(ConfigError, match="engine 'numba' runs on the CPU only, but device is 'cuda'"):
        choose_engine("numba", "cuda")


def test_softmax_learns_and_serves_the_similarity_it_was_trained_by():
    from enhancer_plugins.fusers.align import Align, AlignOptions

    options = {"dim": 16, "epochs": 3, "loss": "softmax", "negatives": 20, "batch_size": 256}
    for fuser in (alone, lambda: Align(AlignOptions(), Context())):
        fitted = fit(fuser(), similarity="cosine", **options)
        assert fitted.history[-1]["loss"] < fitted.history[0]["loss"]
        seen = np.bincount(planted().data.items, minlength=50) > 0
        np.testing.assert_allclose(np.linalg.norm(fitted.factors.items[seen], axis=1), 1, rtol=1e-5)
    plain = fit(in_batch=True, **options)
    assert plain.history[-1]["loss"] < plain.history[0]["loss"]
    with pytest.raises(ConfigError, match="requires loss = 'softmax' or 'multinomial'"):
        fit(similarity="cosine")
    with pytest.raises(
        FusionError, match=r"a widened input, which .* does not offer with its current options; .* similarity"
    ):
        fit(Concat(ConcatOptions(), Context()), similarity="cosine", **options)


def test_both_engines_train_alike_by_softmax():
    options = {"dim": 16, "epochs": 2, "batch_size": 512, "learning_rate": 1e-3, "loss": "softmax", "negatives": 20}
    numba, torch_ = (fit(engine=engine, device="cpu", **options) for engine in ("numba", "torch"))
    for mine, other in zip(numba.history, torch_.history, strict=True):
        assert mine["loss"] == pytest.approx(other["loss"], rel=1e-5)
    np.testing.assert_allclose(numba.factors.items, torch_.factors.items, rtol=1e-4, atol=1e-5)


def test_draws_by_user_change_what_is_learnt_and_stay_deterministic():
    once, again, default = (fit(epochs=3, draws=draws).factors.users for draws in ("users", "users", "interactions"))
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, default)


def test_a_cosine_schedule_ends_in_smaller_steps():
    def moves(**options):
        seen = []

        class Looks(RecordingMonitor):
            def validate(self, factors):
                seen.append(factors.users.copy())
                return super().validate(factors)

        backbone = LightGCN(LightGCNOptions(epochs=10, eval_every=1, patience=99, **options), Context())
        backbone.fit_checked(planted().data, alone(), seed=0, monitor=Looks())
        return [np.linalg.norm(after - before) for before, after in pairwise(seen)]

    constant, cosine = moves(), moves(schedule="cosine")
    assert cosine[-1] < 0.2 * cosine[0]
    assert constant[-1] > 2 * cosine[-1]
