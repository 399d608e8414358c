"""Positions of items against full rankings."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from enhancer.contracts import Factors
from enhancer.evaluation.measuring.metrics import PairList
from enhancer.evaluation.measuring.views import Views
from enhancer.evaluation.valuing.measured import WarmItems
from enhancer.evaluation.valuing.models import Catalogue
from enhancer.evaluation.valuing.positions import PositionsAmong, PositionsBeside

USERS, ITEMS = 9, 30


def part(users, items):
    ids = [str(number) for number in range(max(USERS, ITEMS))]
    return SimpleNamespace(
        users=np.array(users, np.int32),
        items=np.array(items, np.int32),
        ratings=None,
        user_ids=ids[:USERS],
        item_ids=ids,
    )


def world(seed=0):
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((USERS, ITEMS)) < 0.4)
    first = rng.random(len(users)) < 0.8
    train = part(np.r_[users[first], np.zeros(ITEMS)], np.r_[items[first], np.arange(ITEMS)])
    validation = part(users[~first], items[~first])
    kept = validation.users > 0
    validation = part(validation.users[kept], validation.items[kept])
    split = SimpleNamespace(
        train=train, validation=validation, test=part([], []), cold_items=np.array([]), cold_users=np.array([])
    )
    factors = Factors(
        rng.standard_normal((USERS, 4)).astype(np.float32), rng.standard_normal((ITEMS, 4)).astype(np.float32)
    )
    return rng, Views(split), factors


def expected(score, others):
    return 1 / np.log2(2 + np.sum(others > score) + 0.5 * np.sum(others == score))


def test_an_item_with_another_score_is_ranked_among_the_unchanged_others():
    rng, views, factors = world()
    pairs = PairList(views.warm_validation.users, views.warm_validation.items)
    positions = PositionsBeside(factors, views, pairs)
    seen = {*zip(views.split.train.users.tolist(), views.split.train.items.tolist(), strict=True)}
    for scale in (0.0, 1.0, 30.0):
        changed = factors.items[pairs.items] + scale * rng.standard_normal((len(pairs.users), 4))
        mine = np.einsum("pk,pk->p", factors.users[pairs.users].astype(float), changed)
        found = positions.gains(mine)
        for user, item, score, gain in zip(pairs.users, pairs.items, mine, found, strict=True):
            others = [o for o in range(ITEMS) if o != item and (user, o) not in seen]
            scores = factors.items[others].astype(float) @ factors.users[user].astype(float)
            assert np.isclose(gain, expected(score, scores))


def test_items_are_ranked_among_one_another_and_ties_share_their_ranks():
    rng, views, factors = world()
    rows = np.arange(0, ITEMS, 2)
    inside = np.isin(views.warm_validation.items, rows)
    pairs = PairList(views.warm_validation.users[inside], views.warm_validation.items[inside])
    at = np.searchsorted(rows, pairs.items)
    positions = PositionsAmong(factors.users, views, pairs, at, rows)
    seen = {*zip(views.split.train.users.tolist(), views.split.train.items.tolist(), strict=True)}
    for model in (rng.standard_normal((len(rows), 4)), np.zeros((len(rows), 4))):
        for user, item, own, gain in zip(pairs.users, pairs.items, at, positions.gains(model), strict=True):
            others = [place for place, o in enumerate(rows) if o != item and (user, o) not in seen]
            scores = model @ factors.users[user].astype(float)
            assert np.isclose(gain, expected(scores[own], scores[others]))


def test_a_model_moves_no_item_by_what_it_gives_to_all_users():
    """A direction that all users like alike would lift an item that is ranked alone; its mean score is kept."""
    rng, views, factors = world()
    users = np.hstack([factors.users, np.ones((USERS, 1), np.float32)])
    items = np.hstack([factors.items, np.zeros((ITEMS, 1), np.float32)])
    directions = items / np.linalg.norm(items, axis=1, keepdims=True)
    pairs = PairList(views.warm_validation.users, views.warm_validation.items)
    catalogue = Catalogue(
        Factors(users, items), directions, ["all"], np.zeros(ITEMS, int), views.popularity, np.ones(ITEMS, int)
    )
    measured = WarmItems(catalogue, views, pairs, pairs.items.astype(int), np.ones(len(pairs.users)))
    alike = np.zeros((ITEMS, 5))
    alike[:, 4] = 10.0
    model = rng.standard_normal((ITEMS, 5))
    np.testing.assert_allclose(measured.utilities(model), measured.utilities(model + alike), atol=1e-9)
