import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from enhancer.contracts import TrainingData
from enhancer_plugins.training.sampler import TripletSampler


def make(mask, seed=0, **options):
    users, items = np.nonzero(mask)
    data = TrainingData(
        n_users=mask.shape[0], n_items=mask.shape[1], users=users.astype(np.int32), items=items.astype(np.int32)
    )
    return TripletSampler(data, seed, **options)


def random_mask(seed=0, shape=(30, 40), share=0.2):
    return np.random.default_rng(seed).random(shape) < share


def test_every_positive_comes_once_an_epoch():
    mask = random_mask()
    triples = make(mask).epoch(1)
    seen = np.zeros_like(mask, dtype=int)
    np.add.at(seen, (triples.users.numpy(), triples.positives.numpy()), 1)
    np.testing.assert_array_equal(seen, mask)


def test_batches_are_the_epoch_in_pieces():
    sampler = make(random_mask())
    whole = sampler.epoch(3)
    pieces = list(sampler.steps(3, 50))
    assert [len(piece.users) for piece in pieces[:-1]] == [50] * (len(pieces) - 1)
    for number, column in enumerate(whole):
        torch.testing.assert_close(torch.cat([piece[number] for piece in pieces]), column)


def test_seed_and_epoch_decide():
    mask = random_mask()
    one, same, later, other = (
        make(mask).epoch(1), make(mask).epoch(1), make(mask).epoch(2), make(mask, seed=1).epoch(1)
    )  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.negatives, later.negatives)
    assert not torch.equal(one.negatives, other.negatives)
    assert not torch.equal(one.users, other.users)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.floats(0.05, 1.0), st.integers(0, 10**6))
def test_a_negative_is_a_trained_item_that_the_user_did_not_take(n_users, n_items, share, seed):
    mask = random_mask(seed, (n_users, n_items), share)
    mask[0, 0] = True
    triples = make(mask, seed).epoch(1)
    trained = mask.any(0)
    for user, positive, negative in zip(*(column.tolist() for column in triples), strict=True):
        assert trained[negative]
        if mask[user][trained].all():
            assert negative == positive
        else:
            assert not mask[user, negative]


def test_negatives_are_drawn_evenly():
    mask = np.zeros((2, 21), bool)
    mask[0, 0] = True
    mask[1, 1:] = True
    sampler = make(mask)
    drawn = [sampler.epoch(number) for number in range(1, 1001)]
    of_user_0 = torch.cat([t.negatives[t.users == 0] for t in drawn]).numpy()
    counts = np.bincount(of_user_0, minlength=21)[1:]
    chi_square = float(((counts - 50) ** 2 / 50).sum())
    assert chi_square < 43.8  # the 99.9th percentile with 19 degrees of freedom


def test_by_user_every_user_and_each_of_their_items_is_drawn_evenly():
    mask = np.zeros((4, 21), bool)
    mask[0, 0] = True
    mask[1, 1:] = True
    mask[3, :2] = True  # user 2 has nothing
    sampler = make(mask, by_user=True)
    drawn = [sampler.epoch(number) for number in range(1, 1001)]
    assert {len(t.users) for t in drawn} == {23}
    counts = np.zeros(mask.shape, int)
    for t in drawn:
        np.add.at(counts, (t.users.numpy(), t.positives.numpy()), 1)
    assert not counts[~mask].any()
    expected = np.where(mask, 23_000 / 3 / np.maximum(mask.sum(1, keepdims=True), 1), 0)[mask]
    chi_square = float(((counts[mask] - expected) ** 2 / expected).sum())
    assert chi_square < 48.3  # the 99.9th percentile with 22 degrees of freedom


def test_by_user_seed_and_epoch_decide():
    mask = random_mask()
    one, same, later = (make(mask, by_user=True).epoch(number) for number in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.users, later.users)


def test_a_user_of_nearly_everything_gets_the_one_that_is_left():
    mask = np.ones((2, 3000), bool)
    mask[0, 1234] = False
    triples = make(mask).epoch(1)
    assert (triples.negatives[triples.users == 0] == 1234).all()
    assert torch.equal(triples.negatives[triples.users == 1], triples.positives[triples.users == 1])
