"""``enhancer density`` on a small shop whose items have two notes, of which one tells what users like."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")

CONFIG = """
[data]
items = "items.csv"
interactions = "ratings.csv"
[prompts.item]
template = "item/films"
aspects = ["plot", "mood"]
[prompts.user]
source = "pool"
[llm]
use = "openai"
model = "none-is-called"
api_base = "http://127.0.0.1:9"
[llm.price]
input = 1.0
output = 2.0
[embedder]
use = "hashing"
[backbone]
use = "als"
dim = 8
[fuser]
use = "prior"
[evaluation]
metrics = ["ndcg@10"]
cold_items = 0.25
seeds = 2
"""
THEMES = ("frost", "harbour", "clockwork", "meadow")


@pytest.fixture
def shop(invoke, hashing, tmp_path):
    """80 items of four themes, 90 users who mostly take items of one, and notes that were made elsewhere."""
    rng = np.random.default_rng(0)
    themes = np.arange(80) % 4
    (tmp_path / "enhancer.toml").write_text(CONFIG)
    words = [f"w{n}" for n in range(200)]
    (tmp_path / "items.csv").write_text(
        "item_id,title\n" + "".join(f"{n},{words[rng.integers(200)]} {words[rng.integers(200)]}\n" for n in range(80))
    )
    rows = []
    for user in range(90):
        likes = np.where(themes == user % 4, 1.0, 0.04)
        rows += [f"{user},{item}\n" for item in rng.choice(80, 16, replace=False, p=likes / likes.sum())]
    (tmp_path / "ratings.csv").write_text("user_id,item_id\n" + "".join(rows))
    with (tmp_path / "notes.jsonl").open("w") as file:
        for n in range(80):
            plot = " ".join(words[w] for w in rng.integers(0, 200, 9))
            file.write(
                json.dumps({"id": str(n), "plot": plot, "mood": f"{THEMES[themes[n]]} through and through"}) + "\n"
            )
    assert invoke("store", "import", "notes.jsonl").code == 0
    assert invoke("generate", "--yes", "-q").code == 0  # embeds the raw texts; all notes are there
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of libraries
def test_the_frontier_has_the_note_that_tells_what_users_like(invoke, shop):
    done = invoke("density", "--json", "--shares", "50%", "--orders", "random")
    assert done.code == 0, done.err
    result = done.json()
    rungs = {each["rung"]: each for each in result["frontier"]}
    assert list(rungs) == ["nothing", "text", "mood", "plot", "2 notes", "2 notes, random 50%"]  # the telling one first
    assert rungs["2 notes, random 50%"]["share"] == 0.5
    assert result["unit"] == "usd"
    assert 0 < rungs["mood"]["cost_usd"] < rungs["2 notes"]["cost_usd"]
    assert rungs["mood"]["estimated"] == rungs["mood"]["records"] == 80  # imported notes have no tokens of their own
    cold = result["strata"]["cold"]
    assert "mood" in cold["frontier"]
    assert "plot" not in cold["frontier"]
    assert cold["level"] == "buy"
    assert rungs["mood"]["strata"]["cold"]["over"].keys() == {"text", "placebo"}
    with (shop / "density.csv").open() as file:
        assert {row["rung"] for row in csv.DictReader(file)} == set(rungs)
    assert "How much to generate?" in (shop / "density.html").read_text()

    again = invoke("density", "--shares", "0.5", "--orders", "random")  # from the runs that are kept
    assert "the note 'mood' ($0.0" in again.out
    assert "on new items" in again.out
    assert "ndcg@10 on all" in again.out
    assert "wrote" in again.err
    assert invoke("ablate", "-q", "--set", "evaluation.seeds=1").code == 0
    assert "What does it bring, and at what price?" in (shop / "report.html").read_text()
    other = ("--set", "evaluation.seeds=1", "--set", "evaluation.split_seed=1")
    assert invoke("ablate", "-q", *other).code == 0
    assert "What does it bring, and at what price?" not in (shop / "report.html").read_text()


@pytest.mark.filterwarnings("ignore")  # warnings of libraries
def test_what_is_not_stored_is_left_out_and_priced(invoke, shop):
    more = 'prompts.item.aspects=["plot", "mood", "audience"]'
    done = invoke("density", "--shares", "", "--seeds", "1", "--set", more)
    assert done.code == 0, done.err
    assert "left out: audience: the store has no vectors of it: run `enhancer generate`" in done.out
    assert "Writing what is missing, 80 entities, would cost $" in done.out


@pytest.mark.filterwarnings("ignore")  # warnings of libraries
def test_a_note_that_few_items_have_is_weighed_with_a_warning_and_a_stale_one_is_left_out(invoke, shop):
    from enhancer import Project

    project = Project.load(shop / "enhancer.toml")
    project.store.delete([str(n) for n in range(60)], aspect="plot")
    moods = list(project.store.scan(kind="item", aspect="mood"))
    for record in moods:
        record.embedder = "another"
    project.store.put(moods)
    project.close()
    done = invoke("density", "--shares", "", "--seeds", "1")
    assert done.code == 0, done.err
    assert "only 20 of 80 items have 'plot': its rungs are measured on these" in done.err
    assert "left out: mood: another embedder made its vectors: run `enhancer generate`" in done.out


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--set", "fuser.use=none"), "there is nothing to weigh: fuser 'none' uses no vectors"),
        (("--set", "prompts.item.source=none"), "there is nothing to weigh: [prompts.item] source is 'none'"),
        (("--shares", "0.5,lots"), "--shares: 'lots' is no number"),
        (("--shares", "150%"), "1.5 is no share of the catalogue"),
        (("--orders", "rares"), "unknown order 'rares'"),
    ],
)
def test_what_cannot_be_weighed_is_told_before_anything_is_trained(invoke, shop, flags, says):
    done = invoke("density", *flags)
    assert done.code == 2
    assert says in done.err
    assert not (shop / "runs").exists()


def test_an_empty_store_says_what_to_run(invoke, shop):
    done = invoke("density", "--set", "store.path=elsewhere")
    assert done.code == 1
    assert "run `enhancer generate` first" in done.err
