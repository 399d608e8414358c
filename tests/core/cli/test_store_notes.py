"""Test what ``enhancer store`` does with several notes of an entity."""

from __future__ import annotations

import pytest
from command_line import hashing, invoke  # noqa: F401 - fixtures

NOTES = """\
id,plot,mood,confidence,prompt_tokens,completion_tokens,cost_usd
1,A heist in a small town.,Dark and slow.,high,40,20,0.002
2,A wedding goes wrong.,Bright and quick.,low,40,20,0.002
3,,Solemn.,high,40,20,0.002
"""


@pytest.fixture
def notes(tmp_path, hashing, invoke):  # noqa: F811
    """A project whose store has notes of three films, and their raw texts."""
    (tmp_path / "items.csv").write_text("item_id,title\n1,Heist\n2,Wedding\n3,Mass\n")
    (tmp_path / "notes.csv").write_text(NOTES)
    (tmp_path / "enhancer.toml").write_text(
        '[data]\nitems = "items.csv"\n[prompts.item]\nsource = "text"\naspects = ["plot", "mood"]\n'
        '[embedder]\nuse = "hashing"\n[store]\nuse = "sqlite"\n'
    )
    imported = invoke("store", "import", "notes.csv")
    assert (imported.code, imported.out) == (0, "5 records read from notes.csv, 5 of them embedded here\n")
    assert invoke("generate").code == 0
    return tmp_path


def test_get_shows_all_aspects_of_an_entity(notes, invoke):  # noqa: F811
    said = invoke("store", "get", "1").out
    assert "A heist in a small town." in said
    assert "\nmood (high): Dark and slow.\n" in said
    assert "text: no text of its own, a vector of" in said
    found = invoke("store", "get", "1", "--json").json()
    assert (found["aspect"], found["profile"]) == ("plot", "A heist in a small town.")
    assert list(found["aspects"]) == ["mood", "text"]
    assert found["aspects"]["mood"]["confidence"] == "high"
    one = invoke("store", "get", "1", "--aspect", "mood", "--json").json()
    assert (one["aspect"], one["prompt_tokens"], one["cost_usd"], "aspects" in one) == ("mood", 20, 0.001, False)
    assert "no record of item '9'" in invoke("store", "get", "9").err
    assert "no record of item '1' of aspect 'kin'" in invoke("store", "get", "1", "--aspect", "kin").err


def test_stats_tell_tokens_cost_and_confidence_of_each_aspect(notes, invoke):  # noqa: F811
    found = {one["name"]: one for one in invoke("store", "stats", "--json").json()["aspects"]}
    assert found["item/plot"]["records"] == 2
    assert found["item/plot"]["confidence"] == {"high": 1, "medium": 0, "low": 1}
    mood = found["item/mood"]
    assert (mood["records"], mood["tokens"], round(mood["cost_usd"], 6)) == (3, 120, 0.004)
    lines = [line.split() for line in invoke("store", "stats").out.splitlines() if line.startswith("item/mood ")]
    assert lines[0] == ["item/mood", "3", "120", "$0.0040", "2", "1"]
    assert invoke("store", "stats", "--quick", "--json").json()["aspects"] is None


def test_a_column_that_no_aspect_names_says_what_to_configure(notes, invoke):  # noqa: F811
    (notes / "more.csv").write_text("id,kin\n1,Like another heist.\n")
    done = invoke("store", "import", "more.csv", "--strict")
    assert done.code == 1
    assert "unknown field 'kin'" in done.err
    assert "to import it as a note, name it in [prompts.item] aspects" in done.err
