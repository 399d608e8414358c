"""Users whom training never saw: placed from a few interactions, beside those who were trained."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

from enhancer.contracts import Dense, Factors, Mixture, Placement
from enhancer.errors import ArtifactError, DataError
from enhancer.serving import Ranker, write_artifact

N_USERS, N_ITEMS, WIDTH = 400, 150, 12


@pytest.fixture(scope="module")
def planted():
    """Users of five tastes: what each touches, cut into a history and what is held out."""
    rng = np.random.default_rng(0)
    taste = rng.integers(0, 5, N_USERS)
    fame = rng.gamma(2, 1, N_ITEMS)
    genre = rng.integers(0, 5, N_ITEMS)
    chances = fame * np.where(genre[None, :] == taste[:, None], 8, 1)
    train, test = [], []
    for user in range(N_USERS):
        touched = rng.choice(N_ITEMS, 24, replace=False, p=chances[user] / chances[user].sum())
        train.append(touched[:16])
        test.append(set(touched[16:].tolist()))
    return train, test


def factors(train, users):
    """A truncated SVD of the interactions of some users: as good a backbone as any."""
    table = np.zeros((len(users), N_ITEMS), np.float32)
    for row, user in enumerate(users):
        table[row, train[user]] = 1
    left, values, right = np.linalg.svd(table, full_matrices=False)
    return Factors((left[:, :WIDTH] * values[:WIDTH]).astype(np.float32), right[:WIDTH].T.astype(np.float32))


def artifact(folder, train, users, **more):
    rows = np.repeat(np.arange(len(users)), [len(train[user]) for user in users])
    return write_artifact(
        folder,
        factors=factors(train, users),
        user_ids=[f"u{user}" for user in users],
        item_ids=[f"i{item}" for item in range(N_ITEMS)],
        train_users=rows,
        train_items=np.concatenate([train[user] for user in users]),
        manifest={},
        **more,
    )


@pytest.fixture(scope="module")
def folder(planted, tmp_path_factory):
    """Trained without the last hundred users."""
    eye = np.eye(3, WIDTH, dtype=np.float32)
    gate = Dense(np.ones((3, 2), np.float32), np.zeros(2, np.float32))
    experts = tuple((Dense(eye * scale, np.zeros(WIDTH, np.float32)),) for scale in (1, 3))
    place = Placement((Mixture(gate, experts),))
    where = tmp_path_factory.mktemp("planted")
    return artifact(where, planted[0], range(300), place_items=place, place_users=place)


@pytest.fixture
def ranker(folder):
    return Ranker.load(folder)


def ids(rows):
    return [f"i{row}" for row in rows]


def recall(found, test, users, k=20):
    hits = [
        len({item for item, _ in one.items[:k]} & set(ids(test[user]))) for one, user in zip(found, users, strict=True)
    ]
    return float(np.mean(hits)) / 8


def test_folded_in_users_come_near_trained_ones_and_beat_popularity(planted, ranker, tmp_path):
    train, test = planted
    new = range(300, 400)
    assert ranker.add_users({f"u{user}": ids(train[user]) for user in new}) == {}
    assert ranker.n_users == 400
    folded = recall(ranker.recommend([f"u{user}" for user in new], 20), test, new)
    everybody = Ranker.load(artifact(tmp_path, train, range(400)))
    trained = recall(everybody.recommend([f"u{user}" for user in new], 20), test, new)
    counts = np.bincount(np.concatenate([train[user] for user in range(300)]), minlength=N_ITEMS)
    popular = []
    for user in new:
        unseen = np.where(np.isin(np.arange(N_ITEMS), train[user]), -1, counts)
        popular.append(len(set(np.argsort(-unseen)[:20].tolist()) & test[user]) / 8)
    assert folded > 0.95 * trained
    assert folded > np.mean(popular) + 0.1


def test_a_few_interactions_are_enough(planted, ranker):
    train, test = planted
    new = range(300, 400)
    few, _ = ranker.with_users({f"u{user}": ids(train[user][:3]) for user in new})
    whole, _ = ranker.with_users({f"u{user}": ids(train[user]) for user in new})
    users = [f"u{user}" for user in new]
    assert recall(few.recommend(users, 20), test, new) > 0.7 * recall(whole.recommend(users, 20), test, new)


def test_the_map_learns_what_the_model_does(tmp_path):
    """A model that places users at the mean of their items, moved by a constant: the constant is 3, items spread by 1."""
    rng = np.random.default_rng(1)
    items = rng.standard_normal((40, 6)).astype(np.float32)
    histories = [np.sort(rng.choice(40, rng.integers(8, 9), replace=False)) for _ in range(500)]
    users = np.stack([items[one].mean(axis=0) for one in histories]) + np.float32(3)
    write_artifact(
        tmp_path,
        factors=Factors(users, items),
        user_ids=[f"u{n}" for n in range(500)],
        item_ids=ids(range(40)),
        train_users=np.repeat(np.arange(500), 8),
        train_items=np.concatenate(histories),
        manifest={},
    )
    ranker = Ranker.load(tmp_path)
    other = rng.choice(40, 8, replace=False)
    ranker.add_users({"new": ids(other)})
    queries, _ = ranker.user_table(["new"])
    # Half of what it learned from are short histories, which say less: hence the tolerance.
    np.testing.assert_allclose(queries[0], items[other].mean(axis=0) + 3, atol=0.35)


def test_history_counts_as_seen_and_its_order_does_not(ranker):
    ranker.add_users({"a": ["i3", "i1", "i3"], "b": ["i1", "i3"]})
    assert ranker.seen("a") == ["i1", "i3"]
    first, second = ranker.recommend(["a", "b"], 150)
    assert first.items == second.items
    assert not {"i1", "i3"} & {item for item, _ in first.items}
    (all_of_them,) = ranker.recommend(["a"], 150, exclude_seen=False)
    assert len(all_of_them.items) == 150
    np.testing.assert_allclose(
        ranker.score("a", [all_of_them.items[0][0]]), [all_of_them.items[0][1]], rtol=1e-5
    )  # fmt: skip
    ranker.add_users({"a": ["i7"]})  # placed anew
    assert ranker.seen("a") == ["i7"]


def test_unknown_items_are_told(ranker):
    with pytest.raises(DataError, match=r"unknown item 'i999'; did you mean 'i99'"):
        ranker.add_users({"a": ["i1", "i999"]})
    assert not ranker.knows_user("a")
    unknown = ranker.add_users({"a": ["i1", "x", "x"], "b": ["y"], "c": ["i2"]}, skip_unknown=True)
    assert unknown == {"a": ["x"], "b": ["y"]}
    assert [ranker.knows_user(user) for user in "abc"] == [True, False, True]


@pytest.mark.parametrize(
    ("histories", "message"),
    [
        ({"u1": ["i1"]}, "'u1' is in the artifact already"),
        ({"a": []}, "user 'a' has no history and no vector"),
        ({"a": "i1"}, "must be a list"),
    ],
)
def test_what_cannot_be_folded_in_is_refused(ranker, histories, message):
    with pytest.raises(DataError, match=message):
        ranker.add_users(histories)


def test_another_ranker_knows_them_and_this_one_does_not(ranker):
    before = ranker.recommend(["u1"], 3)
    other, unknown = ranker.with_users({"new": ["i1", "i2"]})
    assert (unknown, other.knows_user("new"), ranker.knows_user("new")) == ({}, True, False)
    assert other.recommend(["u1"], 3) == before
    other.add_users({"newer": ["i1"]})
    assert (other.n_users, ranker.n_users) == (302, 300)


def test_added_items_count_in_a_history(ranker):
    ranker.add_items(["new-item"], np.ones((1, 3), np.float32))
    ranker.add_users({"new": ["new-item", "i4"]})
    assert ranker.seen("new") == ["i4", "new-item"]
    assert "new-item" not in {item for item, _ in ranker.recommend(["new"], 200)[0].items}


def test_vectors_place_users_and_the_artifact_carries_a_mixture(ranker):
    vector = np.array([0.5, -1, 2], np.float32)
    shares = np.exp([0, 0]) / 2  # both gates see the same sum
    row = (shares[0] + 3 * shares[1]) * vector @ np.eye(3, WIDTH)
    ranker.add_users({}, {"cold": vector})
    np.testing.assert_allclose(ranker.user_table(["cold"])[0][0], row, rtol=1e-5)
    assert ranker.seen("cold") == []
    ranker.add_users({"both": ["i1", "i2"], "alone": ["i1", "i2"]}, {"both": vector})
    alone, both = ranker.user_table(["alone", "both"])[0]
    np.testing.assert_allclose(both, (2 * alone + row) / 3, rtol=1e-4, atol=1e-6)
    with pytest.raises(DataError, match="'bad' is zero or not finite"):
        ranker.add_users({}, {"bad": np.zeros(3, np.float32)})


def test_without_histories_or_a_map_it_says_so(planted, tmp_path):
    none = np.empty(0, np.int64)
    write_artifact(
        tmp_path,
        factors=Factors(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)),
        user_ids=["a", "b"],
        item_ids=["x", "y"],
        train_users=none,
        train_items=none,
        manifest={},
    )
    ranker = Ranker.load(tmp_path)
    ranker.warm()
    with pytest.raises(ArtifactError, match="cannot place new users"):
        ranker.add_users({"c": ["x"]})
    with pytest.raises(ArtifactError, match="cannot place users by vectors"):
        ranker.add_users({}, {"c": np.ones(3, np.float32)})


def test_threads_recommend_while_users_and_items_come(ranker):
    errors: list[BaseException] = []
    done = threading.Event()
    users = [f"u{user}" for user in range(8)]
    expected = ranker.recommend(users, 5, candidates=ids(range(N_ITEMS)))

    def ask() -> None:
        try:
            while not done.is_set():
                assert ranker.recommend(users, 5, candidates=ids(range(N_ITEMS))) == expected
                known = [user for user in ("n0", "n7", "n19") if ranker.knows_user(user)]
                for one in ranker.recommend(known, 5):
                    assert len(one.items) == 5
        except BaseException as error:  # noqa: BLE001 - told to the main thread
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(20):
        ranker.add_items([f"new-{n}"], np.ones((1, 3), np.float32))
        ranker.add_users({f"n{n}": [f"new-{n}", "i1"]})
    done.set()
    for thread in threads:
        thread.join(30)
    assert errors == []
    assert (ranker.n_items, ranker.n_users) == (N_ITEMS + 20, 320)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_answers_alike_even_when_the_parent_was_adding(ranker):
    expected = ranker.recommend(["u1", "u2"], 5)
    ranker._add_lock.acquire()  # as if another thread were adding at that moment
    child = os.fork()
    if not child:
        code = 1
        try:
            thread = threading.Thread(target=lambda: ranker.add_users({"new": ["i1"]}), daemon=True)
            thread.start()
            thread.join(20)
            code = 0 if ranker.recommend(["u1", "u2"], 5) == expected and ranker.knows_user("new") else 2
        finally:
            os._exit(code)
    ranker._add_lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not ranker.knows_user("new")
