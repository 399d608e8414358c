"""A killed training run resumes from its checkpoint, with the result of an uninterrupted run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

import enhancer

TOML = """\
[data]
items = "items.csv"
interactions = "ratings.csv"
[prompts.item]
source = "none"
[backbone]
use = "lightgcn"
epochs = 600
patience = 600
[fuser]
use = "none"
[evaluation]
metrics = ["ndcg@5"]
seeds = 2
arms = ["none"]
controls = false
"""


def command(folder, *arguments):
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", "from enhancer.cli.app import main; main()", *arguments],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def killed(folder, *arguments):
    """Run the command, and kill it and its workers as soon as a checkpoint exists."""
    process = command(folder, *arguments)
    until = time.monotonic() + 60
    while not list(folder.glob("runs/*.unfinished")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.fixture
def two(tables, tmp_path_factory):
    """Two copies of a project: one whose run is killed, and one that runs to the end."""
    (tables / "enhancer.toml").write_text(TOML)
    whole = tmp_path_factory.mktemp("whole") / "project"
    shutil.copytree(tables, whole)
    return tables, whole


def test_training_goes_on(two):
    interrupted, whole = two
    killed(interrupted, "train")
    assert not (interrupted / "artifact").exists()
    events, (resumed, uninterrupted) = [], (enhancer.Project.load(folder / "enhancer.toml") for folder in two)
    report = resumed.train(listener=events.append)
    assert events[0].done > 1, "training restarted"
    assert report.metrics == uninterrupted.train().metrics
    assert not list(interrupted.glob("runs/*.unfinished"))
    # The name of the tensor file is a hash of its content.
    assert [path.name for path in (interrupted / "artifact").iterdir()] == [
        path.name for path in (whole / "artifact").iterdir()
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_ablation_goes_on_within_its_runs(two, workers):
    interrupted, _ = two
    killed(interrupted, "ablate", "--set", f"evaluation.workers={workers}")
    events, (resumed, uninterrupted) = [], (enhancer.Project.load(folder / "enhancer.toml") for folder in two)
    found = resumed.ablate(listener=events.append, report=None)
    first_epoch: dict[str, int] = {}
    for event in events:
        if "epoch" in event.detail:
            first_epoch.setdefault(event.detail["run"], event.detail["epoch"])
    # With two workers, one may have a checkpoint before the other has started.
    assert max(first_epoch.values()) > 1, "training restarted"
    assert found.to_json()["arms"] == uninterrupted.ablate(report=None).to_json()["arms"]
    assert not list(interrupted.glob("runs/*.unfinished"))
