"""Events that the verbs of a project send: generate, refresh, train, ablate."""

from __future__ import annotations

import importlib
import random
from typing import ClassVar

import pytest
from command_line import hashing  # noqa: F401  # fixture

import enhancer
from enhancer.contracts import Observer, Options
from enhancer.errors import ConfigError, EnhancerError
from enhancer.plugin_host import load_plugins

CONFIG = """\
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
use = "lightgcn"
dim = 4
epochs = 2
[evaluation]
seeds = 2
test_size = 0.3
metrics = ["ndcg@10"]
arms = ["none", "concat"]
controls = false
"""


class TrackerOptions(Options):
    """Options of the tracker of these tests."""

    tag: str = ""
    """Any text."""


class Tracker(Observer):
    """Keep all events in one list."""

    options_class = TrackerOptions
    events: ClassVar[list[tuple]] = []

    def run_started(self, run):
        Tracker.events.append(("run_started", run))

    def run_finished(self, run, result):
        Tracker.events.append(("run_finished", run, result))

    def profile_stored(self, record):
        Tracker.events.append(("profile_stored", record.id))

    def epoch_finished(self, run, epoch, loss, metric):
        Tracker.events.append(("epoch_finished", run, epoch))

    def arm_run_finished(self, run, result):
        Tracker.events.append(("arm_run_finished", run, result))

    def ablation_finished(self, result):
        Tracker.events.append(("ablation_finished", result))


class TrackerPlugin:
    @enhancer.hookimpl
    def register_observers(self, register):
        register("tracker", Tracker)


@pytest.fixture
def folder(tmp_path):
    chance = random.Random(3)
    genres = ("western", "musical", "thriller", "romance")
    rows = [f"{n},A {genres[n % 4]} of {1950 + n}\n" for n in range(24)]
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(rows))
    rated = [f"u{user},{item}\n" for user in range(14) for item in chance.sample(range(24), 10)]
    (tmp_path / "ratings.csv").write_text("user_id,item_id\n" + "".join(rated))
    (tmp_path / "enhancer.toml").write_text(CONFIG)
    Tracker.events = []
    return tmp_path


@pytest.fixture
def load(folder, hashing):  # noqa: F811  # the example distribution is importable within it
    """Return a function that loads the project, with the tracker installed."""
    made = []

    def load(*overrides):
        plugins = load_plugins(environ={"ENHANCER_PLUGINS": "enhancer"})
        plugins.register(importlib.import_module("enhancer_example"))
        plugins.register(TrackerPlugin())
        made.append(enhancer.Project.load(folder / "enhancer.toml", overrides=overrides, plugins=plugins))
        return made[-1]

    yield load
    for project in made:
        project.close()


def names():
    return [event[0] for event in Tracker.events]


def test_a_generation_is_a_run_with_its_counts(load):
    project = load("observers.tracker.tag=first")
    report = project.generate()
    assert names() == ["run_started", *["profile_stored"] * 24, "run_finished"]
    _, info, result = Tracker.events[-1]
    assert (info.verb, result.status, result.cost_usd) == ("generate", "done", report.cost_usd)
    assert (result.metrics["entities"], result.metrics["generated"]) == (24, 24)
    assert info.configuration["backbone"]["options"]["dim"] == 4
    assert info.configuration["observers"]["tracker"]["options"] == {"tag": "first"}
    Tracker.events = []
    assert project.refresh().generated is None
    assert names() == ["run_started", "run_finished"]
    assert (Tracker.events[-1][1].verb, Tracker.events[-1][2].metrics) == ("refresh", {})


def test_without_a_table_nothing_is_sent_to_an_observer(load):
    load().generate()
    assert Tracker.events == []


def test_a_misspelt_table_is_refused_before_anything_is_done(load):
    project = load("observers.trackr.tag=x")
    with pytest.raises(ConfigError, match="unknown observer 'trackr'; did you mean 'tracker'"):
        project.generate()
    assert project.store.stats().records == 0


def test_an_error_closes_the_run(load):
    with pytest.raises(EnhancerError):
        load("observers.tracker.tag=x", "data.interactions=none-such.csv").train()
    assert names() == ["run_started", "run_finished"]
    result = Tracker.events[-1][2]
    assert result.status == "failed"
    assert "none-such.csv" in result.error


def test_ctrl_c_closes_the_run(load):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load("observers.tracker.tag=x").generate(listener=interrupt)
    assert names()[-1] == "run_finished"
    assert Tracker.events[-1][2].status == "interrupted"


@pytest.mark.filterwarnings("ignore")  # the libraries' own
def test_training_and_ablation(load, folder):
    pytest.importorskip("torch")
    project = load("observers.tracker.tag=x")
    project.generate()
    Tracker.events = []
    report = project.train()
    assert names() == ["run_started", "epoch_finished", "epoch_finished", "run_finished"]
    result = Tracker.events[-1][2]
    assert (result.metrics, result.artifact) == (report.metrics, folder / "artifact")

    Tracker.events = []
    ablation = project.ablate(report=None)
    assert {*names()} == {"run_started", "epoch_finished", "arm_run_finished", "ablation_finished", "run_finished"}
    arm_runs = [event for event in Tracker.events if event[0] == "arm_run_finished"]
    info = Tracker.events[0][1]
    assert all(event[1] is info for event in arm_runs)
    assert {event[2].name for event in arm_runs} == {"none/seed0", "none/seed1", "concat/seed0", "concat/seed1"}
    for _, _, arm_run in arm_runs:
        per_seed = ablation.to_json()["arms"][arm_run.arm]["ndcg@10"]["per_seed"]
        assert arm_run.metrics == {"ndcg@10": per_seed[arm_run.seed]}
        assert arm_run.parameters["fuser"] == arm_run.arm
        assert arm_run.parameters["backbone.dim"] == 4
        assert arm_run.parameters["backbone.layers"] == 3
    _, last, result = Tracker.events[-1]
    assert (last.verb, result.status, result.artifact) == ("ablate", "done", None)
    assert set(result.metrics) == {"none/ndcg@10", "concat/ndcg@10"}
