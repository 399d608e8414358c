"""Test splits with items and users that occur only in the test part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enhancer import Project
from enhancer.config import ColumnsConfig, Settings
from enhancer.config.evaluation import EvaluationConfig
from enhancer.data import read_interactions, split_interactions
from enhancer.evaluation import Views
from enhancer.evaluation.measuring.panels import make_panels
from enhancer.evaluation.measuring.split_facts import split_facts

USERS, OLD, NEW = 60, 30, 20
CATALOGUE = [f"old{n:02}" for n in range(OLD)] + [f"new{n:02}" for n in range(NEW)] + ["never"]


def old(users=USERS, of=range(6)):
    return [(f"u{u}", f"old{(u + n) % OLD:02}") for u in range(users) for n in of]


def new(users=USERS, items=NEW):
    return [(f"u{u}", f"new{(u + n) % items:02}") for u in range(users) for n in range(2)]


@pytest.fixture
def files(tmp_path):
    """Make a ``files`` split from training pairs, test pairs and ``[evaluation]`` settings."""

    def files(train, test, *, item_ids=CATALOGUE, validation=None, **config):
        parts = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
        for name, pairs in parts.items():
            rows = "".join(f"{user},{item}\n" for user, item in pairs)
            (tmp_path / f"{name}.csv").write_text(f"user_id,item_id\n{rows}")
        columns = ColumnsConfig()
        also = [tmp_path / f"{name}.csv" for name in parts if name != "train"]
        whole = read_interactions(tmp_path / "train.csv", columns, item_ids=item_ids, also=also)
        if validation is not None:
            config["validation"] = Path("validation.csv")
        settings = EvaluationConfig(split="files", test=Path("test.csv"), **config)
        return split_interactions(whole, settings, tmp_path, columns)

    return files


def cold_of(split):
    return [split.train.item_ids[row] for row in split.cold_items]


def test_new_items_of_a_test_file_are_its_cold_items(files):
    """60 users, each with one warm test pair and two of the twenty new items."""
    split = files(old(), [*old(of=[6]), *new()], validation_size=0)
    assert cold_of(split) == [f"new{n:02}" for n in range(NEW)]  # items without interactions are not included
    (said,) = split.unseen_notes
    assert said == (
        "120 of 180 test interactions are with 20 items that occur in the test part alone: these are the cold items of this split"
    )
    views = Views(split)
    told = split_facts(views)
    wanted = {"cold_items": 20, "new_items": 20, "test_cold_items": 120, "test_warm": 60, "test_unreachable": 0}
    assert {name: told[name] for name in wanted} == wanted
    panels = {stratum.name: (panel, stratum) for panel in make_panels(views) for stratum in panel.strata}
    assert {"cold", "cold_among_all", "everything"} <= set(panels)
    assert sorted(panels["cold"][0].candidates.tolist()) == split.cold_items.tolist()
    assert len(panels["cold"][1].pairs.users) == 120
    assert len(panels["cold_among_all"][0].candidates) == OLD + NEW
    assert len(panels["all"][0].candidates) == OLD
    # One pair in seven of the warm items is a test pair, so about a seventh of the 120 cold pairs is sampled.
    cold = np.isin(panels["everything"][1].pairs.items, split.cold_items)
    assert np.count_nonzero(~cold) == 60
    assert np.count_nonzero(cold) == pytest.approx(120 / 7, abs=8)


def test_after_one_moment_new_items_are_cold_and_new_users_are_told(tmp_path):
    rows = (
        [(u, i, 1) for u, i in old()]
        + [(u, i, 2) for u, i in new()]
        + [("stranger", f"old{n:02}", 2) for n in range(9)]
    )
    (tmp_path / "all.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    whole = read_interactions(tmp_path / "all.csv", ColumnsConfig(), item_ids=CATALOGUE)
    settings = EvaluationConfig(split="temporal-global", validation_size=0)
    split = split_interactions(whole, settings, tmp_path, ColumnsConfig())
    assert len(split.test) == 129
    assert cold_of(split) == [f"new{n:02}" for n in range(NEW)]
    assert split.unseen_notes[1:] == (
        "9 of 129 test interactions are not scored: their users have no training interaction",
    )
    assert split_facts(Views(split))["test_strangers"] == 9


@pytest.mark.parametrize(("users", "items"), [(USERS, 19), (49, NEW)])
def test_too_few_fill_no_panel_and_are_told(files, users, items):
    """One item or one user below the minimum."""
    split = files(old(), [*old(of=[6]), *new(users, items)], validation_size=0)
    assert not len(split.cold_items)
    (said,) = split.unseen_notes
    assert f"are with {items} items that occur in the test part alone and are not scored" in said
    assert f"needs 20 such items and 50 training users with one; there are {users} such users" in said
    told = split_facts(Views(split))
    assert (told["cold_items"], told["new_items"], told["test_unreachable"]) == (0, items, 2 * users)


def test_hardly_any_are_counted_and_not_told(files):
    split = files(old(), [*old(of=range(6, 12)), *new(1)], validation_size=0)
    assert split.unseen_notes == ()
    assert split_facts(Views(split))["new_items"] == 2


def test_drawn_items_stay_the_cold_ones(files):
    """Drawn cold items are evaluated alone, whatever else the test file holds."""
    split = files(old(), [*old(of=[6]), *new()], validation_size=0, cold_items=0.1)
    assert len(split.cold_items) == 3
    assert all(name.startswith("old") for name in cold_of(split))
    (said,) = split.unseen_notes
    assert "are not scored: the cold items are those drawn by [evaluation] cold_items" in said
    assert split_facts(Views(split))["new_items"] == 20


def test_what_validation_has_met_is_not_new(files):
    split = files(old(), [*old(of=[6]), *new()], validation=[("u1", "new03"), ("u1", "new04")])
    assert not len(split.cold_items)  # two of the twenty occur in validation, and 18 are too few
    assert split_facts(Views(split))["new_items"] == 18
    # Sixty users have two new items each, so each new item has six test pairs.
    assert split.unseen_notes[1:] == (
        "12 of 180 test interactions are not scored: their items occur in validation, not in training",
    )


def test_users_that_a_test_file_alone_knows_are_counted(files):
    split = files(old(), [*old(of=[6]), ("x", "old01"), ("y", "old02"), ("y", "old03")], validation_size=0)
    assert split.notes == (
        "test: 3 of 63 interactions left out: their user has no training interaction (such as 'x', 'y')",
    )
    assert split_facts(Views(split))["test_unknown_users"] == 3


def test_without_an_items_table_the_files_of_a_split_make_the_catalogue(files):
    test = [*old(of=[6]), *new()]
    split = files(old(), test, item_ids=None, validation_size=0)
    assert split.train.item_ids == sorted(CATALOGUE[:-1])
    assert cold_of(split) == [f"new{n:02}" for n in range(NEW)]
    pairs = {
        (split.test.user_ids[u], split.test.item_ids[i])
        for u, i in zip(split.test.users, split.test.items, strict=True)
    }
    assert pairs == set(test)
    known = {
        (split.train.user_ids[u], split.train.item_ids[i])
        for u, i in zip(split.train.users, split.train.items, strict=True)
    }
    assert known == set(old())


def test_items_that_a_vocabulary_lacks_are_told_in_words_that_are_so(files):
    split = files(old(), [*old(of=[6]), *new()], item_ids=CATALOGUE[:OLD], validation_size=0)
    (said,) = split.notes
    assert said.startswith("test: 120 of 180 interactions left out: their item is in neither the items table nor the ")
    assert said.endswith("training interactions (such as 'new00', 'new01', 'new02', 'new03', 'new04')")


def test_a_project_tells_of_new_items_with_and_without_a_table_of_them(files, tmp_path, caplog):
    files(old(), [*old(of=[6]), *new()])
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{name},{name}\n" for name in CATALOGUE))
    evaluation = {"split": "files", "test": "test.csv"}
    for items in ({}, {"items": "items.csv"}):
        caplog.clear()
        data = {"interactions": "train.csv", **items}
        project = Project(Settings.model_validate({"data": data, "evaluation": evaluation}), tmp_path)
        assert cold_of(project.parts.split) == [f"new{n:02}" for n in range(NEW)]
        assert [record.message for record in caplog.records] == list(project.parts.split.unseen_notes)
        assert "these are the cold items of this split" in caplog.text
