import numpy as np
import pytest
import torch

from enhancer.testing.planted import planted
from enhancer_plugins.training.compiled.worker import enabled
from enhancer_plugins.training.losses import multinomial
from enhancer_plugins.training.losses.multinomial import Multinomial


def step(seed=0, b=200, d=8, scale=1.0):
    """Return pairs, some of them twice."""
    data, rng = planted().data, np.random.default_rng(seed)
    drawn = rng.integers(0, len(data.users), b)
    generator = torch.Generator().manual_seed(seed)
    rows = [scale * torch.randn(n, d, generator=generator) for n in (data.n_users, data.n_items)]
    users, positives = (torch.from_numpy(column[drawn].astype(np.int64)) for column in (data.users, data.items))
    return data, rows, users, positives


def solved(loss, rows, users, positives):
    own = [side.clone().requires_grad_() for side in rows]
    got = loss(*own, users, positives) * 3
    return [got.detach(), *torch.autograd.grad(got, own)]


@pytest.mark.parametrize("reference", [True, False])
@pytest.mark.parametrize(("cosine", "temperature"), [(False, 1.0), (False, 0.2), (True, 0.2), (True, 0.01)])
def test_it_is_the_cross_entropy_of_what_was_taken_among_all_that_anybody_took(reference, cosine, temperature):
    """The loss is computed pair by pair in float64, and its gradient by finite differences."""
    data, rows, users, positives = step(b=60, d=4)
    loss = Multinomial(data, temperature=temperature, cosine=cosine, device="cpu", reference=reference)
    got, to_users, to_items = solved(loss, rows, users, positives)
    taken = np.unique(data.items)

    def by_hand(u, v):
        u, v = u.astype(np.float64), v.astype(np.float64)
        if cosine:
            u, v = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (u, v))
        logits = u[users] @ v[taken].T / temperature
        own = (u[users] * v[positives]).sum(1) / temperature
        top = logits.max(1)
        return 3 * np.mean(np.log(np.exp(logits - top[:, None]).sum(1)) + top - own)

    u, v = (side.numpy().astype(np.float64) for side in rows)
    assert float(got) == pytest.approx(by_hand(u, v), rel=1e-5)
    for side, gradient in ((0, to_users), (1, to_items)):
        for row in np.unique((users, positives)[side].numpy())[:5]:
            for column in range(4):
                ends = []
                for change in (1e-5, -1e-5):
                    moved = [u.copy(), v.copy()]
                    moved[side][row, column] += change
                    ends.append(by_hand(*moved))
                slope = (ends[0] - ends[1]) / 2e-5
                assert float(gradient[row, column]) == pytest.approx(slope, rel=2e-3, abs=2e-4)


def test_an_item_that_nobody_took_is_not_there():
    data, rows, users, positives = step()
    unseen = np.setdiff1d(np.arange(data.n_items), data.items)
    loss = Multinomial(data, temperature=1.0, cosine=False, device="cpu")
    before = solved(loss, rows, users, positives)
    rows[1][unseen] = 100.0
    after = solved(loss, rows, users, positives)
    assert torch.equal(before[0], after[0])
    assert not after[2][unseen].any()


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_blocks_and_threads_change_rounding_alone(monkeypatch, scale):
    data, rows, users, positives = step(b=400, scale=scale)
    whole = Multinomial(data, temperature=1.0, cosine=False, device="cpu", reference=True)
    reference = solved(whole, [side.double() for side in rows], users, positives)
    monkeypatch.setattr(multinomial, "BLOCK", 200)  # many blocks of a small problem
    results = []
    for at_once in (False, True):
        with enabled(at_once):
            loss = Multinomial(data, temperature=1.0, cosine=False, device="cpu")
            results.append(solved(loss, rows, users, positives))
    for one, two, exact in zip(*results, reference, strict=True):
        assert torch.equal(one, two)
        assert float((one - exact).abs().max()) <= 1e-5 * float(exact.abs().max()) + 1e-6


def test_the_same_step_again_is_not_sorted_again_and_another_one_is():
    data, rows, users, positives = step()
    loss = Multinomial(data, temperature=1.0, cosine=False, device="cpu")
    first = solved(loss, rows, users, positives)
    again = solved(loss, rows, users, positives)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    other = solved(loss, rows, users[:50], positives[:50])
    fresh = Multinomial(data, temperature=1.0, cosine=False, device="cpu")
    assert torch.equal(other[0], solved(fresh, rows, users[:50], positives[:50])[0])
