"""Test ``[serving]``: train tells what it costs and writes it into the artifact, and later commands may override it."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest

from enhancer.serving import Ranker

pytest.importorskip("numba")

PROJECT = """
[data]
items = "items.csv"
interactions = "ratings.csv"
[prompts.item]
source = "text"
[embedder]
use = "hashing"
[store]
use = "sqlite"
[backbone]
use = "als"
[fuser]
use = "prior"
[evaluation]
cold_items = 0.3
metrics = ["ndcg@10"]
[serving]
explore = 0.2
"""


@pytest.fixture
def project(invoke, hashing, tmp_path):
    chance, genres = random.Random(3), ("western", "musical", "thriller", "romance")
    titles = [f"A {genres[n % 4]} {genres[n % 4]} tale" for n in range(60)]
    (tmp_path / "items.csv").write_text(
        "item_id,title\n" + "".join(f"{n},{title} {n}\n" for n, title in enumerate(titles))
    )
    rated = [
        f"u{user},{item}\n"
        for user in range(40)
        for item in chance.sample([n for n in range(60) if n % 4 == user % 4 or chance.random() < 0.1], 12)
    ]
    (tmp_path / "ratings.csv").write_text("user_id,item_id\n" + "".join(rated))
    (tmp_path / "enhancer.toml").write_text(PROJECT)
    assert invoke("generate", "-q").code == 0
    return tmp_path


def new_share(ranker):
    """Return the share of new items in the lists of all users."""
    trained = {item for user in ranker.user_sample(100) for item in ranker.seen(user)}
    found = ranker.recommend(ranker.user_sample(100), 10)
    return np.mean([item not in trained for one in found for item, _ in one.items])


def test_train_tells_the_cost_and_the_artifact_keeps_the_promise(invoke, project):
    done = invoke("train", "--json", "--evaluate-only")  # with a refit, held-out items are not new
    assert done.code == 0, done.err
    exploration = done.json()["exploration"]
    assert exploration["with"]["new_items"] == pytest.approx(0.2, abs=0.02)
    assert exploration["without"]["new_items"] != pytest.approx(0.2, abs=0.02)
    assert {"ndcg@10", "new_items"} == set(exploration["with"])
    manifest = json.loads((project / "artifact" / "manifest.json").read_text())
    assert manifest["serving"] == {"explore": 0.2, "new_items_cap": None}
    assert new_share(Ranker.load(project / "artifact")) == pytest.approx(0.2)

    def ids(found):
        return [[item["item_id"] for item in one["items"]] for one in found]

    served = [one.to_json() for one in Ranker.load(project / "artifact").recommend(["u1", "u2"])]
    assert ids(invoke("recommend", "u1", "u2", "--json").json()) == ids(served)
    ranker = Ranker.load(project / "artifact")
    shown = invoke("recommend", *ranker.user_sample(5), "--json").json()
    trained = {item for user in ranker.user_sample(100) for item in ranker.seen(user)}
    marked = {item["item_id"] for one in shown for item in one["items"] if item.get("new")}
    assert marked
    assert marked == {item["item_id"] for one in shown for item in one["items"]} - trained
    assert re.search(r" new$", invoke("recommend", *ranker.user_sample(5)).out, re.MULTILINE)
    without = invoke("recommend", "u1", "--json", "--set", "serving.explore=0", "--set", "serving.new_items_cap=0")
    assert not any("new" in item for item in without.json()["items"])
    plain = Ranker.load(project / "artifact", explore=0.0, new_items_cap=0.0).recommend(["u1"])
    assert ids([without.json()]) == ids([one.to_json() for one in plain])

    printed = invoke("train")
    last = printed.out.splitlines()[-5:]
    assert " ".join(last[0].split()) == "over everything ndcg@10 share of new items in first 10"
    assert [line.split("  ")[0] for line in last[2:]] == ["with [serving]", "by scores alone", "without new items"]
    assert [line.split()[-1] for line in last[2::2]] == ["0.2000", "0.0000"]


def test_without_a_share_nothing_is_told(invoke, project):
    assert "exploration" not in invoke("train", "--json", "--set", "serving.explore=0").json()


def test_a_cap_below_the_promise_is_refused(invoke, project):
    refused = invoke("train", "--set", "serving.new_items_cap=0.1")
    assert refused.code == 2
    assert "new_items_cap = 0.1 is below explore = 0.2" in refused.err
