"""A training run that is killed goes on where it was, and ends as if nothing had been."""

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
    """Kill the command and its workers as soon as a run has kept its state."""
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
    """The same project twice: one whose run is killed, and one that is left in peace."""
    (tables / "enhancer.toml").write_text(TOML)
    whole = tmp_path_factory.mktemp("whole") / "project"
    shutil.copytree(tables, whole)
    return tables, whole


def test_training_goes_on(two):
    interrupted, whole = two
    killed(interrupted, "train")
    assert not (interrupted / "artifact").exists()
    told, (again, at_once) = [], (enhancer.Project.load(folder / "enhancer.toml") for folder in two)
    report = again.train(listener=told.append)
    assert told[0].done > 1, "it began anew"
    assert report.metrics == at_once.train().metrics
    assert not list(interrupted.glob("runs/*.unfinished"))
    # The tensors' file is named by a hash of what it holds.
    assert [path.name for path in (interrupted / "artifact").iterdir()] == [
        path.name for path in (whole / "artifact").iterdir()
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_ablation_goes_on_within_its_runs(two, workers):
    interrupted, _ = two
    killed(interrupted, "ablate", "--set", f"evaluation.workers={workers}")
    told, (again, at_once) = [], (enhancer.Project.load(folder / "enhancer.toml") for folder in two)
    found = again.ablate(listener=told.append, report=None)
    began: dict[str, int] = {}
    for event in told:
        if "epoch" in event.detail:
            began.setdefault(event.detail["run"], event.detail["epoch"])
    # Of two workers one may have kept its state before the other had begun.
    assert max(began.values()) > 1, "it began anew"
    assert found.to_json()["arms"] == at_once.ablate(report=None).to_json()["arms"]
    assert not list(interrupted.glob("runs/*.unfinished"))
