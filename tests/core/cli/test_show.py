"""Test ``enhancer show``: everything that is known about one entity."""

from __future__ import annotations

import numpy as np
import pytest
from loopback import Behaviour

from enhancer import Project

PRICE = ("--set", "llm.price.input=1", "--set", "llm.price.output=2")
SETUP = ("--llm", "openai", "--model", "local", "--embedder", "hashing")


@pytest.fixture
def project(invoke, tables, hashing, llm_server):
    assert invoke("init", "--yes", *SETUP, "--api-base", llm_server.url).code == 0
    assert invoke("generate", "-q", "--yes", *PRICE).code == 0
    return tables


def test_an_item_is_shown_by_id_and_by_title(invoke, project):
    found = invoke("show", "Toy Story", "--json").json()
    assert found == invoke("show", "1", "--json").json()
    record = invoke("store", "get", "1", "--json").json()
    (note,) = found["notes"]
    assert (found["id"], found["kind"], found["title"]) == ("1", "item", "Toy Story")
    assert (note["text"], note["tags"]) == (record["profile"], record["tags"])
    assert note["current"] is True
    assert "Toy Story" in found["text"]
    assert "Toy Story" in found["prompt"]
    assert found["cost_usd"] == pytest.approx(note["cost_usd"])
    (answer,) = found["answers"]
    assert answer["notes"] == ["profile"]
    assert record["profile"] in answer["text"]


def test_neighbours_are_those_of_the_vectors_and_of_the_interactions(invoke, project):
    found = invoke("show", "1", "--json", "-k", "3").json()
    similar = invoke("similar", "1", "-k", "3", "--json").json()
    assert [one["id"] for one in found["by_meaning"]] == [one["item_id"] for one in similar["items"]]
    with_project = Project.load(project / "enhancer.toml")
    train = with_project.parts.split.train
    taken = np.zeros((len(train.user_ids), len(train.item_ids)))
    taken[train.users, train.items] = 1
    row = list(train.item_ids).index("1")
    lengths = np.linalg.norm(taken, axis=0)
    cosines = taken.T @ taken[:, row] / np.maximum(lengths * lengths[row], 1e-9)
    for one in found["by_behaviour"]:
        assert one["similarity"] == pytest.approx(cosines[list(train.item_ids).index(one["id"])])
    assert found["interactions"] == int(taken[:, row].sum())
    with_project.close()


def test_a_note_is_stale_once_its_text_has_changed(invoke, project):
    films = project / "movies.csv"
    films.write_text(films.read_text().replace("Animation", "Cartoon"))
    assert "stale" in invoke("show", "1").out
    assert "stale" not in invoke("show", "2").out


def test_it_fits_a_screen_and_a_narrow_one(invoke, project, monkeypatch):
    assert len(invoke("show", "1").out.splitlines()) <= 45
    monkeypatch.setenv("COLUMNS", "60")
    assert all(len(line) <= 60 for line in invoke("show", "1").out.splitlines())
    full = invoke("show", "1", "--full").out
    assert "\nsystem\n" in full
    assert "\nprompt\n" in full


def test_users_are_shown_too(invoke, project):
    found = invoke("show", "3", "--kind", "user", "--json").json()
    assert (found["id"], found["kind"], found["notes"]) == ("3", "user", [])
    assert found["interactions"] > 0
    assert found["by_behaviour"]


def test_an_entity_that_nothing_knows_is_an_error(invoke, project):
    gone = invoke("show", "Toy Stori")
    assert gone.code == 1
    assert "did you mean 'toy story' (1)" in gone.err.lower()
    assert "--kind user" in invoke("show", "99").err


def test_what_is_in_quarantine_says_why(invoke, tables, hashing, llm_server):
    llm_server.script.choose = lambda _, body: Behaviour(answer="no JSON at all") if "Heat" in str(body) else None
    assert invoke("init", "--yes", *SETUP, "--api-base", llm_server.url).code == 0
    assert invoke("generate", "-q", "--yes", *PRICE).code == 3
    shown = invoke("show", "Heat")
    assert shown.code == 0, shown.err
    assert "none is stored" in shown.out
    assert "in quarantine, profile: " in shown.out
    assert "no JSON at all" in shown.out
    assert invoke("show", "Heat", "--json").json()["answers"][0]["text"] == "no JSON at all"
