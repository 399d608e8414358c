from dataclasses import replace

import numpy as np
import pytest
import torch

from enhancer.testing.planted import planted
from enhancer_plugins.training.losses.softmax import SampledSoftmax


def step(seed=0, b=200, d=8):
    data, rng = planted().data, np.random.default_rng(seed)
    drawn = rng.integers(0, len(data.users), b)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(n, d, generator=generator).requires_grad_() for n in (data.n_users, data.n_items)]
    users, positives = (torch.from_numpy(column[drawn].astype(np.int64)) for column in (data.users, data.items))
    return data, rows, users, positives


@pytest.mark.parametrize("cosine", [True, False])
def test_against_every_item_it_is_the_cross_entropy_of_the_positive_among_the_untouched(cosine):
    data, (user_rows, item_rows), users, positives = step()
    trained = set(data.items.tolist())
    loss = SampledSoftmax(data, negatives=10_000, temperature=0.3, cosine=cosine, seed=0, device="cpu")
    got = loss(user_rows, item_rows, users, positives)
    u, v = (rows.detach().double().numpy() for rows in (user_rows, item_rows))
    if cosine:
        u, v = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (u, v))
    terms = []
    for user, item in zip(users.tolist(), positives.tolist(), strict=True):
        others = sorted(trained - set(data.items[data.users == user].tolist()))
        logits = u[user] @ v[[item, *others]].T / 0.3
        terms.append(np.log(np.exp(logits).sum()) - logits[0])
    assert float(got.detach()) == pytest.approx(np.mean(terms), rel=1e-5)


def test_a_user_of_everything_adds_nothing_and_spoils_no_gradient():
    data, (user_rows, item_rows), _, _ = step()
    everything = np.unique(data.items)
    users = np.concatenate([data.users, np.zeros(len(everything), np.int32)])
    items = np.concatenate([data.items, everything.astype(np.int32)])
    pairs = np.unique(np.stack([users, items]), axis=1)
    full = replace(data, users=pairs[0], items=pairs[1], ratings=None)
    loss = SampledSoftmax(full, negatives=16, temperature=0.2, cosine=True, seed=0, device="cpu")
    zero = torch.zeros(len(everything), dtype=torch.int64)
    got = loss(user_rows, item_rows, zero, torch.from_numpy(everything.astype(np.int64)))
    gradient, _ = torch.autograd.grad(got, (user_rows, item_rows))
    assert float(got.detach()) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(gradient).all()


def test_the_draw_follows_the_seed():
    data, (user_rows, item_rows), users, positives = step()

    def value(seed):
        loss = SampledSoftmax(data, negatives=8, temperature=0.2, cosine=True, seed=seed, device="cpu")
        return float(loss(user_rows, item_rows, users, positives).detach())

    assert value(0) == value(0) != value(1)


def test_in_batch_negatives_count_as_often_as_they_come():
    data, (user_rows, item_rows), users, positives = step(b=60)
    loss = SampledSoftmax(data, negatives=1, temperature=0.5, cosine=False, seed=3, device="cpu", in_batch=True)
    candidates = np.flatnonzero(np.bincount(data.items, minlength=data.n_items))
    state = loss.random.get_state()
    drawn = [int(candidates[torch.randperm(len(candidates), generator=loss.random)[0]])]
    loss.random.set_state(state)
    got = loss(user_rows, item_rows, users, positives)
    u, v = (rows.detach().double().numpy() for rows in (user_rows, item_rows))
    terms = []
    for user, item in zip(users.tolist(), positives.tolist(), strict=True):
        own = set(data.items[data.users == user].tolist())
        others = [other for other in [*drawn, *positives.tolist()] if other not in own]
        logits = u[user] @ v[[item, *others]].T / 0.5
        terms.append(np.log(np.exp(logits).sum()) - logits[0])
    assert float(got.detach()) == pytest.approx(np.mean(terms), rel=1e-5)


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize(("cosine", "temperature"), [(True, 0.2), (True, 0.01), (False, 1.0), (False, 0.05)])
def test_blocks_find_the_loss_and_the_gradient_that_torch_finds(cosine, temperature, in_batch):
    data, rows, users, positives = step(b=300)
    results = []
    for dtype, reference in ((torch.float32, False), (torch.float32, True), (torch.float64, True)):
        loss = SampledSoftmax(
            data, negatives=20, temperature=temperature, cosine=cosine, seed=0, device="cpu", in_batch=in_batch,
            reference=reference,
        )  # fmt: skip
        own = [side.detach().to(dtype).requires_grad_() for side in rows]
        got = loss(*own, users, positives) * 3
        results.append([got.detach().double(), *(g.double() for g in torch.autograd.grad(got, own))])
    for blocks, single, double in zip(*results, strict=True):
        tolerance = 2 * float((single - double).abs().max()) + 2e-5 * float(double.abs().max())
        assert float((blocks - double).abs().max()) <= tolerance


def test_two_threads_change_no_bit_of_it(monkeypatch):
    from enhancer_plugins.training.compiled.worker import enabled
    from enhancer_plugins.training.losses import softmax

    monkeypatch.setattr(softmax, "BLOCK", 200)  # many blocks of a small problem
    data, rows, users, positives = step()
    results = []
    for at_once in (False, True):
        loss = SampledSoftmax(data, negatives=20, temperature=0.2, cosine=True, seed=0, device="cpu")
        with enabled(at_once):
            got = loss(*rows, users, positives)
        results.append((got.detach(), *torch.autograd.grad(got, rows)))
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
