"""Estimates of memory against the peak of a run."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
import pytest

from enhancer.contracts import Context, TrainingData
from enhancer.contracts.options import build_options
from enhancer.evaluation import evaluate
from enhancer.evaluation.measuring.metrics import PairList
from enhancer.testing.planted import PlainFuser
from enhancer_plugins.backbones.als import ALS
from enhancer_plugins.backbones.ease import EASE
from enhancer_plugins.backbones.fm import FM
from enhancer_plugins.backbones.lightgcn import LightGCN
from enhancer_plugins.backbones.popularity import Popularity

PEAK = Path("/proc/self/clear_refs")
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux") or not PEAK.exists(), reason="needs Linux's /proc"),
]


class Validating:
    """Monitor that ranks for some users, as an experiment does."""

    checkpoint = None

    def __init__(self, data):
        self.pairs = PairList(data.users[:200], data.items[:200])

    def validate(self, factors):
        return evaluate(factors, self.pairs, metrics=["ndcg@10"]).mean("ndcg@10")

    def epoch_finished(self, *arguments):
        pass


def random_data(n_users, n_items, n):
    cells = np.unique(np.random.default_rng(0).integers(0, n_users * n_items, n))
    users, items = (part.astype(np.int32) for part in np.divmod(cells, n_items))
    times = np.arange(len(users), dtype=np.int64)
    return TrainingData(n_users=n_users, n_items=n_items, users=users, items=items, timestamps=times)


def status(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) << 10


@pytest.fixture
def freed_at_once():
    """Let the allocator return large arrays when they are freed, so that runs do not share them."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        pytest.skip("needs glibc")
    libc.mallopt(_MMAP_THRESHOLD, 1 << 16)
    libc.malloc_trim(0)  # what earlier tests have freed is not there for the run, either
    yield
    libc.mallopt(_MMAP_THRESHOLD, 128 << 10)
    libc.mallopt(_TRIM_THRESHOLD, 128 << 10)


@pytest.mark.parametrize(
    ("backbone", "options", "size"),
    [
        (Popularity, {"half_life": 0.1}, (200_000, 50_000, 500_000)),
        (EASE, {"regularisation": 50.0}, (3_000, 1_500, 60_000)),
        (EASE, {}, (3_000, 1_500, 60_000)),
        (EASE, {"regularisation": 50.0, "scores": "low-rank", "rank": 64}, (30_000, 1_200, 60_000)),
        (ALS, {"epochs": 2, "dim": 64}, (60_000, 10_000, 150_000)),
        (LightGCN, {"epochs": 1, "eval_every": 1, "batch_size": 50_000}, (40_000, 10_000, 100_000)),
        (LightGCN, {"epochs": 1, "eval_every": 1, "loss": "multinomial", "dim": 32}, (20_000, 1_000, 60_000)),
        (FM, {"epochs": 1, "eval_every": 1, "batch_size": 50_000}, (40_000, 10_000, 100_000)),
    ],
)
def test_the_estimate_is_near_the_peak(freed_at_once, backbone, options, size):
    made = backbone(build_options(backbone.options_class, options, where="[backbone]"), Context())
    for data in (random_data(300, 200, 3_000), random_data(*size)):  # libraries and kernels are loaded first
        monitor = Validating(data)
        PEAK.write_text("5")
        before = status("VmRSS")
        made.fit_checked(data, PlainFuser(), seed=0, monitor=monitor)
        peak = status("VmHWM") - before
    assert 0.6 < made.memory(data) / peak < 3, f"{made.memory(data):,} estimated, {peak:,} measured"
