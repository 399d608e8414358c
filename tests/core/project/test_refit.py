"""``train`` tests a model on held-out interactions, and serves one that has learnt from all of them."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from generation import HashingEmbedder

import enhancer
from enhancer.config import Settings
from enhancer.contracts import Backbone, Factors, Fitted
from enhancer.contracts.training import TrainingData
from enhancer.data import read_interactions
from enhancer.plugin_host import load_plugins
from enhancer.project import Project
from enhancer.serving import Ranker, write_artifact
from enhancer.serving.artifact import open_artifact
from enhancer.testing.planted import PlainFuser, RecordingMonitor

N_USERS, N_ITEMS = 24, 20


class Endless(Backbone):
    """Trains five epochs, whatever it is told to repeat."""

    def fit(self, data, fuser, *, seed, monitor):
        fuser.build_checked(data, 2, seed=seed)
        factors = Factors(np.ones((data.n_users, 2), np.float32), np.ones((data.n_items, 2), np.float32))
        for epoch in range(1, 6):
            monitor.epoch_finished(epoch, 5, 0.5, monitor.validate(factors))
        return Fitted(factors=factors, epochs=5, best_epoch=1)


class Plugin:
    @enhancer.hookimpl
    def register_backbones(self, register):
        register("endless", Endless)

    @enhancer.hookimpl
    def register_embedders(self, register):
        register("hashing", HashingEmbedder)


@pytest.fixture
def project(tmp_path):
    """A function that makes a project over one folder, as a new process would."""
    chance = random.Random(5)
    rows = [
        f"{user},{item},{1 + (3 * user + item) % 5},{1000 + chance.randrange(500)}"
        for user in range(N_USERS)
        for item in chance.sample(range(N_ITEMS), 9)
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,rating,timestamp", *rows]) + "\n")
    (tmp_path / "items.csv").write_text(
        "\n".join(["item_id,title", *(f"{i},film {i} about theme{i % 4}" for i in range(N_ITEMS))]) + "\n"
    )

    def make(backbone="als", **tables):
        manager = load_plugins()
        manager.register(Plugin())
        options = {"use": backbone} if isinstance(backbone, str) else backbone
        settings = {
            "data": {"items": "items.csv", "interactions": "ratings.csv"},
            "prompts": {"item": {"source": "text"}},
            "embedder": {"use": "hashing"},
            "store": {"use": "sqlite"},
            "backbone": options,
            "fuser": {"use": "none"},
            "evaluation": {"metrics": ["ndcg@5"], "validation_size": 0.2, "test_size": 0.2},
            **tables,
        }
        return Project(Settings.model_validate(settings), tmp_path, manager)

    return make


def everything(project):
    """The training data of all interactions, made by hand."""
    table = project.root / "ratings.csv"
    read = read_interactions(table, project.settings.data.columns, item_ids=project.parts.item_ids)
    return TrainingData(
        n_users=len(read.user_ids),
        n_items=len(read.item_ids),
        users=read.users,
        items=read.items,
        ratings=read.ratings,
        timestamps=read.timestamps,
    )


def owned(folder):
    """The items of each user, whatever their ratings."""
    rows = [line.split(",") for line in (folder / "ratings.csv").read_text().splitlines()[1:]]
    return {user: {item for other, item, *_ in rows if other == user} for user, *_ in rows}


def offered(folder):
    ranker = Ranker.load(folder / "artifact")
    return {one.user_id: {item for item, _ in one.items} for one in ranker.recommend(list(owned(folder)), k=N_ITEMS)}


@pytest.mark.parametrize(
    "backbone",
    [
        {"use": "als", "dim": 4, "epochs": 9, "eval_every": 1, "patience": 2},
        {"use": "lightgcn", "dim": 4, "epochs": 12, "eval_every": 2, "loss": "multinomial"},
    ],
    ids=lambda options: options["use"],
)
def test_the_served_model_is_one_of_all_interactions_and_of_the_best_epoch(project, backbone):
    made = project(backbone)
    report = made.train()
    data = everything(made)
    monitor = RecordingMonitor(repeats=report.best_epoch)
    wanted = made.parts.backbone().fit_checked(data, PlainFuser(), seed=0, monitor=monitor)
    served = open_artifact(made.root / "artifact")
    assert (wanted.epochs, wanted.best_epoch, report.refit) == (report.best_epoch, report.best_epoch, True)
    assert report.interactions == len(data.users) == served.manifest["trained_on"]["interactions"]
    np.testing.assert_array_equal(served.tensors["users"], wanted.factors.users)
    np.testing.assert_array_equal(served.tensors["items"], wanted.factors.items)


def test_an_option_that_validation_chose_is_used_again(project):
    options = {"use": "ease", "regularisation": "auto", "scores": "full"}
    made = project(options)
    report = made.train()
    data = everything(made)
    # Penalties follow from the size of the data: the attempt is repeated, not its penalty.
    metrics = [float(attempt == report.best_epoch) for attempt in range(1, report.epochs + 1)]
    wanted = made.parts.backbone().fit_checked(data, PlainFuser(), seed=0, monitor=RecordingMonitor(metrics=metrics))
    assert report.best_epoch == wanted.best_epoch
    narrow = wanted.factors if wanted.serving is None else wanted.serving()
    np.testing.assert_array_equal(open_artifact(made.root / "artifact").tensors["items"], narrow.items)


@pytest.mark.parametrize(
    "evaluation",
    [
        {"split": "random"},
        {"split": "leave-one-out"},
        {"split": "temporal", "cold_items": 0.2},
        {"split": "random", "min_rating": 3},
        {"split": "random", "k_core": 4},
    ],
    ids=str,
)
def test_no_list_holds_an_item_that_the_user_has(project, evaluation):
    made = project("popularity", evaluation={"metrics": ["ndcg@5"], **evaluation})
    made.train()
    own = owned(made.root)
    assert all(own[user].isdisjoint(items) for user, items in offered(made.root).items())


def test_the_files_of_a_split_are_all_hidden(project):
    made = project()
    rows = (made.root / "ratings.csv").read_text().splitlines()
    for name, some in (("train", rows[1::3] + rows[2::3]), ("test", rows[3::3])):
        (made.root / f"{name}.csv").write_text("\n".join([rows[0], *some]) + "\n")
    made = project(
        "popularity",
        data={"items": "items.csv", "interactions": "train.csv"},
        evaluation={"split": "files", "test": "test.csv", "metrics": ["ndcg@5"], "min_rating": 2},
    )
    assert made.train().refit
    own = owned(made.root)
    assert all(own[user].isdisjoint(items) for user, items in offered(made.root).items())


@pytest.mark.parametrize("how", ["option", "argument"])
def test_the_tested_model_is_served_on_request(project, how):
    made = project(**({"serving": {"refit": False}} if how == "option" else {}))
    report = made.train(evaluate_only=how == "argument")
    train = made.parts.split.train
    assert (report.refit, report.interactions) == (False, len(train.users))
    manifest = Ranker.load(made.root / "artifact").manifest
    assert manifest["trained_on"] == {"parts": ["train"], "interactions": len(train.users)}
    own = owned(made.root)
    assert any(own[user] & items for user, items in offered(made.root).items())


def test_the_configured_shares_of_new_items_go_to_the_ranker_and_refit_does_not(project):
    made = project(serving={"refit": False, "explore": 0.25})
    made.train()
    assert made.ranker().new_items.share.explore == 0.25


def test_metrics_are_those_of_held_out_interactions(project):
    assert project().train(keep=False).metrics == project().train(keep=False, evaluate_only=True).metrics


def test_a_backbone_that_cannot_repeat_epochs_serves_the_tested_model(project, caplog):
    report = project("endless").train()
    assert not report.refit
    assert "trains on after the 1 epochs that validation chose" in caplog.text


def test_unseen_items_are_placed_as_calibrated_on_validation(project):
    made = project(
        {"use": "als", "dim": 4}, fuser={"use": "prior"}, evaluation={"cold_items": 0.2, "metrics": ["ndcg@5"]}
    )
    made.generate()
    report = made.train()
    assert report.refit
    assert Ranker.load(made.root / "artifact").manifest["placements"]["items"] is not None


def test_the_card_says_how_good_the_model_is_and_what_it_is_not_good_for(project):
    made = project(evaluation={"metrics": ["ndcg@5", "recall@5"], "seeds": 1})
    report = made.train()
    text = (made.root / "artifact" / "README.md").read_text()
    assert f"| NDCG@5 | {report.metrics['ndcg@5']:.4f}".replace("0.", ".", 1) in text
    assert "`ratings.csv`: 216 interactions, 24 users, 20 items" in text
    head = next(line for line in text.splitlines() if "this model" in line)
    assert "popularity" in head
    assert "ease" in head
    assert " als " not in head  # it is the model
    assert "Items without interactions: it does not recommend them" in text


def test_the_card_shows_the_lines_that_an_ablation_tuned(project):
    made = project("popularity", evaluation={"metrics": ["ndcg@5"], "seeds": 1, "arms": ["none"]})
    lines = made.ablate(report=None).overall.reference
    made.train()
    text = (made.root / "artifact" / "README.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| NDCG@5"))
    assert f"{lines['als']['ndcg@5']:.4f}"[1:] in row
    assert f"{lines['ease']['ndcg@5']:.4f}"[1:] in row


def test_an_artifact_without_a_card_keeps_a_readme_of_somebody_else(project):
    made = project()
    made.train()
    folder = made.root / "artifact"
    eye = np.eye(2, dtype=np.float32)
    write = partial(
        write_artifact,
        folder,
        factors=Factors(eye, eye),
        user_ids=["a", "b"],
        item_ids=["c", "d"],
        train_users=np.array([0]),
        train_items=np.array([0]),
        manifest={},
    )
    write()
    assert not (folder / "README.md").exists()
    (folder / "README.md").write_text("mine")
    write()
    assert (folder / "README.md").read_text() == "mine"


def test_a_second_run_over_the_same_data_does_nothing(project):
    first = project().train()
    written = sorted((path.name, path.stat().st_mtime_ns) for path in (project().root / "artifact").iterdir())
    again = project().train()
    assert (first.kept, again.kept, again.metrics, again.refit) == (False, True, first.metrics, True)
    assert written == sorted((path.name, path.stat().st_mtime_ns) for path in (project().root / "artifact").iterdir())


@pytest.mark.parametrize("change", ["title", "time", "option", "low rating", "force"])
def test_it_trains_again_when_anything_that_is_served_changes(project, change):
    tables = {"evaluation": {"metrics": ["ndcg@5"], "min_rating": 2}}
    made = project(**tables)
    made.train()
    if change == "title":
        path = made.root / "items.csv"
        path.write_text(path.read_text().replace("3,film 3", "3,picture 3"))
    elif change == "low rating":
        path = made.root / "ratings.csv"
        taken = owned(made.root)["0"]
        path.write_text(path.read_text() + f"0,{next(str(i) for i in range(N_ITEMS) if str(i) not in taken)},1,1\n")
    elif change == "time":
        path = made.root / "ratings.csv"
        lines = path.read_text().splitlines()
        lines[1] = lines[1].rpartition(",")[0] + ",999999"
        path.write_text("\n".join(lines) + "\n")
    elif change == "option":
        tables["serving"] = {"refit": False}
    assert not project(**tables).train(keep=change != "force").kept
