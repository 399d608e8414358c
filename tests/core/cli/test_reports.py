"""Test ``enhancer verdict`` and ``enhancer compare`` on ablations of a small shop."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")

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
[backbone]
use = "als"
dim = 4
[fuser]
use = "prior"
[evaluation]
metrics = ["ndcg@3"]
seeds = 2
"""


@pytest.fixture
def shop(tables, invoke, hashing):
    (tables / "enhancer.toml").write_text(CONFIG)
    assert invoke("generate", "-q").code == 0
    assert invoke("ablate", "-q").code == 0
    return tables


def test_the_verdict_is_quoted_in_every_form(shop, invoke, monkeypatch):
    plain = invoke("verdict")
    assert plain.code == 0
    assert "popularity" in plain.out
    assert f"ratings.csv in {shop.name}, 12 users, 6 items, 48 interactions" in plain.out
    assert "no tokens of an LLM" in plain.out
    found = invoke("verdict", "--json").json()
    assert plain.out.splitlines()[0] == found["headline"]
    assert found["decision"] in {"ship", "ship in part", "do not ship", "not decided"}
    markdown = invoke("verdict", "--markdown").out
    assert markdown.startswith(f"**{found['headline']}**")
    assert f"- {found['verdict']['all']}" in markdown
    monkeypatch.setenv("COLUMNS", "60")
    assert all(len(line) <= 60 for line in invoke("verdict").out.splitlines())


def test_the_verdict_is_found_beside_the_configuration(shop, invoke, monkeypatch, tmp_path_factory):
    printed = invoke("verdict").out
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert invoke("verdict", "-c", str(shop / "enhancer.toml")).out == printed
    assert invoke("verdict", str(shop)).out == printed
    missing = invoke("verdict")
    assert missing.code == 1
    assert "`enhancer ablate` writes it" in missing.err


def test_ablations_stand_side_by_side(shop, invoke):
    told = invoke("ablate", "-q", "--set", "backbone.dim=2", "--report", "narrow/report.html")
    assert (shop / "narrow" / "report.json").exists()
    assert told.code == 0
    found = invoke("compare", ".", "narrow")
    assert found.code == 0
    assert "change by narrow" in found.out
    printed = invoke("compare", ".", "narrow", "--json").json()
    assert printed["untested"] is None
    assert {one["report"] for one in printed["comparisons"]} == {"narrow"}
    refused = invoke("compare", ".")
    assert refused.code == 2
    assert "at least two" in refused.err


def test_a_report_is_a_page(shop, invoke):
    for name, hint in (("report.json", "report.html writes report.json"), (".", "is a folder")):
        refused = invoke("ablate", "--report", name)
        assert refused.code == 2
        assert hint in refused.err
