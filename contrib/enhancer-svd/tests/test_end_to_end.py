"""Train, ablate and search with both plugins, from the command line."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from enhancer.cli.app import main
from enhancer.testing.planted import planted

CONFIGURATION = """
[data]
items = "items.csv"
interactions = "ratings.csv"
[prompts.item]
source = "text"
[prompts.user]
source = "pool"
[embedder]
use = "kinds"
[backbone]
use = "svd"
dim = 4
[fuser]
use = "retrofit"
[evaluation]
cold_items = 0.1
seeds = 2
arms = ["none", "retrofit", "prior"]
[evaluation.search]
trials = 4
"""

KINDS = """
import enhancer, numpy as np
from enhancer.contracts import Embedder

class Kinds(Embedder):
    dim, fingerprint = 3, "kinds"
    def __init__(self, options, context): pass
    def encode(self, texts):
        rows = np.ones((len(texts), 3), np.float32)
        for row, text in zip(rows, texts):
            row[0 if "tea" in text else 1] += 2
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

@enhancer.hookimpl
def register_embedders(register):
    register("kinds", Kinds)
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with planted preferences, and both distributions as if they were installed."""
    case = planted()
    users, items = np.nonzero(case.known | case.held_out)
    lines = [f"u{user},i{item}" for user, item in zip(users, items, strict=True)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id", *lines]))
    titles = [f"i{item},{('tea', 'coffee')[kind]} number {item}" for item, kind in enumerate(case.block)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title", *titles]))
    (tmp_path / "enhancer.toml").write_text(CONFIGURATION)
    site = tmp_path / ".site"
    site.mkdir()
    (site / "kinds_embedder.py").write_text(KINDS)
    for name, module in {"enhancer-svd-here": "enhancer_svd", "kinds-embedder": "kinds_embedder"}.items():
        info = site / f"{name.replace('-', '_')}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
        (info / "entry_points.txt").write_text(f"[enhancer]\nhere = {module}\n")
    monkeypatch.syspath_prepend(site)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    log = logging.getLogger("enhancer")  # changed by the command line
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)


def test_both_plugins_train_serve_and_are_compared(project, capsys):
    def run(*arguments):
        capsys.readouterr()
        code = main([*arguments, "--json", "--quiet"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    assert run("generate")["generated"] == 50
    assert run("train")["epochs"] == 1
    assert len(run("recommend", "u1")["items"]) == 10
    result = run("ablate")
    assert set(result["arms"]) == {"none", "retrofit", "prior", "placebo"}
    assert all(np.isfinite(values["ndcg@10"]["mean"]) for values in result["arms"].values())
    assert all(trial["validation"] for found in result["search"].values() for trial in found["trials"])
    assert (project / "report.html").exists()
