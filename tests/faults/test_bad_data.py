"""Data from which nothing can be learnt, or not by every backbone: an error in words, or a run that says what it left out."""

from __future__ import annotations

import numpy as np
import pytest

import enhancer
from enhancer.contracts import Context, TrainingData
from enhancer.contracts.options import build_options
from enhancer.errors import ConfigError, DataError, EvaluationError, MemoryLimitError
from enhancer.testing.planted import PlainFuser, RecordingMonitor
from enhancer_plugins.backbones.als import ALS
from enhancer_plugins.backbones.ease import EASE
from enhancer_plugins.backbones.fm import FM
from enhancer_plugins.backbones.lightgcn import LightGCN
from enhancer_plugins.backbones.popularity import Popularity

HEADER = "user_id,item_id,rating,timestamp\n"
PROJECT = """\
[data]
items = "items.csv"
interactions = "ratings.csv"
[prompts.item]
source = "none"
[prompts.user]
source = "none"
[backbone]
use = "popularity"
[fuser]
use = "none"
[evaluation]
arms = ["none"]
seeds = 1
metrics = ["ndcg@10"]
"""


def rated(users, items, rating="4", item="i", time=lambda user, n: user + n):
    """Return a table in which each of some users has taken each of some items."""
    return HEADER + "".join(
        f"u{user},{item}{n},{rating},{time(user, n)}\n" for user in range(users) for n in range(items)
    )


@pytest.fixture
def project(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"i{n},Film {n}\n" for n in range(10)))
    (tmp_path / "enhancer.toml").write_text(PROJECT)

    def load(ratings, **changes):
        (tmp_path / "ratings.csv").write_text(ratings)
        settings = [f"{key.replace('__', '.')}={value}" for key, value in changes.items()]
        return enhancer.Project.load(tmp_path / "enhancer.toml", overrides=settings)

    return load


@pytest.mark.parametrize(
    ("ratings", "changes", "message"),
    [
        (HEADER, {}, r"ratings\.csv has a header but no rows; check the path"),
        (rated(4, 6, item="x"), {}, r"no interaction is left; 24 of 24 .* not in the items table \(such as 'x0'"),
        (rated(8, 1), {}, r"no test interactions.*all interactions are with one item, so there is nothing to rank"),
        (rated(8, 2), {}, r"at most 2 interactions, of which test_size = 0\.2 rounds to none: raise .*leave-one-out"),
        (rated(1, 1), {}, r"no test interactions: 1 interactions of 1 users.*one item"),
        (rated(8, 1) + "u9,i2,4,1\n", {}, r"no test interactions.*each user needs at least three interactions$"),
        (
            rated(8, 1) + "u9,i2,4,1\n",
            {"evaluation__test_size": 0.1},
            r"no test interactions.*each user needs at least 5 interactions$",
        ),
        (
            rated(8, 1) + "u9,i2,4,1\n",
            {"evaluation__split": "leave-one-out"},
            r"each user needs at least two interactions, and three to have one in the validation part too$",
        ),
        (
            rated(8, 1) + "u9,i2,4,1\n",
            {"evaluation__split": "leave-one-out", "evaluation__validation_size": 0},
            r"each user needs at least two interactions$",
        ),
        (rated(4, 6), {"evaluation__min_rating": 5}, "no interaction is left; 24 of 24 .* rated below min_rating"),
        (rated(4, 6), {"evaluation__k_core": 7}, r"no interaction is left; 24 of 24 .* too few interactions for k_core"),
        (rated(4, 6, rating="nan"), {}, r"line 2, column 'rating': 'nan' is not a finite rating"),
        (rated(4, 6, rating="inf"), {}, r"line 2, column 'rating': 'inf' is not a finite rating"),
        (rated(4, 6, rating=""), {}, r"line 2, column 'rating': the rating is empty"),
        (rated(4, 6, rating="nan"), {"data__columns__label": "rating >= 4"}, "'nan' is not a finite rating"),
        (rated(4, 6, rating="nan"), {"data__columns__label": "rating"}, r"line 2, column 'rating': 'nan' is not a"),
        (rated(4, 6, time=lambda *_: "nan"), {}, r"line 2, column 'timestamp': 'nan' is not a time"),
        (
            rated(4, 6, time=lambda *_: 7),
            {"evaluation__split": "temporal-global"},
            "no test interactions.*all interactions have the same time",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["train", "ablate"])
def test_what_cannot_be_learnt_from_is_an_error_in_words(project, ratings, changes, message, verb):
    with pytest.raises(DataError, match=message):
        getattr(project(ratings, **changes), verb)()


@pytest.mark.parametrize(("rating", "which"), [("5", "positive"), ("1", "negative")])
def test_equal_labels_are_an_error_in_words(project, rating, which):
    made = project(
        rated(6, 8, rating=rating), backbone__use="fm", backbone__loss="log", data__columns__label="rating >= 4",
        evaluation__metrics='["auc"]',
    )  # fmt: skip
    with pytest.raises(EvaluationError, match=f"all training interactions are {which}: both labels are needed"):
        made.train()


def test_only_negative_interactions_are_an_error_in_words(project):
    with pytest.raises(EvaluationError, match=r"no training interaction is positive; check \[data.columns\] label"):
        project(rated(6, 8, rating="1"), data__columns__label="rating >= 4").train()


def test_equal_ratings_are_as_good_as_none(project):
    equal = project(rated(8, 6)).train().metrics
    without = project(rated(8, 6).replace(",rating,", ",stars,")).train().metrics
    assert equal == without
    assert 0 < equal["ndcg@10"] <= 1


def test_a_half_life_without_times_is_an_error_in_words(project):
    ratings = rated(8, 6).replace("timestamp", "when")
    with pytest.raises(ConfigError, match=r"half_life .* no timestamps; set \[data.columns\] timestamp"):
        project(ratings, backbone__half_life=0.1).train()


def test_users_without_training_interactions_are_told(project, caplog):
    ratings = rated(8, 6) + "u9,i1,4,99\nu9,i2,4,99\n"
    report = project(ratings, evaluation__split="temporal-global").train()
    assert "their users have no training interaction" in caplog.text
    assert report.metrics["ndcg@10"] >= 0


def test_a_catalogue_too_large_for_memory_is_refused_with_the_number_of_bytes(project, monkeypatch):
    monkeypatch.setattr("enhancer.contracts.backbone.available_memory", lambda: 100)
    with pytest.raises(
        MemoryLimitError, match=r"backbone 'ease' would need [\d,]+ bytes .* but 100 bytes .* available"
    ):
        project(rated(8, 6), backbone__use="ease").train()


BACKBONES = {
    "popularity": (Popularity, {}),
    "ease": (EASE, {}),
    "als": (ALS, {"epochs": 2, "dim": 16}),
    "lightgcn": (LightGCN, {"epochs": 2, "dim": 16}),
    "multinomial": (LightGCN, {"loss": "multinomial", "epochs": 2, "dim": 16}),
    "fm": (FM, {"epochs": 2, "dim": 16}),
}


@pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 0), (1, 0), (2, 0)], [(1, 1)], [(0, 0), (0, 1), (0, 2)]])
@pytest.mark.parametrize("name", BACKBONES)
def test_a_single_item_or_user_gives_finite_scores(name, pairs):
    backbone, options = BACKBONES[name]
    users, items = np.array(pairs, np.int32).T.copy()
    data = TrainingData(n_users=int(users.max()) + 1, n_items=int(items.max()) + 1, users=users, items=items)
    made = backbone(build_options(backbone.options_class, options, where="[backbone]"), Context())
    factors = made.fit_checked(data, PlainFuser(), seed=0, monitor=RecordingMonitor()).factors
    assert np.isfinite(factors.users @ factors.items.T).all()
