from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, strategies as st

from enhancer.contracts import Factors
from enhancer.evaluation import Views, evaluate
from enhancer.evaluation.measuring.panels import coverage_and_gini, make_panels, novelty
from enhancer.evaluation.measuring.strata import history_groups, popularity_groups


@given(st.lists(st.integers(0, 50), max_size=40))
def test_popularity_groups_part_the_items(counts):
    popularity = np.array(counts, np.int64)
    groups = popularity_groups(popularity)
    assert (sum(mask.astype(int) for mask in groups.values()) == 1).all()
    assert (popularity[groups["cold"]] == 0).all()
    order = [popularity[groups[name]] for name in ("head", "middle", "tail") if groups[name].any()]
    for above, below in pairwise(order):
        assert above.min() > below.max()  # equally popular items are in the same group
    if popularity.sum():
        assert popularity[groups["head"]].sum() >= popularity.sum() / 2


@given(st.lists(st.integers(0, 20), max_size=40))
def test_history_groups_part_the_users_that_have_one(counts):
    history = np.array(counts, np.int64)
    groups = history_groups(history)
    assert (sum(mask.astype(int) for mask in groups.values()) == (history > 0)).all()


def test_panels_of_a_split_with_cold_items(world):
    split, _ = world
    views = Views(split)
    panels = {stratum.name: (panel, stratum) for panel in make_panels(views) for stratum in panel.strata}
    assert set(panels) >= {"all", "head", "middle", "tail", "history_short", "cold", "cold_among_all", "everything"}
    warm = set(split.train.items.tolist())
    assert set(panels["all"][0].candidates.tolist()) == warm
    assert set(panels["cold"][0].candidates.tolist()) == set(split.cold_items.tolist())
    assert set(panels["cold_among_all"][0].candidates.tolist()) == warm | set(split.cold_items.tolist())
    counts = {name: len(stratum.pairs.users) for name, (_, stratum) in panels.items()}
    assert counts["head"] + counts["middle"] + counts["tail"] == counts["all"]
    assert counts["history_short"] + counts["history_medium"] + counts["history_long"] == counts["all"]
    assert counts["all"] + counts["cold"] + views.unscored_item_pairs == len(split.test.users)


def test_warm_and_cold_are_mixed_in_equal_shares(world):
    """All interactions of held-out items are in the test part, so they are sampled before they are mixed with warm ones."""
    split, _ = world
    views = Views(split)
    mixed, cold = views.mixed_test, np.isin(views.mixed_test.items, split.cold_items)
    warm_pairs = set(zip(views.warm_test.users.tolist(), views.warm_test.items.tolist(), strict=True))
    cold_pairs = set(zip(views.cold_test.users.tolist(), views.cold_test.items.tolist(), strict=True))
    found = list(zip(mixed.users.tolist(), mixed.items.tolist(), strict=True))
    assert {pair for pair, new in zip(found, cold, strict=True) if not new} == warm_pairs
    assert {pair for pair, new in zip(found, cold, strict=True) if new} <= cold_pairs
    assert len(set(found)) == len(found)
    share = len(warm_pairs) / (len(split.train.users) + len(views.warm_validation.users) + len(warm_pairs))
    assert np.count_nonzero(cold) == pytest.approx(share * len(cold_pairs), rel=0.25)


def test_pairs_of_new_items_that_were_not_drawn_are_excluded_like_those_of_warm_items(world):
    """Or else a model that knows which new items a user likes is punished for the share of them that was not drawn."""
    split, _ = world
    views = Views(split)
    panels = {stratum.name: panel for panel in make_panels(views) for stratum in panel.strata}
    users, items = panels["everything"].seen.rows(np.arange(views.n_users))
    excluded = set(zip(users.tolist(), items.tolist(), strict=True))
    mixed = set(zip(views.mixed_test.users.tolist(), views.mixed_test.items.tolist(), strict=True))
    cold = set(zip(views.cold_test.users.tolist(), views.cold_test.items.tolist(), strict=True))
    before = {
        pair
        for part in (split.train, split.validation)
        for pair in zip(part.users.tolist(), part.items.tolist(), strict=True)
    }
    assert cold - mixed
    assert excluded == before | (cold - mixed)
    assert panels["cold_among_all"].seen is views.seen_testing


def test_a_stratum_that_would_repeat_all_is_left_out(toys):
    """With equally popular items and histories of equal length, a stratum would repeat the results of all items."""
    ids = [f"u{n}" for n in range(6)], [f"i{n}" for n in range(3)]

    def part(items):
        return toys["Part"](np.arange(6, dtype=np.int32), np.array(items, np.int32), *ids)

    none = np.empty(0, np.int32)
    empty = toys["Part"](none, none, *ids)
    views = Views(toys["Split"](part([0, 1, 2, 0, 1, 2]), empty, part([1, 2, 0, 1, 2, 0]), none, none))
    assert [stratum.name for panel in make_panels(views) for stratum in panel.strata] == ["all"]


def test_a_length_that_all_share_is_said_once(world):
    words = {s.name: s.description for p in make_panels(Views(world[0])) for s in p.strata}
    assert words["history_short"].startswith("users with ")
    for text in words.values():
        found = re.search(r"(\d+) to (\d+)", text)
        assert found is None or found[1] != found[2]


def test_a_model_that_knows_nothing_of_cold_items_is_at_chance_there(world):
    """With ties in file order, and files sorted by popularity, a model with equal scores would look good."""
    split, _ = world
    views = Views(split)
    nothing = Factors(np.ones((views.n_users, 1), np.float32), np.zeros((views.n_items, 1), np.float32))
    by_fame = np.argsort(-np.bincount(views.cold_test.items, minlength=views.n_items))
    flattering = [item for item in by_fame.tolist() if item in set(split.cold_items.tolist())]
    honest = evaluate(nothing, views.cold_test, candidates=views.cold_items, metrics=["recall@4"])
    biased = evaluate(nothing, views.cold_test, candidates=np.array(flattering), metrics=["recall@4"])
    assert biased.mean("recall@4") > 1.3 * honest.mean("recall@4")


def test_coverage_and_gini():
    ranked = np.array([[0, 1], [0, 2], [0, -1]], np.int32)
    looks = coverage_and_gini(ranked, np.arange(4), 4)
    assert looks["coverage"] == 0.75
    # Counts 0 1 1 3: the mean absolute difference divided by twice the mean.
    counts = np.array([0, 1, 1, 3])
    assert np.isclose(looks["gini"], np.abs(counts[:, None] - counts).mean() / (2 * counts.mean()))
    assert coverage_and_gini(np.full((1, 2), -1), np.arange(4), 4) == {"coverage": 0.0, "gini": 0.0}
    assert np.isclose(novelty(ranked, np.array([4, 2, 1, 1]), 8), (3 * 1 + 2 + 3) / 5)
