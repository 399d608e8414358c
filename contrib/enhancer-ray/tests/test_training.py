"""An ablation on a cluster of three nodes is that of one machine; other software and lost processes."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import enhancer_ray
import pytest
from enhancer_ray import cluster as clusters
from enhancer_ray.runner import RayRunner

from enhancer.contracts import Context, Job
from enhancer.errors import ConfigError
from enhancer.plugin_host import load_plugins
from enhancer.project import Project

N_USERS, N_ITEMS = 30, 24
TOML = """
[data]
interactions = "ratings.csv"
[prompts.item]
source = "none"
[backbone]
use = "popularity"
[fuser]
use = "none"
[runner]
use = "RUNNER"
[evaluation]
seeds = 2
arms = ["none"]
metrics = ["ndcg@5"]
"""


@pytest.fixture
def folder(tmp_path):
    chance = random.Random(3)
    rows = [f"u{u},i{i},{4000 + u * 50 + i}" for u in range(N_USERS) for i in chance.sample(range(N_ITEMS), 9)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]) + "\n")
    return tmp_path


def opened(folder, use, address=None):
    (folder / "enhancer.toml").write_text(TOML.replace("RUNNER", use))
    plugins = load_plugins()
    if not plugins.is_registered("runner", "ray"):  # from a checkout
        plugins.register(enhancer_ray, distribution="enhancer-ray")
        plugins.only_installed = True
    overrides = [] if address is None else [f"runner.address={address}"]
    return Project.load(folder / "enhancer.toml", plugins=plugins, overrides=overrides)


def test_an_ablation_on_three_nodes_is_that_of_one_machine(folder, cluster, tmp_path_factory):
    here = opened(folder, "local").ablate(report=None)
    for path in (folder / "runs").glob("*"):
        path.unlink()
    project = opened(folder, "ray", cluster.address)
    try:
        there = project.ablate(report=None)
        assert there.to_json()["arms"] == here.to_json()["arms"]
        assert list((folder / "runs").glob("*.npz")), "finished runs are remembered here"
    finally:
        project.close()


def test_another_version_on_a_node_is_refused_with_what_to_install(cluster, tmp_path):
    runner = RayRunner(RayRunner.options_class(address=cluster.address), Context(root=tmp_path))
    try:
        assert runner.connect({"enhancer": None}) == 3
        nodes = clusters.working_nodes()
        with pytest.raises(ConfigError, match=r"^the Ray node .* has numpy .* has 0\.1; .*numpy==0\.1"):
            check_as_if_here_were_older(nodes)
    finally:
        runner.close()


def check_as_if_here_were_older(nodes):
    made, original = [], clusters.make_probe
    with pytest.MonkeyPatch.context() as patch:

        def older(names):
            made.append(names)
            return original(names) if len(made) == 1 else lambda: {"numpy": "0.1"}

        patch.setattr(clusters, "make_probe", older)
        clusters.check_software(nodes, {"numpy": None})


@pytest.mark.parametrize(
    ("name", "here", "there", "words"),
    [
        (
            "enhancer",
            "0.6.0",
            "0.5.0",
            r'has enhancer 0.5.0, and this process has 0.6.0; .* pip install "enhancer==0.6.0"',
        ),
        ("enhancer-svd", "0.1.0", None, r'has no enhancer-svd, .* pip install "enhancer-svd==0.1.0"'),
        ("Python", "3.12.1", "3.12.2", r"has Python 3.12.2, .*install the same Python"),
        ("Ray", "2.60.0", "2.59.0", r"has Ray 2.59.0, .*install the same Ray"),
    ],
)
def test_a_difference_says_what_to_change(name, here, there, words):
    node = {"NodeName": "10.0.0.2", "NodeID": "abcdef0123456789"}
    with pytest.raises(ConfigError, match=words) as raised:
        raise clusters.difference(name, here, there, node)
    assert "10.0.0.2 (abcdef01)" in str(raised.value)


def _dying():
    def die_once(path, report):
        report("begun")
        if not Path(path).exists():
            Path(path).touch()
            os._exit(9)
        return path

    return die_once


def test_a_task_whose_process_died_is_done_again(cluster, tmp_path):
    runner = RayRunner(RayRunner.options_class(address=cluster.address), Context(root=tmp_path))
    try:
        paths = [str(tmp_path / name) for name in "ab"]
        job = Job(name="die", start=_dying)
        found = dict(runner.map(job, paths, workers=1, on_event=lambda _: None))
        assert found == {path: path for path in paths}
    finally:
        runner.close()


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_no_cluster_is_refused_in_words(scheme, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{free.getsockname()[1]}"
    runner = RayRunner(RayRunner.options_class(address=address), Context(root=tmp_path))
    with pytest.raises(ConfigError, match=r"no Ray cluster answers .*`ray start --head`.* address = \"local\""):
        runner.connect({})


@pytest.mark.parametrize("address", ["somewhere", "http://host:80", "host:port"])
def test_what_is_no_address_is_refused(address, tmp_path):
    runner = RayRunner(RayRunner.options_class(address=address), Context(root=tmp_path))
    with pytest.raises(ConfigError, match="neither auto, local, HOST:PORT nor ray://HOST:PORT"):
        runner.connect({})
