"""EASE beside what LAPACK alone takes for a matrix of its size::

    python tests/benchmarks/ease.py --items 10000 --threads 2

In one process, alternating: float32 Cholesky factorisation and inverse (``spotrf``, ``spotri``) of a positive definite matrix of that
many items, and the weights of ``ease`` with a fixed penalty over random interactions with popularity that falls by Zipf's law: sparse
interactions to Gram matrix, factorisation, inverse, weights. The best of ``--rounds`` each. Scoring and validation are not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--items", type=int, default=10_000)
parser.add_argument("--users", type=int, default=20_000)
parser.add_argument("--interactions", type=int, default=1_200_000)
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--threads", type=int, default=2)
told = parser.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):  # before the libraries read them
    os.environ[name] = str(told.threads)

import numpy as np  # noqa: E402
from machine import machine  # noqa: E402
from scipy.linalg import lapack  # noqa: E402

from enhancer.contracts import TrainingData  # noqa: E402
from enhancer_plugins.backbones.ease import ItemWeights  # noqa: E402


def interactions(n_users: int, n_items: int, n: int) -> TrainingData:
    """Distinct random pairs."""
    random = np.random.default_rng(0)
    popularity = 1 / np.arange(1, n_items + 1) ** 0.8
    items = random.choice(n_items, n, p=popularity / popularity.sum())
    cells = np.unique(random.integers(0, n_users, n) * n_items + items)
    users, items = np.divmod(cells, n_items)
    return TrainingData(n_users=n_users, n_items=n_items, users=users.astype(np.int32), items=items.astype(np.int32))


def bare(n: int) -> float:
    """Seconds of factorisation and inverse alone."""
    matrix = np.full((n, n), 0.5, np.float32, order="F")
    matrix[np.diag_indices(n)] = n
    started = time.perf_counter()
    factor, failed = lapack.spotrf(matrix, lower=1, clean=0, overwrite_a=1)
    _, failed_too = lapack.spotri(factor, lower=1, overwrite_c=1)
    seconds = time.perf_counter() - started
    assert not failed
    assert not failed_too
    return seconds


def weights(data: TrainingData) -> float:
    """Seconds from interactions to weights."""
    started = time.perf_counter()
    ItemWeights(data, "ease").weights(300.0)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    weights(interactions(50, 40, 500))  # compiles the kernels
    data = interactions(told.users, told.items, told.interactions)
    rounds = [(bare(told.items), weights(data)) for _ in range(told.rounds)]
    lapack_alone, ease = (min(column) for column in zip(*rounds, strict=True))
    result: dict[str, Any] = {
        "items": told.items,
        "interactions": len(data.users),
        "threads": told.threads,
        "spotrf + spotri": round(lapack_alone, 2),
        "ease": round(ease, 2),
        "ratio": round(ease / lapack_alone, 3),
        "machine": machine(),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
