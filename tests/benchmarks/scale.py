"""Growth of the cost of an epoch with the interactions::

    python tests/benchmarks/scale.py 0.1 1 10

Times epochs of LightGCN on made-up power-law interactions, so many millions of them, twenty a user and a hundred an item on
average, with the library's defaults (steps of a fortieth of the interactions); each size in a process of its own, whose
peak of resident memory is told.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

from machine import machine
from splits import power_law


class Unwatched:
    """A monitor that lets training run."""

    checkpoint = None

    def validate(self, factors: Any) -> None:
        """There is nothing to validate on."""

    def epoch_finished(self, *told: Any) -> None:
        """Nothing to tell."""


def measure(millions: float) -> dict[str, Any]:
    """The faster of two epochs of so many millions (the fastest of nine, of few)."""
    from enhancer.contracts import Context, TrainingData
    from enhancer_plugins.backbones.lightgcn import LightGCN, LightGCNOptions
    from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

    begun = time.perf_counter()
    data = power_law(millions)
    made = time.perf_counter() - begun
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{millions:g} million interactions made in {made:.0f} s", file=sys.stderr, flush=True)
    training = TrainingData(n_users=data.n_users, n_items=data.n_items, users=data.train.users, items=data.train.items)
    options = LightGCNOptions(epochs=9 if millions < 0.5 else 3 if millions < 5 else 2)
    begun = time.perf_counter()
    fuser = NoFusion(NoFusionOptions(), Context())
    fitted = LightGCN(options, Context()).fit_checked(training, fuser, seed=0, monitor=Unwatched())
    seconds, peak = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    epoch = min(entry["seconds"] for entry in fitted.history)
    return {
        "interactions": len(data.train.users),
        "users": data.n_users,
        "items": data.n_items,
        "epoch_seconds": epoch,
        "microseconds_an_interaction": 1e6 * epoch / len(data.train.users),
        "run_seconds": seconds,
        "made_peak_gib": round(before, 2),
        "peak_gib": round(peak, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("millions", type=float, nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    told = parser.parse_args()
    if len(told.millions) == 1:
        import numba
        import torch

        numba.set_num_threads(min(told.threads, numba.config.NUMBA_NUM_THREADS))
        torch.set_num_threads(told.threads)
        print(json.dumps(measure(told.millions[0])))
        return
    found = {"machine": machine("enhancer", "torch", "numba"), "threads": told.threads, "sizes": []}
    for millions in told.millions:
        own = [sys.executable, __file__, str(millions), "--threads", str(told.threads)]
        found["sizes"].append(json.loads(subprocess.run(own, stdout=subprocess.PIPE, text=True, check=True).stdout))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
