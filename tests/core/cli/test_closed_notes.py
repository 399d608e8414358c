"""Notes in both versions through the commands: imported, compared, weighed and judged."""

from __future__ import annotations

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
knowledge = "both"
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
    """80 items of four themes, which open notes name and closed ones do not."""
    rng = np.random.default_rng(0)
    themes = np.arange(80) % 4
    words = [f"w{n}" for n in range(200)]
    (tmp_path / "enhancer.toml").write_text(CONFIG)
    (tmp_path / "items.csv").write_text(
        "item_id,title\n" + "".join(f"{n},{words[rng.integers(200)]} {words[rng.integers(200)]}\n" for n in range(80))
    )
    rows = []
    for user in range(90):
        likes = np.where(themes == user % 4, 1.0, 0.04)
        rows += [f"{user},{item}\n" for item in rng.choice(80, 16, replace=False, p=likes / likes.sum())]
    (tmp_path / "ratings.csv").write_text("user_id,item_id\n" + "".join(rows))

    def noise():
        return " ".join(words[w] for w in rng.integers(0, 200, 9))

    notes = [
        {
            "id": str(n),
            "plot": noise(),
            "mood": f"{THEMES[themes[n]]} through and through",
            "plot:closed": noise(),
            "mood:closed": noise(),
        }
        for n in range(80)
    ]
    (tmp_path / "notes.jsonl").write_text("".join(f"{json.dumps(note)}\n" for note in notes))
    done = invoke("store", "import", "notes.jsonl")
    assert done.code == 0, done.err
    done = invoke("generate", "--yes", "--json", "-q")
    assert done.json()["requests"] == 0, "both versions are there"
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of libraries
def test_the_ablation_says_what_stands_with_closed_notes(invoke, shop):
    done = invoke("ablate", "--json", "-q")
    assert done.code == 0, done.err
    result = done.json()
    found = result["knowledge"]
    assert (found["open"], found["closed"]) == ("prior", "closed")
    assert "closed" not in result["arms"]
    cold = found["difference"]["cold"]
    assert cold["gain"] > 0.1
    assert cold["p_adjusted"] < 0.05
    (over_text,) = (one for one in found["gains"] if one["panel"] == "cold" and one["against"] == "text")
    assert over_text["share"] < 0.3
    assert "what the model knows makes the difference" in result["verdict"]["knowledge"]
    assert "How much stands without what the model knows?" in (shop / "report.html").read_text()
    assert "With notes from the given text alone" in invoke("ablate", "-q").out


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_other_commands_know_both_versions(invoke, shop):
    stats = invoke("store", "stats").out
    assert "item/mood:closed" in stats
    near = invoke("similar", "0", "--by", "mood:closed", "--json").json()
    assert len(near["items"]) == 10
    assert "mood:closed" in invoke("store", "get", "0", "--json").out
    checks = invoke("diagnose", "--json").json()["checks"]
    sources = {check["source"] for check in checks if check["topic"] == "facts"}
    assert sources >= {"mood", "mood:closed"} or not sources
    assert "mood:closed" in json.dumps(checks)
    rungs = {one["rung"] for one in invoke("density", "--json", "--shares", "", "--seeds", "1").json()["frontier"]}
    assert rungs >= {"2 notes", "2 notes, closed"}
    assert not any("mood:closed" in rung for rung in rungs)
    assert invoke("train", "-q").code == 0
    assert invoke("recommend", "3", "--explain", "--json").code == 0
