"""Training time: seconds an epoch, and seconds to a given NDCG@10, of this library and of others::

    python tests/benchmarks/training.py FOLDER
    python tests/benchmarks/training.py FOLDER --peers VENVS --converge 400
    python tests/benchmarks/training.py FOLDER --goal 0.340 --multinomial
    python tests/benchmarks/training.py --graph --peers VENVS

``FOLDER`` holds MovieLens-100k as ``ml-100k.inter``; ``--graph`` makes up two million interactions of 50,000 users and 20,000
items instead. All ratings are positives. An epoch is timed on 80 % of each user's interactions with embeddings of 64
numbers, three layers and 2,048 interactions a step (40,000 of the graph), the same for everyone; the semantic vectors of
``align`` are random, 384 numbers each, and every node of a step is aligned. The time to an NDCG@10 is taken on a random
80/10/10 split of each user's interactions: ranking is over all items, the clock runs through training and this library's
validations, and the test part is looked at with the clock stopped. Seconds of all threads' CPU time stand beside those of
the clock, which on a busy machine say more. ``--multinomial`` times nothing but the way to the goal by that loss.

``VENVS`` is a folder of virtual environments: ``recbole`` (with RecBole 1.2.1) and ``lenskit`` (with LensKit 2025.8 and
implicit); a folder ``RLMRec`` in it is a clone of RLMRec's repository, which runs in RecBole's environment. Each peer gets
the same arrays and hands back factors, which are judged by the same evaluator. ``--converge`` trains RecBole and FlexMF for so
many epochs and looks every tenth and at the last, with the clock stopped, at the validation part; this library is then timed until it has reached the NDCG@10
of the test part that RecBole has at its best such look.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from machine import machine
from splits import Data, Part, movielens, tastes

RECBOLE_GOAL = 0.308
"""NDCG@10 at which RecBole 1.2.1's LightGCN converges on such a split of MovieLens-100k, after about 400 epochs."""
SHARES = {"timed": (0.0, 0.2), "judged": (0.1, 0.1)}
"""Shares of the validation and the test part."""
PEERS = {"recbole": "recbole", "rlmrec": "recbole", "rlmrec-align": "recbole", "flexmf": "lenskit", "als": "lenskit"}
"""Peers, and the virtual environment that each runs in."""


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
        self.cpu: list[float] = []
        self._begun, self._cpu_begun = time.perf_counter(), time.process_time()
        self._paused = self._cpu_paused = 0.0
        self.reached: float | None = None
        self.reached_cpu: float | None = None

    def validate(self, factors: Any) -> float | None:
        """NDCG@10 on the validation part; None where there is none."""
        data = self._data
        if not len(data.validation.users):
            return None
        metric = score(factors.users, factors.items, data, data.validation, (data.train,))
        stopped, cpu_stopped = time.perf_counter(), time.process_time()
        if self.reached is None:
            seen = (data.train, data.validation)
            if score(factors.users, factors.items, data, data.test, seen) >= self._goal:
                self.reached = stopped - self._begun - self._paused
                self.reached_cpu = cpu_stopped - self._cpu_begun - self._cpu_paused
        self._paused += time.perf_counter() - stopped
        self._cpu_paused += time.process_time() - cpu_stopped
        return metric

    def epoch_finished(self, *told: Any) -> None:
        """CPU time so far, of all threads."""
        self.cpu.append(time.process_time())


def fit(data: Data, arm: str, goal: float, **options: Any) -> tuple[Any, Watch, float]:
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
    fitted = LightGCN(LightGCNOptions(**options), Context()).fit_checked(training, fuser, seed=0, monitor=watch)
    return fitted, watch, time.perf_counter() - begun


def epoch_times(timed: Data, arm: str, epochs: int, batch: int) -> dict[str, float]:
    """Seconds an epoch."""
    fitted, watch, _ = fit(timed, arm, 1.0, batch_size=batch, epochs=epochs + 2)
    seconds, cpu = [entry["seconds"] for entry in fitted.history[2:]], np.diff(watch.cpu)[1:].tolist()
    return {"epoch_seconds": median(seconds), "fastest": min(seconds), "epoch_cpu_seconds": median(cpu)}


def time_to(goal: float, data: Data, **options: Any) -> dict[str, Any]:
    """A run with the library's defaults, but for ``options``, and when it first reached the goal."""
    fitted, watch, seconds = fit(data, "none", goal, **options)
    factors = fitted.factors
    metric = score(factors.users, factors.items, data, data.test, (data.train, data.validation))
    return {
        "goal": goal, "seconds_to_goal": watch.reached, "cpu_seconds_to_goal": watch.reached_cpu,
        "epochs": fitted.epochs, "seconds": seconds, "ndcg@10": metric,
    }  # fmt: skip


class Peers:
    """The others, each in its own environment, on the same arrays.

    Args:
        venvs: Folder of the environments.
        place: An empty folder for what goes to and fro.
        splits: ``timed`` and ``judged``.
        settings: What each reads beside them: epochs, batch_size, converge, threads.
    """

    def __init__(self, venvs: Path, place: Path, splits: dict[str, Data], settings: dict[str, int]) -> None:
        self._venvs, self._place, self._judged, self._threads = venvs, place, splits["judged"], settings["threads"]
        for name, data in splits.items():
            data.save(place / f"{name}.npz")
        (place / "settings.json").write_text(json.dumps(settings))

    def run(self, peer: str) -> dict[str, Any] | None:
        """Return the result of one, or its failure; None for one that is not there."""
        python, clone = self._venvs / PEERS[peer] / "bin" / "python", self._venvs / "RLMRec"
        if not python.exists() or (peer.startswith("rlmrec") and not clone.exists()):
            return None
        script = Path(__file__).with_name("training_peers.py")
        done = subprocess.run(
            [str(python), str(script), peer, str(self._place), str(clone)],
            env=os.environ | {"OMP_NUM_THREADS": str(self._threads), "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True, text=True, check=False, cwd=self._place,
        )  # fmt: skip
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-3:]}
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found | self._best_look(peer, found.pop("looks", []))

    def _best_look(self, peer: str, looks: list[dict[str, float]]) -> dict[str, Any]:
        """The look that is best on the validation part, and its NDCG@10 on the test part."""
        data, best = self._judged, None
        for number, look in enumerate(looks):
            stored = np.load(self._place / f"{peer}-{number}.npz")
            users, items = stored["users"], stored["items"]
            metric = score(users, items, data, data.validation, (data.train,))
            if best is None or metric > best["validation"]:
                test = score(users, items, data, data.test, (data.train, data.validation))
                best = look | {"validation": metric, "ndcg@10": test}
        return best or {}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="where ml-100k.inter is")
    parser.add_argument("--graph", action="store_true", help="made-up interactions instead")
    parser.add_argument("--peers", type=Path, help="folder of virtual environments")
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS), help="some of the peers")
    parser.add_argument("--epochs", type=int, help="epochs that are timed: 10 (2 of the graph)")
    parser.add_argument(
        "--converge", type=int, default=0, metavar="EPOCHS", help="train RecBole and FlexMF so long and judge them"
    )
    parser.add_argument("--goal", type=float, help="NDCG@10 to be reached instead of a peer's; 0: no such run")
    parser.add_argument("--multinomial", action="store_true", help="only the time to the goal by the multinomial")
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    if (told.folder is None) == (not told.graph):
        parser.error("give FOLDER or --graph")
    import numba
    import torch

    numba.set_num_threads(min(told.threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(told.threads)
    if told.graph:
        batch, epochs = 40_000, told.epochs or 2
        splits = {name: tastes(50_000, 20_000, 2_000_000, *shares) for name, shares in SHARES.items()}
    else:
        batch, epochs = 2048, told.epochs or 10
        splits = {name: movielens(told.folder, *shares) for name, shares in SHARES.items()}
    found: dict[str, Any] = {"machine": machine("enhancer", "torch", "numba"), "threads": told.threads}
    # Those who go fast are timed on both sides of those who go slowly: what else the machine does shows in the difference.
    arms = ("none",) if told.graph else ("none", "align")  # every node against every other would not fit there
    if told.multinomial:
        if told.folder is None or not told.goal:
            parser.error("--multinomial needs FOLDER and --goal")
        time_to(told.goal, splits["judged"], loss="multinomial", epochs=25)  # kernels are compiled or loaded here
        found["time to goal, multinomial"] = time_to(told.goal, splits["judged"], loss="multinomial")
        print(json.dumps(found, indent=2))
        return
    for arm in arms:
        found[arm] = epoch_times(splits["timed"], arm, epochs, batch)
    if told.peers is not None:
        settings = {"epochs": epochs, "batch_size": batch, "converge": told.converge, "threads": told.threads}
        with tempfile.TemporaryDirectory() as place:
            peers = Peers(told.peers.absolute(), Path(place), splits, settings)
            for name in (peer for peer in told.only if not (told.graph and peer == "rlmrec-align")):
                answer = peers.run(name)
                found |= {} if answer is None else {name: answer}
                print(json.dumps({name: answer}), file=sys.stderr, flush=True)
        for arm in arms:
            found[f"{arm}, again"] = epoch_times(splits["timed"], arm, epochs, batch)
    line = "als" if told.graph and not told.converge else "recbole"
    goal = found.get(line, {}).get("ndcg@10", RECBOLE_GOAL) if told.goal is None else told.goal
    if goal:
        found["time to goal"] = time_to(goal, splits["judged"], **({"epochs": 20} if told.graph else {}))
        if not told.graph:
            found["time to goal, multinomial"] = time_to(goal, splits["judged"], loss="multinomial")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
