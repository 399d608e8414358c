"""Full ranking of MovieLens-100k: every item for every user, seen items masked, six metrics at two cut-offs::

    python tests/benchmarks/evaluation.py
    python tests/benchmarks/evaluation.py --interactions ml-100k.inter --peers VENV/bin/python --json

Beside it the bare work that no evaluator can avoid: the matrix product, and the product with numpy's ``argpartition``; and
RecBole's evaluator where ``--peers`` names a Python that has it. All take the same factors, masks and test pairs, and all on
one thread. Without a file a made-up table of the same size and skew is ranked. Times are medians of seven.
"""

from __future__ import annotations

# ruff: noqa: E402 - the number of threads is read when numpy is imported
import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy is imported

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

METRICS = [f"{name}@{k}" for name in ("ndcg", "recall", "precision", "mrr", "map", "hit") for k in (10, 20)]
DIM = 64
REPEATS = 7


def pairs_of(path: Path | None) -> tuple[np.ndarray, int, int]:
    """User and item rows of all interactions, and how many of either there are."""
    if path is not None:
        lines = path.read_text().splitlines()[1:]
        columns = np.array([line.split("\t")[:2] for line in lines])
        users, items = (np.unique(column, return_inverse=True)[1] for column in columns.T)
    else:
        rng = np.random.default_rng(0)
        fame = 1.0 / np.arange(1, 1683) ** 0.8
        activity = rng.pareto(1.5, 943) + 0.25
        keys = rng.choice(943, 160_000, p=activity / activity.sum()) * 1682
        keys = np.unique(keys + rng.choice(1682, 160_000, p=fame / fame.sum()))
        users, items = np.divmod(rng.permutation(keys)[:100_000], 1682)
    return np.stack([users, items]).astype(np.int32), int(users.max()) + 1, int(items.max()) + 1


def median(work: Callable[[], Any]) -> float:
    """Seconds, the middle of several after one to warm up."""
    work()
    taken = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def ours(folder: Path) -> dict[str, Any]:
    """This library, and the bare work."""
    from enhancer.contracts import Factors
    from enhancer.evaluation import CSR, evaluate

    data = np.load(folder / "data.npz")
    factors = Factors(data["user_factors"], data["item_factors"])
    parts = {name: SimpleNamespace(users=data[name][0], items=data[name][1]) for name in ("train", "test")}
    seen = CSR.of((parts["train"],), len(factors.users))
    people = np.unique(parts["test"].users)
    found: dict[str, Any] = {}

    def product() -> np.ndarray:
        return factors.users[people] @ factors.items.T

    def partition() -> np.ndarray:
        scores = product()
        who, what = seen.rows(people)
        scores[who, what] = -np.inf
        best = np.argpartition(-scores, 19, axis=1)[:, :20]
        return np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1), 1)

    def whole() -> None:
        found.update(evaluate(factors, parts["test"], seen=(parts["train"],), metrics=METRICS).means())

    return {
        "matrix product": median(product),
        "product, mask, argpartition": median(partition),
        "enhancer": median(whole),
        "values": found,
    }


RECBOLE = """
import json, statistics, sys, time
import numpy as np, torch
torch.set_num_threads(1)
for name, kind in {"bool": bool, "int": int, "float": float, "float_": np.float64, "complex_": np.complex128, "object": object,
                   "unicode_": np.str_, "str": str, "long": int}.items():
    if name not in np.__dict__: setattr(np, name, kind)
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
data = np.load(sys.argv[1] + "/data.npz")
U, V = torch.from_numpy(data["user_factors"]), torch.from_numpy(data["item_factors"])
train, test = data["train"].astype(np.int64), data["test"].astype(np.int64)
people = np.unique(test[0])
place = np.full(len(U), -1); place[people] = np.arange(len(people))
keep = place[train[0]] >= 0
mask = (torch.from_numpy(place[train[0][keep]]), torch.from_numpy(train[1][keep]))
positive = (torch.from_numpy(place[test[0]]), torch.from_numpy(test[1]))
class Config(dict):
    def __getitem__(self, key): return self.get(key)
config = Config(metrics=["NDCG", "Recall", "Precision", "MRR", "MAP", "Hit"], topk=[10, 20], metric_decimal_place=10)
evaluator = Evaluator(config)
def whole():
    # As recbole.evaluator.collector does it for one batch of full ranking.
    scores = U[people] @ V.T
    scores[mask] = -np.inf
    _, topk = torch.topk(scores, 20, dim=-1)
    matrix = torch.zeros_like(scores, dtype=torch.int)
    matrix[positive] = 1
    length = matrix.sum(dim=1, keepdim=True)
    struct = DataStruct()
    struct.update_tensor("rec.topk", torch.cat((torch.gather(matrix, 1, topk), length), dim=1))
    return evaluator.evaluate(struct)
values = whole(); times = []
for _ in range(7):
    start = time.perf_counter(); whole(); times.append(time.perf_counter() - start)
print(json.dumps({"RecBole": statistics.median(times), "values": {k.lower(): float(v) for k, v in values.items()}}))
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=Path, help="RecBole's ml-100k.inter")
    parser.add_argument("--peers", help="a Python that has RecBole")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pairs, n_users, n_items = pairs_of(options.interactions)
    rng = np.random.default_rng(1)
    tested = rng.random(pairs.shape[1]) < 0.2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(
            folder / "data.npz",
            user_factors=rng.standard_normal((n_users, DIM)).astype(np.float32),
            item_factors=rng.standard_normal((n_items, DIM)).astype(np.float32),
            train=pairs[:, ~tested],
            test=pairs[:, tested],
        )
        result = ours(folder)
        values = result.pop("values")
        if options.peers:
            done = subprocess.run(
                [options.peers, "-c", RECBOLE, name], capture_output=True, text=True, check=True, timeout=300
            )
            theirs = json.loads(done.stdout.splitlines()[-1])
            result["RecBole"] = theirs["RecBole"]
            result["largest difference of a metric"] = max(
                abs(values[metric] - value) for metric, value in theirs["values"].items()
            )
    about = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one used",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "command": " ".join(["python", *sys.argv]),
        "users": n_users,
        "items": n_items,
        "interactions": pairs.shape[1],
        "metrics": METRICS,
    }
    if options.json:
        print(json.dumps({**about, "seconds": result}, indent=2))
        return
    for key, value in about.items():
        print(f"{key:12} {value}")
    for key, value in result.items():
        print(f"{key:32} {value:.2e}" if key.startswith("largest") else f"{key:32} {1000 * value:8.1f} ms")


if __name__ == "__main__":
    main()
