"""Runs in worker processes give the same results, report progress, and leave no process behind."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from functools import partial

import pytest

from enhancer.errors import EvaluationError
from enhancer.evaluation import Arm, Workers, run_ablation
from enhancer_plugins.runners.local import LocalRunner

# Written to a module, because worker processes must be able to import it.
PARTS = '''
import os
from functools import partial

import numpy as np

from enhancer.contracts import Backbone, Factors, Fitted, Fuser, Options
from enhancer.data import Interactions, ReadReport, Split
from enhancer.errors import EvaluationError
from enhancer.evaluation import Experiment


class Noise(Backbone):
    """Random factors, different for each seed."""

    def __init__(self, does=None, arm=None):
        super().__init__(Options(), None)
        self.does = does

    def fit(self, data, fuser, *, seed, monitor):
        if self.does == "die":
            os._exit(7)
        if self.does == "raise":
            raise EvaluationError("diverged", hint="smaller steps")
        draw = np.random.default_rng(seed)
        sides = [draw.normal(size=(n, 4)).astype(np.float32) for n in (data.n_users, data.n_items)]
        factors = Factors(*sides)
        monitor.epoch_finished(1, 1, 0.5, monitor.validate(factors))
        if self.does == "nan":
            factors.users[:] = np.nan
        return Fitted(factors=factors, epochs=1, best_epoch=1)


class Nothing(Fuser):
    uses_semantics = False

    def __init__(self):
        super().__init__(Options(), None)

    def build(self, data, dim, *, seed, device):
        raise AssertionError


def split():
    users, items = np.divmod(np.arange(20 * 12, dtype=np.int32), 12)
    part = np.random.default_rng(0).permutation(len(users)) % 4
    none = np.empty(0, np.int32)

    def pick(*wanted):
        rows = np.isin(part, wanted)
        ids = [str(n) for n in range(20)], [str(n) for n in range(12)]
        return Interactions(*ids, users[rows], items[rows], None, None, ReadReport())

    return Split(pick(0, 1), pick(2), pick(3), none, none)


def features(inputs):
    raise AssertionError("no arm here has vectors")


def fuser(arm):
    return Nothing()


def recipe(does=None):
    return Experiment.over(split(), features, partial(Noise, does), fuser, metrics=["ndcg@5"])
'''


@pytest.fixture
def parts(tmp_path, monkeypatch):
    (tmp_path / "spread_parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("spread_parts")
    sys.modules.pop("spread_parts", None)


def ablate(parts, count, does=None, epochs=None):
    return run_ablation(
        parts.recipe(does),
        [Arm(f"arm{n}", "nothing", semantic=False) for n in range(2)],
        [0, 1, 2],
        workers=None if count is None else Workers(count, partial(parts.recipe, does), LocalRunner()),
        on_epoch=None if epochs is None else lambda *epoch: epochs.append(epoch),
    )


def test_two_processes_give_what_one_gives_in_the_same_order(parts, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before, epochs = dict(os.environ), []
    spread, alone = ablate(parts, 2, epochs=epochs), ablate(parts, None)
    assert [run.name for run in spread.runs] == [run.name for run in alone.runs]
    assert spread.to_json()["arms"] == alone.to_json()["arms"]
    assert sorted(name for name, *_ in epochs) == sorted(run.name for run in alone.runs)
    assert multiprocessing.active_children() == []
    assert dict(os.environ) == before


def test_an_error_in_a_worker_is_raised_here_with_its_hint(parts):
    with pytest.raises(EvaluationError, match="diverged; smaller steps"):
        ablate(parts, 2, "raise")
    assert multiprocessing.active_children() == []


def test_factors_that_cannot_be_ranked_are_told_with_arm_and_seed(parts):
    with pytest.raises(EvaluationError, match=r"^arm '\w+', seed 0: .*not finite"):
        ablate(parts, None, "nan")


def test_a_worker_that_dies_is_named(parts):
    with pytest.raises(EvaluationError, match=r"arm./seed0 ended with code 7.*workers = 1"):
        ablate(parts, 2, "die")
    assert multiprocessing.active_children() == []
