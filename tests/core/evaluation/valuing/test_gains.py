"""Gains of planted vectors: found where they are, and bounded where they are not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from enhancer.contracts import Factors
from enhancer.evaluation.measuring.views import Views
from enhancer.evaluation.valuing.bounds import Appraisal, Offer, ratio_gain, simultaneous
from enhancer.evaluation.valuing.gains import NEW, Appraiser

LEVEL = 0.025


def part(users, items, n_users, n_items):
    ids = [str(number) for number in range(max(n_users, n_items))]
    return SimpleNamespace(users=users, items=items, ratings=None, user_ids=ids[:n_users], item_ids=ids[:n_items])


def world(seed, n_users=200, n_items=480, k=4):
    """Users whose tastes and items whose kinds are the factors; each user takes what fits, 24 in 30 for training."""
    rng = np.random.default_rng(seed)
    tastes, kinds = rng.standard_normal((n_users, k)), rng.standard_normal((n_items, k))
    appeal = 1.5 * tastes @ kinds.T / np.sqrt(k) + rng.gumbel(size=(n_users, n_items))
    taken = np.argsort(-appeal, axis=1)[:, :30]
    users, items = np.repeat(np.arange(n_users), 30).astype(np.int32), taken.ravel().astype(np.int32)
    first = np.tile(np.arange(30) < 24, n_users)
    first = rng.permuted(first.reshape(n_users, 30), axis=1).ravel()
    split = SimpleNamespace(
        train=part(users[first], items[first], n_users, n_items),
        validation=part(users[~first], items[~first], n_users, n_items),
        test=part(users[:0], items[:0], n_users, n_items),
        cold_items=np.array([], np.int32),
        cold_users=np.array([], np.int32),
    )
    noisy = kinds + 1.6 * rng.standard_normal(kinds.shape)
    return rng, kinds, Views(split), Factors(tastes.astype(np.float32), noisy.astype(np.float32))


def unit(table):
    return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32)


def informed(rng, kinds):
    return unit(np.hstack([kinds, 0.3 * rng.standard_normal((len(kinds), 8))]))


OFFERS = [Offer("all", ("profile",)), Offer(NEW, ("profile",))]


def appraised(seed, make, texts=None, offers=OFFERS):
    rng, kinds, views, factors = world(seed)
    bought = np.zeros(views.n_items, np.bool_)
    bought[rng.permutation(views.n_items)[:120]] = True
    vectors = {name: np.where(bought[:, None], table, 0) for name, table in make(rng, kinds).items()}
    appraiser = Appraiser(
        factors,
        views,
        {"all": np.arange(views.n_items), NEW: np.arange(0)},
        None if texts is None else texts(rng, kinds),
        shuffles=99,
    )
    return {one.offer: one for one in appraiser.appraise(vectors, bought, offers)}


def test_vectors_that_know_the_items_gain_over_every_control_also_for_new_items():
    found = appraised(0, lambda rng, kinds: {"profile": informed(rng, kinds)})
    for one in found.values():
        assert one.items > 100
        assert set(one.gains) == {"ids", "placebo"}
        assert 0 < one.bound(LEVEL) < one.gain


def test_vectors_that_know_nothing_are_not_worth_buying():
    positive = 0
    for seed in range(8):
        found = appraised(seed, lambda rng, kinds: {"profile": unit(rng.standard_normal(kinds.shape))})
        positive += any(one.bound(LEVEL) > 0 for one in found.values())
    assert positive <= 1


def test_what_the_text_says_already_is_no_gain():
    texts = {}

    def text(rng, kinds):
        return texts.setdefault("text", informed(rng, kinds))

    positive = 0
    for seed in range(4):
        texts.clear()
        found = appraised(seed, lambda rng, kinds: {"profile": unit(text(rng, kinds) + 1e-3)}, text)
        for one in found.values():
            assert {"text", "text twice"} < set(one.gains)
            positive += one.bound(LEVEL) > 0
    assert positive <= 1


def test_the_aspect_that_knows_the_items_is_told_from_the_one_that_does_not():
    offers = [
        *(Offer(NEW, names) for names in [("mood",), ("plot",), ("mood", "plot")]),
        Offer(NEW, ("plot",), ("mood",)),
        Offer(NEW, ("mood",), ("plot",)),
    ]
    found = appraised(
        1,
        lambda rng, kinds: {"mood": informed(rng, kinds), "plot": unit(rng.standard_normal(kinds.shape))},
        offers=offers,
    )
    alone, useless, both, beside, given = (found[offer].bound(LEVEL) for offer in offers)
    assert alone > 0
    assert both > 0
    assert given > 0
    assert useless <= 0
    assert beside <= 0


def test_vectors_that_tell_of_one_group_alone_are_found_beside_groups_of_which_they_tell_nothing():
    rng, kinds, views, factors = world(3)
    few = np.arange(views.n_items) < 160
    table = np.where(few[:, None], informed(rng, kinds), unit(rng.standard_normal((len(kinds), 12))))
    groups = {"few": np.flatnonzero(few), "others": np.flatnonzero(~few)}
    bought = np.zeros(views.n_items, np.bool_)
    bought[:40] = bought[160:240] = True
    offers = [Offer(name, ("profile",)) for name in groups]
    appraiser = Appraiser(factors, views, groups, None, shuffles=99)
    few_, others = appraiser.appraise({"profile": np.where(bought[:, None], table, 0)}, bought, offers)
    assert few_.tells
    assert not others.tells
    assert (few_.share, others.share) == (1.0, 0.0)
    assert few_.bound(LEVEL) > 0
    assert others.bound(LEVEL) == -np.inf


def test_too_few_items_say_nothing():
    one = appraised(0, lambda rng, kinds: {"profile": np.zeros_like(kinds, np.float32)})[Offer("all", ("profile",))]
    assert not one.known
    assert np.isnan(one.gain)


def test_a_ratio_counts_items_and_not_pairs():
    gains, weights = np.array([1.0, 1.0, 0.0, 0.0]), np.ones(4)
    by_item = ratio_gain(gains, weights, np.array([0, 0, 1, 1]))
    assert (by_item.delta, by_item.df, by_item.users) == (0.5, 1, 2)
    assert by_item.error == pytest.approx(0.5)  # two items that differ by 1
    assert ratio_gain(gains, weights, np.array([0, 1, 2, 3])).error == pytest.approx(np.sqrt(4 / 3) / 4)


def test_the_error_is_shared_by_groups_and_half_of_a_groups_share_goes_to_all_aspects_together():
    rng = np.random.default_rng(0)
    offers = [Offer("tail", ("a",)), Offer("tail", ("b",)), Offer("tail", ("a", "b")), Offer("head", ("a",))]

    def told(offer, share):
        explained = np.r_[share, 0.01 * rng.standard_normal(19)]
        return Appraisal(offer, 9, 9, {}, 0.0, rng.standard_normal(19), explained)

    found = simultaneous([told(offer, 0.5) for offer in offers])
    assert [one.share for one in found] == [0.125, 0.125, 0.25, 0.5]
    excess = found[0].excess
    assert excess is not None
    assert np.all(np.diff(excess) >= 0)
    # 19 shuffles: nothing they reach is as improbable as one in a hundred.
    assert found[0].bounds(0.01)["placebo"] == -np.inf
    assert np.isfinite(found[0].bounds(0.05)["placebo"])
