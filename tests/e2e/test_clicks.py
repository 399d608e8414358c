"""Side features and labels, from tables to an artifact whose scores are log-odds, on the command line."""

from __future__ import annotations

import csv
from multiprocessing.context import SpawnProcess

import numpy as np
import pytest

import enhancer

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own

TOML = """\
[data]
items = "items.csv"
users = "users.csv"
interactions = "ratings.csv"
[data.columns]
label = "rating >= 4"
[data.features]
item = ["genres", "year"]
user = ["age", "job:category"]
[prompts.item]
source = "none"
[backbone]
use = "fm"
loss = "log"
dim = 4
epochs = 20
batch_size = 32
learning_rate = 0.02
field_learning_rate = 0.02
[fuser]
use = "none"
[evaluation]
metrics = ["auc", "logloss", "ndcg@5"]
cold_items = 0.1
seeds = 2
arms = ["none", "wide"]
[evaluation.arm.wide]
fuser = "none"
backbone = { dim = 8 }
"""


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Users of two tastes, films of two kinds, and ratings that follow them."""
    rng = np.random.default_rng(0)
    n_users, n_items = 40, 30
    rows = [
        (f"u{u}", f"i{i}", int(rng.integers(4, 6) if (u + i) % 2 == (rng.random() < 0.15) else rng.integers(1, 4)))
        for u in range(n_users)
        for i in range(n_items)
        if rng.random() < 0.6
    ]
    tables = {
        "items.csv": [("item_id", "genres", "year")]
        + [(f"i{i}", ("Drama|War", "Comedy")[i % 2], 1990 + i % 7) for i in range(n_items)],
        "users.csv": [("user_id", "age", "job")]
        + [(f"u{u}", "" if u == 3 else 20 + u, u % 2) for u in range(n_users) if u != 5],
        "ratings.csv": [("user_id", "item_id", "rating"), *rows],
    }
    for name, lines in tables.items():
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows(lines)
    (tmp_path / "enhancer.toml").write_text(TOML)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_tables_to_probabilities(invoke, shop):
    assert not [check for check in invoke("doctor", "--json").json() if check["status"] == "fail"]
    done = invoke("train", "--json")
    assert done.code == 0, done.err
    assert "no row of 1 users" in done.err
    metrics = done.json()["metrics"]
    assert set(metrics) == {"auc", "logloss", "ndcg@5"}
    assert metrics["auc"] > 0.7
    assert metrics["logloss"] < 0.69
    assert enhancer.Ranker.load(shop / "artifact").manifest["probabilities"] is True
    again = invoke("train", "--json").json()["metrics"]
    assert again == metrics

    ablated = invoke("ablate", "--json")
    assert ablated.code == 0, ablated.err
    result = ablated.json()
    assert set(result["arms"]["wide"]) == {"auc", "logloss", "ndcg@5"}
    assert set(result["reference"]["rates"]) == {"auc", "logloss", "ndcg@5"}
    # Films that nobody rated in training are told apart by their genres.
    assert result["strata"]["cold"]["arms"]["none"]["auc"]["mean"] > 0.6
    assert all(c["users_interval"] is None for c in result["comparisons"] if c["metric"] == "auc")
    page = (shop / "report.html").read_text()
    assert "genres (3 tags)" in page
    assert "job (2 values, 1 missing)" in page
    told = invoke("ablate").out
    assert "logloss" in told


def test_auto_takes_the_backbone_that_learns_from_labels_and_features(invoke, shop):
    done = invoke("train", "--json", "--set", 'backbone={use="auto", trials=1}')
    assert done.code == 0, done.err
    report = done.json()
    assert (report["backbone"], report["backbone_options"]) == ("fm", {"loss": "log"})
    reasons = {each["label"]: each["reason"] for each in report["choice"]["candidates"]}
    assert reasons.pop("fm-log") is None
    assert "metric 'logloss' needs probabilities" in reasons.pop("fm-bpr")
    assert {"als", "ease", "lightgcn-bpr", "popularity"} <= set(reasons)
    assert all("cannot use side features" in reason for reason in reasons.values())
    assert enhancer.Ranker.load(shop / "artifact").manifest["probabilities"] is True


def test_two_processes_train_what_one_does(invoke, shop, monkeypatch):
    started, start = [], SpawnProcess.start
    monkeypatch.setattr(SpawnProcess, "start", lambda self: (started.append(self), start(self))[1])
    few = ("--set", "evaluation.seeds=1", "--set", "backbone.epochs=2")
    one = invoke("ablate", "--json", *few).json()
    for path in (shop / "runs").glob("*.npz"):
        path.unlink()
    assert not started
    two = invoke("ablate", "--json", *few, "--set", "evaluation.workers=2").json()
    assert len(started) == 2
    assert one["arms"] == two["arms"]


def test_a_ranker_takes_the_features_too(invoke, shop):
    done = invoke("train", "--json", "--set", "backbone.loss=bpr", "--set", 'evaluation.metrics=["ndcg@5", "auc"]')
    assert done.code == 0, done.err
    assert set(done.json()["metrics"]) == {"ndcg@5", "auc"}
    assert enhancer.Ranker.load(shop / "artifact").manifest["probabilities"] is False


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (['backbone={use="lightgcn"}', 'evaluation.metrics=["ndcg@5"]'], "'lightgcn' cannot use side features"),
        (["data.columns={}"], "'fm' learns from labels, but the interactions have none"),
        (["data.columns={}", "backbone.loss=bpr"], "metric 'auc' needs labels"),
        (["backbone.loss=bpr"], "'logloss' needs probabilities"),
        (['data.features.item=["genre"]'], "did you mean 'genres'"),
        (['data.features.user=["genres"]'], "users.csv has no column 'genres'"),
        (['data.columns.label="rating > 9"'], "all training interactions are negative"),
        (["data.features.max_values=1"], "more than 1 different values"),
        (['backbone={use="lightgcn", loss="log"}'], "'bpr', 'softmax' or 'multinomial'"),
    ],
)
def test_what_does_not_go_together_is_said(invoke, shop, flags, says):
    done = invoke("train", *(part for flag in flags for part in ("--set", flag)))
    assert done.code in (1, 2)
    assert says in " ".join(done.err.split())
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ('{fuser="none", backbone={loss="multinomal"}}', "[evaluation.arm.odd] backbone: loss: input should be"),
        ('{fuser="concat", options={scael=1}}', "[evaluation.arm.odd] options: unknown key 'scael'"),
        (
            '{fuser="concat", options={scale=inf}}',
            "[evaluation.arm.odd] options: scale: input should be a finite number",
        ),
    ],
)
def test_a_fault_of_an_arm_is_looked_for_there(invoke, shop, arm, says):
    done = invoke("ablate", "--set", 'evaluation.arms=["none", "odd"]', "--set", f"evaluation.arm.odd={arm}")
    assert done.code == 2
    assert says in " ".join(done.err.split())
    assert "Traceback" not in done.err
