"""An artifact knows its ids as the tables spell them and as the interactions do."""

from __future__ import annotations

import pytest

from enhancer import Project
from enhancer.serving import Ranker

ITEMS, USERS = range(1, 9), range(1, 7)


@pytest.fixture
def trained(tmp_path):
    """A function that trains a project whose tables spell ids by two patterns."""

    def train(items, interactions):
        titled = "".join(f"{items.format(n)},title {n}\n" for n in ITEMS)
        pairs = "".join(f"u{u},{interactions.format(n)},{u + n}\n" for u in USERS for n in ITEMS if (u + n) % 3)
        (tmp_path / "items.csv").write_text(f"item_id,title\n{titled}")
        (tmp_path / "log.csv").write_text(f"user_id,item_id,timestamp\n{pairs}")
        (tmp_path / "enhancer.toml").write_text(
            '[data]\nitems = "items.csv"\ninteractions = "log.csv"\n[prompts.item]\nsource = "text"\n'
            '[backbone]\nuse = "als"\ndim = 2\nepochs = 2\n[fuser]\nuse = "none"\n'
        )
        project = Project.load(tmp_path / "enhancer.toml")
        project.train()
        return project

    return train


@pytest.mark.parametrize(("items", "interactions"), [("{}", "{}.0"), ("{}.0", "{}"), ("00{}", "{}"), ("{}", "0{}")])
def test_both_spellings_of_an_item_are_known(trained, items, interactions):
    ranker = Ranker.load(trained(items, interactions).root / "artifact")
    known, written = items.format(3), interactions.format(3)
    assert ranker.knows_item(written)
    for _ in range(2):  # by binary search, then by the dictionary of a warm ranker
        assert ranker.similar(written, 3).items == ranker.similar(known, 3).items
        assert ranker.title(written) == "title 3"
        lists = [ranker.recommend(["u1"], 8, candidates=[one], exclude_seen=False)[0].items for one in (known, written)]
        assert lists[0] == lists[1]
        assert [item for item, _ in lists[0]] == [known]
        ranker.warm()
    assert not ranker.knows_item("3x")


def test_ids_that_are_spelt_alike_need_no_further_tables(trained):
    ranker = Ranker.load(trained("{}", "{}").root / "artifact")
    assert not ranker.knows_item("3.0")
    assert not any("aliases" in name for name in ranker._artifact.tensors)


def test_a_second_training_keeps_the_artifact(trained):
    project = trained("{}", "{}.0")
    before = (project.root / "artifact" / "manifest.json").read_bytes()
    Project.load(project.root / "enhancer.toml").train()
    assert (project.root / "artifact" / "manifest.json").read_bytes() == before
