"""Test ``enhancer ablate --metrics-like``."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("numba")

PROJECT = """
[data]
interactions = "ratings.csv"
[data.columns]
item_id = "movieId"
user_id = "userId"
[prompts.item]
source = "none"
[backbone]
use = "popularity"
[fuser]
use = "none"
[evaluation]
metrics = ["ndcg@10", "map@3"]
seeds = 2
arms = ["none"]
"""


@pytest.fixture
def project(tables):
    (tables / "enhancer.toml").write_text(PROJECT)
    return tables


def test_ours_stand_beside_theirs_and_nothing_is_trained_again(invoke, project):
    first = invoke("ablate", "--json")
    assert first.code == 0, first.err
    assert "metrics_like" not in first.json()
    found = invoke("ablate", "--metrics-like", "rectools", "--json").json()
    assert [run["seconds"] for run in found["runs"]] == [run["seconds"] for run in first.json()["runs"]]
    like = found["metrics_like"]
    assert like["library"] == "rectools"
    values = like["strata"]["all"]["none"]
    assert values["ndcg@10"]["ours"] == pytest.approx(found["arms"]["none"]["ndcg@10"]["mean"])
    assert 0 < values["ndcg@10"]["theirs"] < values["ndcg@10"]["ours"]

    printed = invoke("ablate", "--metrics-like", "lenskit")
    head = next(line for line in printed.out.splitlines() if "ndcg@10 of lenskit" in line)
    assert re.split(r"  +", head.strip()) == ["arm", "ndcg@10", "ndcg@10 of lenskit", "map@3", "map@3 of lenskit"]
    assert "Ties are in our drawn order" in invoke("ablate", "--metrics-like", "trec_eval").out


def test_an_unknown_library_is_refused_before_training(invoke, project):
    refused = invoke("ablate", "--metrics-like", "rectool")
    assert refused.code == 2
    assert "did you mean 'rectools'?" in refused.err
    assert not (project / "runs").exists()
