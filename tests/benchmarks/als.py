"""An epoch of ``als`` beside implicit's ALS, and the time that each takes to an NDCG@10 on MovieLens-100k::

    python tests/benchmarks/als.py --peers VENV
    python tests/benchmarks/als.py --peers VENV --movielens FOLDER --goal 0.340

``VENV`` is a virtual environment with implicit 0.7.3. Each contender is a process of its own with the same threads, and they
take turns, one epoch each, so that other work on the machine meets both alike. Both make three conjugate-gradient steps per row.
Seconds of all threads' CPU time stand beside those of the clock, which on a busy machine say more. Kernels are compiled before.

Without ``--movielens``, the interactions are made up: users and items by power laws, ``--per-user`` and ``--per-item`` of them on
average. The memory is the most that a fit needed beyond what the process had with the interactions loaded.

``FOLDER`` holds ``ml-100k.inter``. There both fit 80 % of each user's ratings, all positives; after each epoch the factors are
judged on the test part with the clock stopped, and the clock starts with the fit. ``als`` has its defaults, implicit settings that
were found on validation.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

CONTENDERS = ("enhancer", "implicit")
MOST = 24
"""Epochs within which the goal is to be reached."""
ROOT = Path(__file__).resolve().parents[2]


class Stop(Exception):  # noqa: N818
    """No more epochs are wanted."""


class Turns:
    """The clock of a contender, which stands between its turns."""

    def __init__(self, place: Path | None, epochs: int) -> None:
        self._place, self._left = place, epochs

    def begin(self) -> None:
        """Wait for a turn."""
        if not sys.stdin.readline().strip():
            raise Stop
        self._begun = time.perf_counter(), time.process_time()

    def finish(self, users: np.ndarray, items: np.ndarray) -> None:
        """Tell the seconds of this turn, and wait for the next."""
        spent = time.perf_counter() - self._begun[0], time.process_time() - self._begun[1]
        if self._place is not None:
            np.savez(self._place, users=users, items=items)
        print(json.dumps(spent), flush=True)
        self._left -= 1
        if self._left:
            self.begin()


def enhancer(
    users: np.ndarray, items: np.ndarray, shape: tuple[int, int], settings: dict[str, Any], turns: Turns
) -> Callable[[], None]:
    """A fit of this library's backbone."""
    sys.path[:0] = [str(ROOT / "core"), str(ROOT / "plugins")]
    from enhancer.contracts import Context, TrainingData
    from enhancer_plugins.backbones.als import ALS, ALSOptions
    from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

    class Watch:
        checkpoint = None

        def validate(self, factors: Any) -> None:
            turns.finish(factors.users, factors.items)

        def epoch_finished(self, *_: Any) -> None: ...

    options = {"dim": settings["dim"]} if settings["dim"] else {}
    model = ALS(ALSOptions(epochs=settings["epochs"], eval_every=1, **options), Context())
    data = TrainingData(n_users=shape[0], n_items=shape[1], users=users, items=items)
    return lambda: model.fit(data, NoFusion(NoFusionOptions(), Context()), seed=0, monitor=Watch()) and None


def implicit(
    users: np.ndarray, items: np.ndarray, shape: tuple[int, int], settings: dict[str, Any], turns: Turns
) -> Callable[[], None]:
    """A fit of implicit's ALS."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    pairs = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    options = {"factors": settings["dim"]} if settings["dim"] else {"factors": 32, "regularization": 30.0, "alpha": 4.0}
    model = AlternatingLeastSquares(
        iterations=settings["epochs"], random_state=0, num_threads=settings["threads"], **options
    )
    return lambda: model.fit(
        pairs, show_progress=False, callback=lambda *_: turns.finish(model.user_factors, model.item_factors)
    )


def work(name: str, folder: Path) -> None:
    """One contender: an epoch for each line on stdin, its seconds on stdout; at the end the memory."""
    data, settings = np.load(folder / "pairs.npz"), json.loads((folder / "settings.json").read_text())
    users, items, shape = data["users"], data["items"], tuple(data["shape"].tolist())
    fit = {"enhancer": enhancer, "implicit": implicit}[name]

    class Once(Turns):
        def begin(self) -> None: ...

        def finish(self, *_: Any) -> None:
            raise Stop

    with contextlib.suppress(Stop):
        fit(np.arange(9, dtype=np.int32), np.arange(9, dtype=np.int32), (9, 9), settings, Once(None, 1))()
    turns = Turns(folder / f"{name}.npz" if settings["goal"] else None, settings["epochs"])
    run = fit(users, items, shape, settings, turns)
    before = resident("VmRSS")
    print("ready", flush=True)
    with contextlib.suppress(Stop):
        turns.begin()
        run()
    print(resident("VmHWM") - before, flush=True)


def resident(field: str) -> int:
    """Resident KiB of this process, now or at most. (``ru_maxrss`` of a child includes what its parent had.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, help="virtual environment with implicit")
    parser.add_argument("--millions", type=float, default=10, help="interactions")
    parser.add_argument("--per-user", type=int, default=20)
    parser.add_argument("--per-item", type=int, default=100)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--movielens", type=Path, help="where ml-100k.inter is")
    parser.add_argument("--goal", type=float, default=0.340, help="NDCG@10 on the test part of MovieLens-100k")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.work:
        work(told.work, told.folder)
        return
    sys.path[:0] = [str(ROOT / "core"), str(ROOT / "plugins")]
    from machine import machine
    from splits import movielens, power_law
    from training import SHARES, score

    of = machine("numpy", "numba")
    if told.movielens is not None:
        split, goal, dim = movielens(told.movielens, *SHARES["judged"]), told.goal, None
    else:
        split, goal, dim = power_law(told.millions, per_user=told.per_user, per_item=told.per_item), None, told.dim
    users, items, shape = split.train.users, split.train.items, (split.n_users, split.n_items)
    limits = {f"{kind}_NUM_THREADS": str(told.threads) for kind in ("OMP", "NUMBA")} | {"OPENBLAS_NUM_THREADS": "1"}
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="enhancer-als-") as name:
        folder = Path(name)
        np.savez(folder / "pairs.npz", users=np.int32(users), items=np.int32(items), shape=shape)
        epochs = MOST if goal else told.epochs
        settings = {"dim": dim, "goal": goal, "threads": told.threads, "epochs": epochs}
        (folder / "settings.json").write_text(json.dumps(settings))
        running = {}
        for contender in CONTENDERS:
            python = sys.executable if contender == "enhancer" or not told.peers else str(told.peers / "bin" / "python")
            running[contender] = subprocess.Popen(
                [python, __file__, "--work", contender, "--folder", name],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **limits},
            )  # fmt: skip
            assert running[contender].stdout.readline() == "ready\n", f"{contender} is not installed in {python}"
        turns: dict[str, list[list[float]]] = {contender: [] for contender in running}
        looks: dict[str, list[float]] = {contender: [] for contender in running}
        waiting = set(running)
        for _ in range(epochs):
            for contender in [each for each in running if each in waiting]:
                process = running[contender]
                process.stdin.write("go\n")
                process.stdin.flush()
                turns[contender].append(json.loads(process.stdout.readline()))
                if goal is not None:
                    rows = np.load(folder / f"{contender}.npz")
                    seen = (split.train, split.validation)
                    looks[contender].append(score(rows["users"], rows["items"], split, split.test, seen))
                    if looks[contender][-1] >= goal:
                        waiting.discard(contender)
        for contender, process in running.items():
            process.stdin.close()
            peak = int(process.stdout.readline())
            process.wait(60)
            wall, cpu = zip(*turns[contender], strict=True)
            if goal is None:
                results[contender] = {
                    "epoch_seconds": round(median(wall), 3), "fastest": round(min(wall), 3),
                    "epoch_cpu_seconds": round(median(cpu), 3), "peak_mib": round(peak / 1024),
                }  # fmt: skip
            else:
                reached = looks[contender][-1] >= goal
                results[contender] = {
                    "reached": reached, "epochs": len(wall), "ndcg@10": round(looks[contender][-1], 4),
                    "seconds": round(sum(wall), 3), "cpu_seconds": round(sum(cpu), 3),
                }  # fmt: skip
    what = {"interactions": len(users), "users": shape[0], "items": shape[1], "dim": dim, "goal": goal}
    print(json.dumps({**what, "threads": told.threads, **results, "machine": of}, indent=2))


if __name__ == "__main__":
    main()
