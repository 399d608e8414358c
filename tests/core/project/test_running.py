"""Training runs go through the runner, and where they are trained changes nothing but the time."""

from __future__ import annotations

import pickle
import random

import pytest
from generation import HashingEmbedder

import enhancer
from enhancer.contracts import Runner
from enhancer.contracts.options import Context, Options
from enhancer.errors import ConfigError
from enhancer.plugin_host import load_plugins
from enhancer.project import Project

N_USERS, N_ITEMS = 30, 24
TOML = """
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
use = "ease"
scores = "low-rank"
rank = 6
[fuser]
use = "prior"
[evaluation]
seeds = 2
cold_items = 0.2
arms = ["none", "prior"]
metrics = ["ndcg@5"]
search = {trials = 2}
"""


class Elsewhere(Runner):
    """Does tasks as another machine does: from what is pickled, in a folder without the project."""

    apart = True

    def __init__(self, folder):
        super().__init__(Options(), Context(root=folder))
        self.done: list[str] = []
        self.connected: dict[str, str | None] = {}

    def connect(self, distributions):
        self.connected = dict(distributions)
        return 2

    def map(self, job, tasks, *, workers, on_event):
        job = pickle.loads(pickle.dumps(job, 5))
        work = job.start()
        for task in tasks:
            self.done.append(job.title(task))
            result = work(pickle.loads(pickle.dumps(task)), lambda event: on_event(pickle.loads(pickle.dumps(event))))
            yield task, pickle.loads(pickle.dumps(result))


class Plugin:
    @enhancer.hookimpl
    def register_embedders(self, register):
        register("hashing", HashingEmbedder)


@pytest.fixture
def folder(tmp_path):
    chance = random.Random(3)
    rows = [f"u{u},i{i},{4000 + u * 50 + i}" for u in range(N_USERS) for i in chance.sample(range(N_ITEMS), 9)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    items = [f"i{i},film {i} of theme{i % 4}" for i in range(N_ITEMS)]
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title", *items]) + "\n")
    (tmp_path / "enhancer.toml").write_text(TOML)
    return tmp_path


def opened(folder, runner=None):
    plugins = load_plugins()
    plugins.register(Plugin())
    project = Project.load(folder / "enhancer.toml", plugins=plugins)
    if runner is not None:
        plugins.only_installed = True  # the embedder alone is by hand, and training does not need it
        project.parts.runner = runner
    return project


def forget(folder):
    for path in (folder / "runs").glob("*"):
        path.unlink()


def rounded(result):
    return {key: value for key, value in result.to_json().items() if "seconds" not in key}


def test_an_ablation_elsewhere_is_that_of_this_machine(folder, tmp_path_factory):
    opened(folder).generate()
    here = opened(folder).ablate(report=None)
    forget(folder)
    runner = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    epochs = []
    there = opened(folder, runner).ablate(report=None, listener=epochs.append)
    assert there.to_json()["arms"] == here.to_json()["arms"]
    assert there.to_json()["strata"] == here.to_json()["strata"]
    assert {run.name for run in here.runs if run.seed == 0} <= {*runner.done}
    assert any("/trial" in name for name in runner.done)
    assert set(runner.connected) == {"enhancer"}

    again = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    remembered = opened(folder, again).ablate(report=None)
    assert again.done == []
    assert remembered.to_json()["arms"] == here.to_json()["arms"]


def test_density_elsewhere_is_that_of_this_machine(folder, tmp_path_factory):
    opened(folder).generate()
    here = opened(folder).density(report=None)
    forget(folder)
    runner = Elsewhere(tmp_path_factory.mktemp("elsewhere"))
    there = opened(folder, runner).density(report=None)
    assert runner.done
    assert there.to_json()["frontier"] == here.to_json()["frontier"]


def test_plugins_that_were_registered_by_hand_are_refused_before_anything_is_trained(folder, tmp_path):
    opened(folder).generate()
    project = opened(folder)
    runner = Elsewhere(tmp_path)
    project.parts.runner = runner
    with pytest.raises(ConfigError, match=r"\[runner\] .* installed plugins only"):
        project.ablate(report=None)
    assert runner.done == []
