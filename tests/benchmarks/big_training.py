"""Memory and time of reading, splitting and training, by phase, on made-up interactions in a Parquet file::

    python tests/benchmarks/big_training.py 1 10 --backbones popularity als lightgcn
    python tests/benchmarks/big_training.py 50 --backbones als --epochs 2 --limit 16

So many millions of interactions, twenty a user and a hundred an item on average, items of Zipf's popularity, with text ids
and times. Each size and backbone is a process of its own, which reads the file, splits it by ``random`` 70/10/20, and trains
the backbone with its defaults for ``--epochs`` epochs. There is no validation: ranking all items for a sample of the test
users is a phase of its own. A phase's peak is that of resident memory within it, anonymous and of mapped files, which the
kernel is asked to count anew before it (``/proc/self/clear_refs``). Files are kept in ``--folder`` for the next call. A
process that needs more than ``--limit`` GiB is ended.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from machine import machine
from pyarrow import parquet
from splits import power_law

_ROWS = 1_000_000
"""Rows that are written at once."""
_GIB = 2**30


class Unwatched:
    """A monitor that lets training run, and tells of each epoch."""

    checkpoint = None
    repeats = None

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last, self._cpu = time.perf_counter(), time.process_time()
        self.cpu: list[float] = []

    def validate(self, factors: Any) -> None:
        """There is nothing to validate on."""

    def epoch_finished(self, epoch: int, *told: Any) -> None:
        """Note the time."""
        now, cpu = time.perf_counter(), time.process_time()
        self.seconds.append(now - self._last)
        self.cpu.append(cpu - self._cpu)
        self._last, self._cpu = now, cpu
        print(f"  epoch {epoch}: {self.seconds[-1]:.1f} s", file=sys.stderr, flush=True)


def write(path: Path, millions: float) -> None:
    """Write the interactions."""
    data = power_law(millions)
    users, items = data.train.users, data.train.items
    times = np.random.default_rng(1).integers(1_600_000_000, 1_700_000_000, len(users))
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())])
    with parquet.ParquetWriter(path, schema) as file:
        for first in range(0, len(users), _ROWS):
            part = slice(first, first + _ROWS)
            ids = [pa.array([f"{name}{n}" for n in rows[part].tolist()]) for name, rows in (("u", users), ("i", items))]
            file.write_table(pa.table([*ids, pa.array(times[part])], schema=schema))


def _status(name: str) -> float:
    """A figure of this process's memory, in GiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / _GIB
    return 0.0


class Phases:
    """Seconds, CPU seconds and peak memory of each phase."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure what is done within."""
        Path("/proc/self/clear_refs").write_text("5")
        begun, cpu = time.perf_counter(), time.process_time()
        yield
        self.found[name] = {
            "seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
            "peak_gib": round(_status("VmHWM"), 2),
            "left_gib": round(_status("VmRSS"), 2),
            "left_anonymous_gib": round(_status("RssAnon"), 2),
        }
        print(f"  {name}: {self.found[name]}", file=sys.stderr, flush=True)


def measure(path: Path, backbone: str, epochs: int, ranked: int) -> dict[str, Any]:
    """One backbone on one file."""
    from enhancer.config import ColumnsConfig, EvaluationConfig
    from enhancer.contracts import Context
    from enhancer.data import read_interactions, split_interactions
    from enhancer.evaluation import CSR, evaluate, training_data
    from enhancer.plugin_host import load_plugins
    from enhancer_plugins.fusers.none import NoFusion, NoFusionOptions

    phases, columns = Phases(), ColumnsConfig()
    with phases.phase("read"):
        interactions = read_interactions(path, columns, item_ids=None)
    with phases.phase("split"):
        split = split_interactions(interactions, EvaluationConfig(), path.parent, columns)
    read = len(interactions)
    del interactions
    data = training_data(split, None, None)
    target = load_plugins().get("backbone", backbone)
    options = target.options_class(**({"epochs": epochs} if "epochs" in target.options_class.model_fields else {}))
    made, watch = target(options, Context()), Unwatched()
    estimate = made.memory(data)
    with phases.phase("train"):
        fitted = made.fit_checked(data, NoFusion(NoFusionOptions(), Context()), seed=0, monitor=watch)
    users = np.unique(split.test.users)[:ranked]
    part = split.test.take(np.isin(split.test.users, users))
    with phases.phase(f"rank {len(users):,} users"):
        seen = CSR.of((split.train, split.validation), data.n_users)
        found = evaluate(fitted.factors, part, seen=seen, metrics=("ndcg@10",)).mean("ndcg@10")
    return {
        "interactions": read,
        "trained": len(data.users),
        "users": data.n_users,
        "items": data.n_items,
        "backbone": backbone,
        "estimate_gib": round(estimate / _GIB, 2),
        "epoch_seconds": [round(each, 1) for each in watch.seconds],
        "epoch_cpu_seconds": [round(each, 1) for each in watch.cpu],
        "ndcg@10": round(found, 5),
        "phases": phases.found,
    }


def watched(command: list[str], limit: float) -> dict[str, Any]:
    """Run a process, and end it if it needs more memory than it may."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = 0.0
        while process.poll() is None:
            with contextlib.suppress(OSError, IndexError):
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                peak = max(peak, pages * os.sysconf("SC_PAGE_SIZE") / _GIB)
            if peak > limit:
                process.kill()
                return {"killed_at_gib": round(peak, 2), "command": command}
            time.sleep(0.2)
        assert process.stdout is not None
        told = process.stdout.read()
    return json.loads(told) if process.returncode == 0 else {"exit": process.returncode, "peak_gib": round(peak, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("millions", type=float, nargs="+")
    parser.add_argument("--backbones", nargs="+", default=["als"])
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--ranked", type=int, default=1000, help="users whose lists are ranked")
    parser.add_argument("--limit", type=float, default=17.0, help="GiB at which a process is ended")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "enhancer-big-training")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args()
    told.folder.mkdir(parents=True, exist_ok=True)
    paths = {millions: told.folder / f"power-law-{millions:g}m.parquet" for millions in told.millions}
    if told.child:
        ((millions, path),) = paths.items()
        if told.backbones == [""]:
            write(path.with_suffix(".partial"), millions)
            path.with_suffix(".partial").replace(path)
            return
        print(json.dumps(measure(path, told.backbones[0], told.epochs, told.ranked)))
        return
    found: dict[str, Any] = {"machine": machine("enhancer", "numpy", "numba", "torch"), "runs": []}
    for millions, path in paths.items():
        if not path.exists():
            print(f"{path} is written", file=sys.stderr, flush=True)
            # In a process of its own, whose memory is free when the measurement begins.
            made = [
                sys.executable,
                __file__,
                f"{millions:g}",
                "--child",
                "--backbones",
                "",
                "--folder",
                str(told.folder),
            ]
            subprocess.run(made, check=True)
        for backbone in told.backbones:
            print(f"{millions:g} million, {backbone}", file=sys.stderr, flush=True)
            own = [sys.executable, __file__, f"{millions:g}", "--child", "--backbones", backbone]
            own += ["--epochs", str(told.epochs), "--ranked", str(told.ranked), "--folder", str(told.folder)]
            found["runs"].append(watched(own, told.limit))
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
