"""How long training takes: seconds an epoch, and seconds to a given NDCG@10, of this library and of others::

    python tests/benchmarks/training.py FOLDER
    python tests/benchmarks/training.py FOLDER --peers VENVS --json
    python tests/benchmarks/training.py --scale 0.1 1 10

``FOLDER`` holds MovieLens-100k as ``ml-100k.inter``. All ratings are positives. An epoch is timed on 80 % of each user's
interactions with embeddings of 64 numbers, three layers and 2,048 interactions a step, the same for everyone; the semantic
vectors of ``align`` are random, 384 numbers each, and every node of a step is aligned. The time to an NDCG@10 is taken
with the library's defaults on a random 80/10/10 split of each user's interactions: ranking is over all items, the clock runs
through training and validation, and the test part is looked at with the clock stopped.

``VENVS`` is a folder of virtual environments: ``recbole`` (with RecBole 1.2.1) and ``lenskit`` (with LensKit 2025.8 and
implicit). Each peer gets the same arrays and hands back scores or factors, which are judged by the same evaluator.

``--scale`` times epochs on made-up power-law interactions, so many millions of them, twenty a user and a hundred an item on
average, with the library's defaults (steps of a fortieth of the interactions); each size in a process of its own, whose
peak of resident memory is told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

RECBOLE_GOAL = 0.308
"""NDCG@10 at which RecBole 1.2.1's LightGCN converges on such a split, after about 400 epochs."""
PEERS = {"recbole": "recbole", "flexmf": "lenskit", "als": "lenskit"}
"""Peers, and the virtual environment that each runs in."""


@dataclass(frozen=True, eq=False)
class Part:
    """Interactions of one part of a split."""

    users: np.ndarray
    items: np.ndarray


@dataclass(frozen=True, eq=False)
class Data:
    """A split over one vocabulary."""

    n_users: int
    n_items: int
    train: Part
    validation: Part
    test: Part


def movielens(folder: Path, validation: float, test: float, seed: int = 0) -> Data:
    """Cut each user's ratings at random."""
    lines = (folder / "ml-100k.inter").read_text().splitlines()[1:]
    table = np.array([line.split("\t")[:2] for line in lines])
    users, items = (np.unique(column, return_inverse=True)[1].astype(np.int32) for column in table.T)
    random, parts = np.random.default_rng(seed), np.zeros(len(users), np.int8)
    for user in range(users.max() + 1):
        rows = random.permutation(np.flatnonzero(users == user))
        held, kept = round(test * len(rows)), round(validation * len(rows))
        parts[rows[:held]] = 2
        parts[rows[held : held + kept]] = 1
    cut = [Part(users[parts == number], items[parts == number]) for number in range(3)]
    return Data(int(users.max()) + 1, int(items.max()) + 1, *cut)


def power_law(millions: float, seed: int = 0) -> Data:
    """Made-up interactions: twenty a user on average, items of Zipf's popularity, pairs unique."""
    random, wanted = np.random.default_rng(seed), int(millions * 1e6)
    n_users, n_items = wanted // 20, wanted // 100
    activity = random.pareto(1.5, n_users) + 0.3
    fame = np.cumsum(1 / np.arange(1, n_items + 1) ** 0.8)
    pairs = np.empty(0, np.int64)
    chances = np.cumsum(activity)
    while len(pairs) < wanted:
        users = np.searchsorted(chances, random.random(wanted // 2) * chances[-1])
        items = np.searchsorted(fame, random.random(wanted // 2) * fame[-1])
        pairs = np.unique(np.concatenate([pairs, users * n_items + items]))
    users, items = np.divmod(random.permutation(pairs)[:wanted], n_items)
    nothing = Part(np.empty(0, np.int32), np.empty(0, np.int32))
    return Data(n_users, n_items, Part(users.astype(np.int32), items.astype(np.int32)), nothing, nothing)


def score(users: np.ndarray, items: np.ndarray, data: Data, part: Part, seen: tuple[Part, ...]) -> float:
    """NDCG@10 over all items."""
    from enhancer.contracts import Factors
    from enhancer.evaluation import CSR, evaluate

    masked = CSR.of(seen, data.n_users)
    return evaluate(Factors(users, items), part, seen=masked, metrics=("ndcg@10",)).mean("ndcg@10")


class Watch:
    """A monitor that validates on the validation part and stops its clock to look at the test part."""

    checkpoint = None

    def __init__(self, data: Data, goal: float) -> None:
        self._data, self._goal = data, goal
        self._begun = time.perf_counter()
        self._paused = 0.0
        self.reached: float | None = None

    def validate(self, factors: Any) -> float | None:
        """NDCG@10 on the validation part; None where there is none."""
        data = self._data
        if not len(data.validation.users):
            return None
        metric = score(factors.users, factors.items, data, data.validation, (data.train,))
        stopped = time.perf_counter()
        if self.reached is None:
            seen = (data.train, data.validation)
            if score(factors.users, factors.items, data, data.test, seen) >= self._goal:
                self.reached = stopped - self._begun - self._paused
        self._paused += time.perf_counter() - stopped
        return metric

    def epoch_finished(self, *told: Any) -> None:
        """Nothing to tell."""


def fit(data: Data, arm: str, goal: float = RECBOLE_GOAL, **options: Any) -> tuple[Any, Watch, float]:
    """One run of this library, its monitor and its seconds."""
    from enhancer.contracts import Context, TrainingData
    from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
    from enhancer_plugins.fusers.align import Align, AlignOptions
    from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

    fuser, known = NoFusion(NoFusionOptions(), Context()), {}
    if arm == "align":
        fuser, random = Align(AlignOptions(nodes_per_step=0), Context()), np.random.default_rng(0)
        for name, n in (("user_vectors", data.n_users), ("item_vectors", data.n_items)):
            known[name] = random.standard_normal((n, 384)).astype(np.float32)
    watch, begun = Watch(data, goal), time.perf_counter()
    training = TrainingData(
        n_users=data.n_users, n_items=data.n_items, users=data.train.users, items=data.train.items, **known
    )
    fitted = LightGCN(LightGCNOptions(**options), Context()).fit(training, fuser, seed=0, monitor=watch)
    return fitted, watch, time.perf_counter() - begun


def ours(folder: Path, epochs: int, goal: float) -> dict[str, Any]:
    """Epochs of both arms, and the way to an NDCG."""
    found: dict[str, Any] = {}
    timed = movielens(folder, 0, 0.2)
    for arm in ("none", "align"):
        fitted, *_ = fit(timed, arm, batch_size=2048, epochs=epochs + 2)
        seconds = [entry["seconds"] for entry in fitted.history[2:]]
        found[arm] = {"epoch_seconds": median(seconds), "fastest": min(seconds)}
    data = movielens(folder, 0.1, 0.1)
    fitted, watch, seconds = fit(data, "none", goal)
    factors = fitted.factors
    metric = score(factors.users, factors.items, data, data.test, (data.train, data.validation))
    found["none"] |= {
        "seconds_to_goal": watch.reached,
        "goal": goal,
        "epochs": fitted.epochs,
        "seconds": seconds,
        "ndcg@10": metric,
    }
    return found


def peers(folder: Path, venvs: Path, epochs: int, threads: int) -> dict[str, Any]:
    """The others, each in its own environment."""
    found: dict[str, Any] = {}
    splits = {"timed": movielens(folder, 0, 0.2), "judged": movielens(folder, 0.1, 0.1)}
    with tempfile.TemporaryDirectory() as place:
        for name, data in splits.items():
            arrays = {f"{part}_{side}": getattr(getattr(data, part), side) for part in ("train", "validation", "test")
                      for side in ("users", "items")}  # fmt: skip
            np.savez(Path(place, f"{name}.npz"), n_users=data.n_users, n_items=data.n_items, **arrays)
        for peer, environment in PEERS.items():
            python = venvs / environment / "bin" / "python"
            if not python.exists():
                continue
            script = Path(__file__).with_name("training_peers.py")
            done = subprocess.run(
                [str(python), str(script), peer, place, str(epochs)],
                env=os.environ | {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"},
                capture_output=True, text=True, check=False, cwd=place,
            )  # fmt: skip
            if done.returncode:
                found[peer] = {"error": done.stderr.strip().splitlines()[-3:]}
                continue
            found[peer] = json.loads(done.stdout.strip().splitlines()[-1])
            factors = Path(place, f"{peer}.npz")
            if factors.exists():
                stored, data = np.load(factors), splits["judged"]
                seen = (data.train, data.validation)
                found[peer]["ndcg@10"] = score(stored["users"], stored["items"], data, data.test, seen)
    return found


def scale(millions: float) -> dict[str, Any]:
    """The faster of two epochs of so many millions (the fastest of nine, of few)."""
    begun = time.perf_counter()
    data = power_law(millions)
    made = time.perf_counter() - begun
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{millions:g} million interactions made in {made:.0f} s", file=sys.stderr, flush=True)
    fitted, _, seconds = fit(data, "none", epochs=9 if millions < 0.5 else 3 if millions < 5 else 2)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "interactions": len(data.train.users),
        "users": data.n_users,
        "items": data.n_items,
        "epoch_seconds": min(entry["seconds"] for entry in fitted.history),
        "run_seconds": seconds,
        "made_peak_gib": round(before, 2),
        "peak_gib": round(peak, 2),
    }


def machine(threads: int) -> str:
    """What the figures were taken on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {os.cpu_count()} cores, {threads} threads, Python {platform.python_version()}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where ml-100k.inter is")
    parser.add_argument("--peers", type=Path, help="folder of virtual environments")
    parser.add_argument("--epochs", type=int, default=10, help="epochs that are timed")
    parser.add_argument("--goal", type=float, default=RECBOLE_GOAL, help="NDCG@10 to be reached")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--scale", type=float, nargs="*", default=[], metavar="MILLIONS")
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args()
    import numba
    import torch

    numba.set_num_threads(min(told.threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(told.threads)
    found: dict[str, Any] = {"machine": machine(told.threads), "command": " ".join(sys.argv)}
    if told.folder is not None:
        found["enhancer"] = ours(told.folder, told.epochs, told.goal)
        if told.peers is not None:
            found |= peers(told.folder, told.peers.absolute(), told.epochs, told.threads)
    if len(told.scale) == 1:
        found["scale"] = [scale(told.scale[0])]
    elif told.scale:
        found["scale"] = []
        for millions in told.scale:
            own = [sys.executable, __file__, "--scale", str(millions), "--threads", str(told.threads), "--json"]
            done = subprocess.run(own, capture_output=True, text=True, check=True)
            found["scale"] += json.loads(done.stdout)["scale"]
    print(json.dumps(found) if told.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
