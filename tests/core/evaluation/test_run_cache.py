from __future__ import annotations

import os

import numpy as np
import pytest

from enhancer.contracts import View
from enhancer.evaluation import training_data
from enhancer.evaluation.running.run_cache import RunCache


@pytest.fixture
def count(ablate):
    def run(folder, identity="", **more):
        trained = []
        result = ablate(cache=RunCache(folder, identity), on_epoch=lambda name, *_: trained.append(name), **more)
        return result, sorted(set(trained))

    return run


def test_a_second_ablation_trains_nothing_and_finds_the_same(count, toys, tmp_path):
    arms = toys["arms"]
    first, trained = count(tmp_path, arms=arms, seeds=(0, 1))
    assert len(trained) == 8
    second, trained = count(tmp_path, arms=arms, seeds=(0, 1))
    assert trained == []
    one, two = first.to_json(), second.to_json()
    assert one.pop("seconds") != two.pop("seconds")
    assert one == two
    for a, b in zip(first.runs, second.runs, strict=True):
        assert a.history == b.history
        assert all((a.scores[s].values[m] == b.scores[s].values[m]).all() for s in a.scores for m in first.metrics)


def test_only_what_changed_is_trained_again(count, toys, tmp_path):
    arms = toys["arms"]
    count(tmp_path, arms=arms[:2], seeds=(0,))
    assert count(tmp_path, arms=arms[:3], seeds=(0, 1))[1] == ["beside/seed1", "none/seed1", "text/seed0", "text/seed1"]
    assert len(count(tmp_path, arms=arms[:2], seeds=(0,), metrics=["hit@5"])[1]) == 2
    assert len(count(tmp_path, arms=arms[:2], seeds=(0,), world_seed=1)[1]) == 2
    assert len(count(tmp_path, arms=arms[:2], seeds=(0,), identity="another version")[1]) == 2
    assert count(tmp_path, arms=arms[:2], seeds=(0,))[1] == []


def test_options_of_the_backbone_are_part_of_what_a_run_is(world, toys, tmp_path):
    split, vectors = world
    data = training_data(split, None, vectors)
    cache, backbone = RunCache(tmp_path), toys["SVD"]
    small = backbone(backbone.options_class(rank=2))
    keys = {cache.key(toys["arms"][1], 0, data, split, ["ndcg@10"], (b,)) for b in (backbone(), small)}
    assert len(keys) == 2
    assert cache.key(toys["arms"][1], 0, data, split, ["ndcg@10"], (backbone(),)) in keys


def test_equal_vectors_in_other_views_are_another_run(world, toys, tmp_path):
    split, vectors = world
    width = vectors.shape[1]
    views = [(), (View("", 0, width),), (View("a", 0, 2), View("b", 2, width)), (View("a", 0, 3), View("b", 3, width))]
    data = [training_data(split, None, vectors, each) for each in views]
    first, same, *others = (
        RunCache(tmp_path).key(toys["arms"][1], 0, one, split, ["ndcg@10"], (toys["SVD"](),)) for one in data
    )
    assert first == same
    assert len({first, *others}) == 3


def test_a_damaged_memory_is_no_memory(count, toys, tmp_path):
    count(tmp_path, arms=toys["arms"][:1], seeds=(0, 1, 2), references={})
    first, second, third = sorted(tmp_path.iterdir())
    first.write_bytes(first.read_bytes()[:300])
    second.write_bytes(b"")
    with third.open("wb") as file:
        np.savez(file, about=np.array(["{}"], dtype=object))  # pickles are never loaded
    assert len(count(tmp_path, arms=toys["arms"][:1], seeds=(0, 1, 2), references={})[1]) == 3
    assert count(tmp_path, arms=toys["arms"][:1], seeds=(0, 1, 2), references={})[1] == []


def test_what_unfinished_runs_left_a_week_ago_is_removed_and_nothing_else(tmp_path):
    cache = RunCache(tmp_path)
    names = ("old.unfinished", "old.unfinished.17.new", "new.unfinished", "old.npz")
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / ".tables-old" / "deep").mkdir(parents=True)
    (tmp_path / ".tables-new").mkdir()
    for path in tmp_path.iterdir():
        if "old" in path.name:
            os.utime(path, (0, 0))
    cache.remove_abandoned()
    assert {path.name for path in tmp_path.iterdir()} == {".tables-new", "new.unfinished", "old.npz"}
    RunCache(tmp_path / "nowhere").remove_abandoned()
