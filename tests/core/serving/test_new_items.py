"""Test the share of lists that new items get: a promise in places, and a cap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from serving_process import Server

from enhancer.contracts import Dense, Factors, Placement
from enhancer.errors import ConfigError
from enhancer.serving import ApproximateRanker, LiveRanker, Ranker, write_artifact
from enhancer.serving.new_items import NewItemShare, even_phases

N_USERS, N_TRAINED, N_NEW, WIDTH = 97, 60, 40, 6
TRAINED = {f"t{n}" for n in range(N_TRAINED)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write an artifact whose new items stand between the trained ones, and would take about 40% of the places."""
    rng = np.random.default_rng(0)
    order = rng.permutation(N_TRAINED + N_NEW)
    names = [*(f"t{n}" for n in range(N_TRAINED)), *(f"n{n}" for n in range(N_NEW))]
    ids = [names[n] for n in order]
    train_items = np.flatnonzero([id_ in TRAINED for id_ in ids])
    users = np.concatenate([np.arange(N_USERS), rng.integers(0, N_USERS, 200)])
    items = np.concatenate([train_items, rng.choice(train_items, N_USERS + 200 - len(train_items))])
    return write_artifact(
        tmp_path_factory.mktemp("shares") / "artifact",
        factors=Factors(
            rng.standard_normal((N_USERS, WIDTH)).astype(np.float32),
            rng.standard_normal((len(ids), WIDTH)).astype(np.float32),
        ),
        user_ids=[f"u{n}" for n in range(N_USERS)],
        item_ids=ids,
        train_users=users,
        train_items=items,
        place_items=Placement((Dense(np.eye(2, WIDTH, dtype=np.float32), np.zeros(WIDTH, np.float32)),)),
        manifest={"serving": {"explore": 0.25, "new_items_cap": None}},
    )


USERS = [f"u{n}" for n in range(N_USERS)]
shares = st.floats(0, 1, allow_subnormal=False)


def new_in(found):
    return [sum(item not in TRAINED for item, _ in one.items) for one in found]


def ids(found):
    return [[item for item, _ in one.items] for one in found]


@settings(max_examples=40, deadline=None)
@given(explore=st.floats(0.001, 0.9), k=st.integers(1, 20))
def test_over_all_users_the_promise_is_kept_to_half_a_place(folder, explore, k):
    found = Ranker.load(folder, explore=explore).recommend(USERS, k)
    assert all(len(one.items) == k for one in found)
    assert abs(sum(new_in(found)) - N_USERS * k * explore) <= 0.5 + 1e-6
    assert max(new_in(found)) - min(new_in(found)) <= 1


@settings(max_examples=40, deadline=None)
@given(cap=shares, share=shares, k=st.integers(1, 20))
def test_a_list_has_no_more_new_items_than_the_cap_and_what_was_promised(folder, cap, share, k):
    explore = share * cap
    found = Ranker.load(folder, explore=explore, new_items_cap=cap).recommend(USERS, k)
    promised = np.floor(k * explore + even_phases(np.arange(N_USERS), N_USERS))
    counts = np.array(new_in(found))
    assert (counts >= promised).all()
    assert (counts <= np.maximum(promised, np.floor(k * cap + 1e-9))).all()


@settings(max_examples=25, deadline=None)
@given(cap=shares, share=shares, k=st.integers(1, 19))
def test_a_shorter_list_begins_a_longer_one(folder, cap, share, k):
    ranker = Ranker.load(folder, explore=share * cap, new_items_cap=cap)
    assert ids(ranker.recommend(USERS, k)) == [row[:k] for row in ids(ranker.recommend(USERS, 20))]


def test_every_rank_gives_the_same_share(folder):
    found = ids(Ranker.load(folder, explore=0.2).recommend(USERS, 20))
    by_rank = [sum(row[rank] not in TRAINED for row in found) for rank in range(20)]
    assert abs(np.array(by_rank) - 0.2 * N_USERS).max() <= 1


def test_both_kinds_stand_in_the_order_of_their_scores(folder):
    plain = Ranker.load(folder, explore=0.0)
    everything = ids(plain.recommend(USERS, N_TRAINED + N_NEW))
    for whole, mixed in zip(everything, ids(Ranker.load(folder, explore=0.3).recommend(USERS, 15)), strict=True):
        for kind in (lambda item: item in TRAINED, lambda item: item not in TRAINED):
            chosen = list(filter(kind, mixed))
            assert chosen == list(filter(kind, whole))[: len(chosen)]


def test_without_a_promise_and_with_a_cap_of_one_lists_are_the_plain_ones(folder):
    plain = ids(Ranker.load(folder, explore=0.0).recommend(USERS, 20))
    assert plain == ids(Ranker.load(folder, explore=0.0, new_items_cap=1.0).recommend(USERS, 20))
    share = sum(item not in TRAINED for row in plain for item in row) / (20 * N_USERS)
    assert share == pytest.approx(0.4, abs=0.1)
    assert sum(new_in(Ranker.load(folder, explore=0.0, new_items_cap=0.0).recommend(USERS, 20))) == 0


def test_the_shares_of_the_artifact_apply_unless_given_and_to_the_service_too(folder):
    expected = ids(Ranker.load(folder, explore=0.25).recommend(USERS, 10))
    assert ids(Ranker.load(folder).recommend(USERS, 10)) == expected
    assert ids(LiveRanker(folder).ranker.recommend(USERS, 10)) == expected
    other = LiveRanker(folder, explore=0.5).ranker
    assert other.new_items.share == NewItemShare(0.5)
    assert ids(other.recommend(USERS, 10)) != expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"explore": 1.5}, r"explore must be a share from 0 to 1, not 1.5"),
        ({"explore": float("nan")}, "explore must be a share"),
        ({"new_items_cap": -0.1}, "new_items_cap must be a share"),
        ({"explore": 0.3, "new_items_cap": 0.2}, r"new_items_cap = 0.2 is below explore = 0.3"),
    ],
)
def test_shares_that_cannot_be(folder, given, message):
    with pytest.raises(ConfigError, match=message):
        Ranker.load(folder, **given)


def test_if_one_kind_runs_out_the_other_fills_the_list(folder):
    ranker = Ranker.load(folder, explore=0.5)
    only_trained, only_new = sorted(TRAINED)[:8], ["n1", "n2", "n3"]
    assert all(len(one.items) >= 5 for one in ranker.recommend(USERS, 8, candidates=only_trained, exclude_seen=False))
    mixed = ranker.recommend(USERS, 8, candidates=[*only_trained, *only_new], exclude_seen=False)
    assert all((len(one.items), count) == (8, 3) for one, count in zip(mixed, new_in(mixed), strict=True))
    assert new_in(ranker.recommend(USERS, 8, candidates=only_new)) == [3] * N_USERS
    assert "n1" not in {item for row in ids(ranker.recommend(USERS, 20, exclude=["n1"])) for item in row}


def test_items_and_users_that_were_added_later(folder):
    ranker = Ranker.load(folder, explore=0.2)
    ranker.recommend(USERS, 5)
    ranker.add_items(["late"], np.array([[50.0, 0.0]], np.float32))
    found = ids(ranker.recommend(USERS, 20))
    assert any("late" in row for row in found)
    assert sum(item not in TRAINED for row in found for item in row) == round(0.2 * 20 * N_USERS)
    ranker.add_users({f"guest{n}": ["t1", "t2"] for n in range(300)})
    guests = [f"guest{n}" for n in range(300)]
    assert sum(new_in(ranker.recommend(guests, 10))) / 3000 == pytest.approx(0.2, abs=1e-9)
    assert sum(new_in(ranker.recommend(guests, 7))) / 2100 == pytest.approx(0.2, abs=0.02)


def test_a_ranker_over_an_index_keeps_the_promise(folder, tmp_path):
    pytest.importorskip("usearch")
    ranker = Ranker.load(folder, explore=0.2)
    near = ApproximateRanker(ranker, ranker.export_index(tmp_path / "items.usearch"))
    assert new_in(near.recommend(USERS, 10)) == [2] * N_USERS


@given(st.integers(1, 400))
def test_phases_are_spread_evenly(total):
    phases = even_phases(np.arange(total), total)
    np.testing.assert_allclose(np.sort(phases), (np.arange(total) + 0.5) / total)


def test_the_service_keeps_the_promise_for_requests_of_any_length(folder):
    with Server(folder, "--explore=0.3", "--new-items-cap=0.4") as server:
        status, answer = server.ask("/recommend", {"users": USERS, "k": 10})
        assert status == 200
        expected = ids(Ranker.load(folder, explore=0.3, new_items_cap=0.4).recommend(USERS, 10))
        assert [[item["item_id"] for item in one["items"]] for one in answer["results"]] == expected
        single = server.ask("/recommend?user_id=u5&k=4")[1]
        assert [item["item_id"] for item in single["items"]] == expected[5][:4]
