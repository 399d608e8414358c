from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, strategies as st

from enhancer.config import ColumnsConfig
from enhancer.config.evaluation import EvaluationConfig
from enhancer.data import Interactions, split_interactions
from enhancer.errors import ConfigError, DataError

N_USERS, N_ITEMS = 12, 15


def make(pairs, times=None, ratings=None):
    users, items = (np.array([p[n] for p in pairs], np.int32) for n in (0, 1))
    return Interactions(
        [f"u{n}" for n in range(N_USERS)],
        [f"i{n}" for n in range(N_ITEMS)],
        users,
        items,
        None if ratings is None else np.array(ratings, np.float32),
        None if times is None else np.array(times, np.int64),
    )


def cut(interactions, root=".", **config):
    from pathlib import Path

    return split_interactions(interactions, EvaluationConfig(**config), Path(root), ColumnsConfig())


def pairs_of(part):
    return list(zip(part.users.tolist(), part.items.tolist(), strict=True))


def everything(split):
    return [pairs_of(part) for part in (split.train, split.validation, split.test)]


distinct_pairs = st.lists(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)), min_size=20, max_size=120, unique=True
)
settings_of_split = st.fixed_dictionaries(
    {
        "split": st.sampled_from(["random", "temporal", "leave-one-out"]),
        "test_size": st.sampled_from([0.1, 0.2, 0.5, 0.9]),
        "validation_size": st.sampled_from([0.0, 0.1, 0.5]),
        "cold_items": st.sampled_from([0.0, 0.1, 0.3]),
        "cold_users": st.sampled_from([0.0, 0.2]),
        "split_seed": st.integers(0, 3),
    }
)


@given(distinct_pairs, settings_of_split, st.data())
def test_a_split_is_a_partition(pairs, config, data):
    times = data.draw(st.lists(st.integers(0, 5), min_size=len(pairs), max_size=len(pairs)))
    whole = make(pairs, times)
    try:
        split = cut(whole, **config)
    except DataError:
        assume(False)
        return
    train, validation, test = everything(split)
    assert sorted(train + validation + test) == sorted(pairs)  # a partition
    cold_items, cold_users = set(split.cold_items.tolist()), set(split.cold_users.tolist())
    assert not any(u in cold_users or i in cold_items for u, i in train + validation)
    assert len(cold_items) == (
        max(1, round(config["cold_items"] * len({i for _, i in pairs}))) if config["cold_items"] else 0
    )
    warm = [(u, i) for u, i in pairs if u not in cold_users and i not in cold_items]
    for user in {u for u, _ in warm}:
        mine = sum(u == user for u, _ in warm)
        tested = sum(u == user and i not in cold_items for u, i in test)
        kept = sum(u == user for u, _ in train)
        assert kept >= 1
        share = 1 if config["split"] == "leave-one-out" else int(mine * config["test_size"] + 0.5)
        assert tested == min(share, mine - 1)
    # Repeat the split, then shuffle the rows.
    assert everything(cut(whole, **config)) == [train, validation, test]
    order = data.draw(st.permutations(range(len(pairs))))
    mixed = cut(make([pairs[n] for n in order], [times[n] for n in order]), **config)
    assert [sorted(part) for part in everything(mixed)] == [sorted(part) for part in (train, validation, test)]


@given(distinct_pairs, st.sampled_from(["temporal", "leave-one-out"]), st.data())
def test_by_time_nothing_that_is_tested_is_older_than_what_is_learned(pairs, kind, data):
    times = data.draw(st.lists(st.integers(0, 9), min_size=len(pairs), max_size=len(pairs)))
    try:
        split = cut(make(pairs, times), split=kind)
    except DataError:
        assume(False)
        return
    when = dict(zip(pairs, times, strict=True))
    train, validation, test = everything(split)
    for user in range(N_USERS):
        mine = [[when[p] for p in part if p[0] == user] for part in (train, validation, test)]
        for earlier, later in ((mine[0], mine[1]), (mine[1], mine[2]), (mine[0], mine[2])):
            assert not earlier or not later or max(earlier) <= min(later)


def dense():
    return [(u, i) for u in range(N_USERS) for i in range(N_ITEMS)]


def test_another_seed_is_another_split():
    whole = make(dense())
    assert everything(cut(whole, split_seed=1)) != everything(cut(whole, split_seed=2))


def test_a_known_split_stays_what_it_is():
    """Pin the split: a change here changes all published results."""
    split = cut(make(dense()), cold_items=0.2)
    assert split.cold_items.tolist() == [0, 11, 13]
    assert [i for u, i in pairs_of(split.validation) if u == 0] == [10]


def test_leave_one_out_without_times_is_random():
    split = cut(make(dense()), split="leave-one-out")
    assert np.bincount(split.test.users).tolist() == [1] * N_USERS
    assert len(set(split.test.items.tolist())) > 1


def test_ratings_and_times_go_along():
    whole = make(dense(), times=range(N_USERS * N_ITEMS), ratings=[1 + n % 5 for n in range(N_USERS * N_ITEMS)])
    split = cut(whole, split="temporal")
    for part in (split.train, split.validation, split.test):
        number = part.users * N_ITEMS + part.items
        assert part.timestamps.tolist() == number.tolist()
        assert part.ratings.tolist() == (1 + number % 5).tolist()


@pytest.mark.parametrize("kind", ["temporal", "temporal-global"])
def test_temporal_needs_times(kind):
    with pytest.raises(ConfigError, match=rf"'{kind}' needs times.*timestamp"):
        cut(make(dense()), split=kind)


@given(distinct_pairs, st.sampled_from([0.1, 0.3, 0.5]), st.sampled_from([0.0, 0.2]), st.data())
def test_a_global_cut_is_one_moment_for_all(pairs, test_size, validation_size, data):
    times = data.draw(st.lists(st.integers(0, 30), min_size=len(pairs), max_size=len(pairs)))
    assume(len(set(times)) > 1)
    config = {"split": "temporal-global", "test_size": test_size, "validation_size": validation_size}
    split = cut(make(pairs, times), **config)
    assert sorted(pair for part in everything(split) for pair in part) == sorted(pairs)
    parts = [part.timestamps for part in (split.train, split.validation, split.test) if len(part)]
    for earlier, later in pairwise(parts):
        assert earlier.max() < later.min()
    # No other cutoff comes closer to the share.
    taken = [sum(t >= moment for t in times) for moment in sorted(set(times))[1:]]
    assert abs(len(split.test) - test_size * len(pairs)) == min(abs(n - test_size * len(pairs)) for n in taken)
    shuffled = np.random.default_rng(1).permutation(len(pairs))
    again = cut(make([pairs[n] for n in shuffled], [times[n] for n in shuffled]), **config)
    assert [sorted(part) for part in everything(again)] == [sorted(part) for part in everything(split)]


def test_one_moment_alone_cannot_be_cut():
    pairs = dense()
    with pytest.raises(DataError, match="no test interactions") as failed:
        cut(make(pairs, [7] * len(pairs)), split="temporal-global")
    assert failed.value.hint == "all interactions have the same time"


def test_nothing_to_test_is_said():
    with pytest.raises(DataError, match="no test interactions"):
        cut(make([(u, u) for u in range(N_USERS)]))


def test_everything_cold_is_refused():
    with pytest.raises(DataError, match=r"cold_items = 0\.99 holds out all"):
        cut(make(dense()), cold_items=0.99)


class TestFiles:
    @pytest.fixture
    def write(self, tmp_path):
        def write(name, pairs):
            (tmp_path / name).write_text("user_id\titem_id\n" + "".join(f"u{u}\ti{i}\n" for u, i in pairs))
            return name

        return write

    def test_they_are_taken_as_they_are(self, tmp_path, write):
        train = [(u, i) for u, i in dense() if i < 10]
        test = [(u, i) for u, i in dense() if i >= 12]
        validation = [(u, i) for u, i in dense() if 10 <= i < 12]
        split = cut(
            make(train), tmp_path, split="files", test=write("t.tsv", test), validation=write("v.tsv", validation)
        )
        assert [sorted(p) for p in everything(split)] == [train, validation, test]
        assert split.notes == ()

    def test_validation_is_cut_from_train(self, tmp_path, write):
        train = [(u, i) for u, i in dense() if i < 10]
        split = cut(make(train), tmp_path, split="files", test=write("t.tsv", [(0, 14), (1, 13)]))
        assert len(split.validation) == N_USERS
        assert sorted(pairs_of(split.train) + pairs_of(split.validation)) == train

    def test_overlaps_and_unknown_ids_are_left_out_and_told(self, tmp_path, write):
        split = cut(make(dense()[:-1]), tmp_path, split="files", test=write("t.tsv", [(0, 0), (11, 14), (11, 99)]))
        assert pairs_of(split.test) == [(11, 14)]
        assert any("train also holds them" in note for note in split.notes)
        assert any("'i99'" in note for note in split.notes)

    def test_a_test_file_that_is_all_trained_on_says_what_to_do(self, tmp_path, write):
        with pytest.raises(DataError, match="no test interactions") as refused:
            cut(make(dense()), tmp_path, split="files", test=write("t.tsv", [(0, 0), (1, 1)]))
        assert "from the training file" in refused.value.hint
        assert "test: 2 interactions left out" in refused.value.hint

    def test_cold_items_leave_train_and_validation(self, tmp_path, write):
        train = [(u, i) for u, i in dense() if i < 13]
        test = [(u, 13) for u in range(N_USERS)]
        validation = [(u, 14) for u in range(N_USERS)]
        config = {"split": "files", "test": write("t.tsv", test), "validation": write("v.tsv", validation)}
        split = cut(make(train), tmp_path, cold_items=0.3, **config)
        held = set(split.cold_items.tolist())
        assert held
        assert not held & {i for _, i in pairs_of(split.train) + pairs_of(split.validation)}
        assert sorted(pair for part in everything(split) for pair in part) == sorted(train + test + validation)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(ConfigError, match=r"set \[evaluation\] test"):
            cut(make(dense()), tmp_path, split="files")
        with pytest.raises(ConfigError, match=r"no such file: .*t\.tsv"):
            cut(make(dense()), tmp_path, split="files", test="t.tsv")


# -- test_users ----------------------------------------------------------------------------------------------------------


@given(distinct_pairs, settings_of_split, st.integers(1, N_USERS), st.data())
def test_only_the_drawn_users_are_tested(pairs, config, test_users, data):
    times = data.draw(st.lists(st.integers(0, 5), min_size=len(pairs), max_size=len(pairs)))
    interactions = make(pairs, times)
    try:
        split = cut(interactions, **config, test_users=test_users)
    except DataError:
        assume(False)
    train, validation, test = everything(split)
    cold_items, cold_users = set(split.cold_items.tolist()), set(split.cold_users.tolist())
    held = {user for user, _ in (*validation, *test)} - cold_users
    assert len(held) <= test_users
    parts = [*train, *validation, *test]
    assert len(parts) == len(set(parts))
    lost = set(pairs) - set(parts)
    if config["cold_items"] > 0:
        assert all(item in cold_items and user not in held for user, item in lost)
    else:
        assert not lost
    assert not {item for _, item in train} & cold_items


@given(distinct_pairs, settings_of_split)
def test_as_many_test_users_as_there_are_change_nothing(pairs, config):
    interactions = make(pairs, [n % 4 for n in range(len(pairs))])
    try:
        whole = cut(interactions, **config)
    except DataError:
        assume(False)
    assert everything(cut(interactions, **config, test_users=N_USERS)) == everything(whole)


def test_the_drawn_users_do_not_depend_on_the_order_of_rows():
    pairs = [(user, item) for user in range(N_USERS) for item in range(5)]
    split, again = (cut(make(rows), test_users=4) for rows in (pairs, pairs[::-1]))
    assert [sorted(part) for part in everything(split)] == [sorted(part) for part in everything(again)]
    assert len({user for user, _ in everything(split)[2]}) == 4
    other = cut(make(pairs), test_users=4, split_seed=1)
    assert {user for user, _ in everything(other)[2]} != {user for user, _ in everything(split)[2]}


@pytest.mark.parametrize("split", ["temporal-global", "files"])
def test_test_users_are_for_splits_by_user(split):
    pairs = [(user, item) for user in range(N_USERS) for item in range(5)]
    with pytest.raises(ConfigError, match="test_users draws users") as raised:
        cut(make(pairs, list(range(60))), split=split, test_users=3, test="test.csv")
    assert "remove test_users" in raised.value.hint


@given(distinct_pairs, settings_of_split, st.sampled_from([1, 7, 30]))
def test_users_are_split_alike_however_many_at_a_time(pairs, config, at_once):
    interactions = make(pairs, [n % 4 for n in range(len(pairs))])
    try:
        whole = cut(interactions, **config)
    except DataError:
        assume(False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("enhancer.data.splits._AT_ONCE", at_once)
        assert everything(cut(interactions, **config)) == everything(whole)
