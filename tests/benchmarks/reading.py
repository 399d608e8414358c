"""Interactions from CSV and Parquet, beside what Polars and PyArrow take for the same file in the same run::

    python tests/benchmarks/reading.py                        # 1,000,000 rows
    python tests/benchmarks/reading.py --rows 10000000 --rounds 2

``enhancer``      ``read_interactions``: ids to row numbers, checked values, the latest of each pair
``polars-pairs``  the same with Polars: ids to codes, the last of each pair by time
``polars``, ``pyarrow``  the columns alone

Libraries take turns. Of each the best round is shown: seconds, and CPU seconds of all threads. Polars is left out if it is not
installed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from enhancer.config import ColumnsConfig
from enhancer.data import read_interactions

if TYPE_CHECKING:
    from collections.abc import Callable


def write_tables(folder: Path, rows: int) -> list[Path]:
    """Write interactions by user, with long-tailed items, as CSV and as Parquet."""
    draw = np.random.default_rng(0)
    items = np.minimum((draw.pareto(0.6, rows) * 20).astype(np.int64), 59_999)
    table = pa.table(
        {
            "user_id": np.sort(draw.integers(0, max(1, rows // 60), rows)),
            "item_id": items,
            "rating": draw.integers(1, 11, rows) / 2,
            "timestamp": draw.integers(1_000_000_000, 1_500_000_000, rows),
        }
    )
    options = csv.WriteOptions(quoting_style="none")
    csv.write_csv(table, folder / "ratings.csv", options)
    parquet.write_table(table, folder / "ratings.parquet")
    header, _, rest = (folder / "ratings.csv").read_bytes().partition(b"\n")
    (folder / "ratings.csv").write_bytes(header.replace(b'"', b"") + b"\n" + rest)
    return [folder / "ratings.csv", folder / "ratings.parquet"]


def contenders(path: Path) -> dict[str, Callable[[], object]]:
    """Return what reads a file, by name."""
    text = path.suffix == ".csv"
    found: dict[str, Callable[[], object]] = {
        "enhancer": lambda: read_interactions(path, ColumnsConfig(), item_ids=None),
        "pyarrow": lambda: csv.read_csv(path) if text else parquet.read_table(path),
    }
    try:
        import polars as pl
    except ImportError:
        return found

    def columns() -> Any:
        return pl.read_csv(path) if text else pl.read_parquet(path)

    def pairs() -> object:
        ids = [pl.col(name).cast(pl.String).cast(pl.Categorical).to_physical() for name in ("user_id", "item_id")]
        ordered = columns().with_columns(*ids).sort("timestamp", maintain_order=True)
        return ordered.unique(["user_id", "item_id"], keep="last")

    return {**found, "polars": columns, "polars-pairs": pairs}


def main() -> None:
    """Run the benchmark."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for path in write_tables(Path(folder), given.rows):
            best: dict[str, tuple[float, float]] = {}
            for _ in range(given.rounds):
                for name, read in contenders(path).items():
                    wall, cpu = time.perf_counter(), time.process_time()
                    read()
                    spent = time.perf_counter() - wall, time.process_time() - cpu
                    best[name] = tuple(map(min, spent, best.get(name, spent)))  # type: ignore[assignment]
            for name, (wall, cpu) in best.items():
                print(f"{path.suffix:9} {name:13} {given.rows:>12,} rows {wall:8.3f} s {cpu:8.3f} CPU s", flush=True)


if __name__ == "__main__":
    main()
