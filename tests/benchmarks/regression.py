"""The regression that places unseen items: seconds and peak memory::

    python tests/benchmarks/regression.py --rows 1700 --columns 2688 --threads 2
    python tests/benchmarks/regression.py --rows 1000000 --columns 2688 --threads 2

Leave-one-out chooses the penalty, and every row is predicted from the others: what `prior` does in its first round. A further target
is what it does in each later round. Rows are made up when they are read, so that the peak is that of the regression and its results.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from typing import Any

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--rows", type=int, default=1700)
parser.add_argument("--columns", type=int, default=2688)
parser.add_argument("--targets", type=int, default=64)
parser.add_argument("--views", type=int, default=7)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--form", choices=["linear", "kernel"], default="linear")
told = parser.parse_args()
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before the libraries read them
    os.environ[name] = str(told.threads)

import numpy as np  # noqa: E402
from machine import machine  # noqa: E402

from enhancer.contracts import View  # noqa: E402
from enhancer_plugins.training.placing.views import ViewRegression  # noqa: E402

KEPT = 8192


class Repeated:
    """Rows of a small table, repeated."""

    def __init__(self, table: np.ndarray[Any, Any], rows: int) -> None:
        self.table, self.shape, self.dtype = table, (rows, table.shape[1]), table.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray[Any, Any]:
        return self.table[np.asarray(rows) % len(self.table)]


def peak() -> int:
    """Peak of the resident memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Print one JSON object."""
    random = np.random.default_rng(0)
    table = random.standard_normal((min(told.rows, KEPT), told.columns), np.float32)
    table *= (
        np.float32(1) / np.arange(1, told.columns + 1, dtype=np.float32) ** 0.5
    )  # a spectrum that falls, as that of text does
    x: Any = table if told.rows <= KEPT else Repeated(table, told.rows)
    y = table @ random.standard_normal((told.columns, told.targets), np.float32)
    y = np.resize(y, (told.rows, told.targets)) + random.standard_normal((told.rows, told.targets), np.float32)
    width = told.columns // told.views
    views = tuple(View(str(n), n * width, (n + 1) * width) for n in range(told.views))
    weights, rows = np.ones(told.rows), np.arange(told.rows)
    before, first, again, cpu = peak(), [], [], []
    for _ in range(told.rounds):
        started, used = time.perf_counter(), time.process_time()
        regression = ViewRegression(x, views, weights=weights, form=told.form)
        regression.left_out(y, rows)
        first.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
        regression.keep_penalty()
        started = time.perf_counter()
        regression.left_out(y, rows)
        again.append(time.perf_counter() - started)
    result = {
        "first_seconds": min(first),
        "first_cpu_seconds": min(cpu),
        "again_seconds": min(again),
        "mib_before": before,
        "mib_peak": peak(),
    }
    print(json.dumps({**vars(told), **result, "chosen": regression.chosen, "machine": machine()}))


if __name__ == "__main__":
    main()
