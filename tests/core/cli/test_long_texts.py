"""``doctor`` and ``diagnose`` tell which texts are longer than the embedder reads."""

from __future__ import annotations

import sys

CONFIG = """
[data]
items = "movies.csv"
interactions = "ratings.csv"
[data.columns]
item_id = "movieId"
user_id = "userId"
[prompts.item]
source = "text"
[prompts.user]
source = "pool"
[embedder]
use = "hashing"
"""


def test_doctor_counts_tokens_without_loading_the_model(invoke, tables, monkeypatch):
    import torch  # noqa: F401 - so that loading the model would not fail for another reason

    (tables / "enhancer.toml").write_text(CONFIG.replace('"hashing"', '"minilm"\nmax_seq_length = 12'))
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    found = {check["name"]: check for check in invoke("doctor", "--json").json()}["embedder"]
    assert found["status"] == "warn"
    assert "items, text: 6 of 6 texts (100%) are longer than the embedder reads" in found["detail"]
    done = invoke("doctor", "--json", "--set", "embedder.max_seq_length=200")
    assert {check["name"]: check for check in done.json()}["embedder"]["status"] == "ok"


def test_diagnose_has_a_check_of_it(invoke, tables, hashing, monkeypatch):
    from enhancer_example.hashing import Hashing

    (tables / "enhancer.toml").write_text(CONFIG)
    monkeypatch.setattr(Hashing, "truncates", lambda _, texts: ["Toy Story" in text for text in texts], raising=False)
    assert invoke("generate", "--json").json()["truncated"] == 1
    (check,) = [one for one in invoke("diagnose", "--json").json()["checks"] if one["topic"] == "length"]
    assert (check["level"], check["source"], check["values"]["longer"]) == ("fair", "text", 1)
    assert check["values"]["examples"] == ["1"]
    assert "texts that are cut off" in invoke("diagnose").out
