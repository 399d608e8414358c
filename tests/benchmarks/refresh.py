"""``enhancer refresh`` of a catalogue: nothing changed, and one row in a hundred; rows a second and peak memory::

    python tests/benchmarks/refresh.py                            # 100,000 rows
    python tests/benchmarks/refresh.py --rows 100000 1000000      # is memory flat?

The store is filled with what a first run leaves (``rerun.py``). Then, in a fresh process each:

``hash``       reads, renders and hashes every row
``look-up``    reads the stamp of every record by its key, checksum included: what LMDB reads alone allow
``hash+look``  the two one after the other: no refresh can be faster than that
``first``      ``refresh`` over the same table while nothing is remembered of it
``unchanged``  the same again
``changed``    ``refresh`` after the text of one row in a hundred was changed, with a model that answers at once and an
               embedder that costs nothing
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rerun
from machine import lines, machine

from enhancer.cli.app import own_process
from enhancer.contracts import Completion, Context, LLMProvider, Price
from enhancer.contracts.llm import Request
from enhancer.features import Pipeline
from enhancer.features.refresh import refresh
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions

ANSWER = json.dumps(
    {
        "profile": "A quiet, warm and slow story of letters and borders, for those who like their endings left open.",
        "tags": ["warm", "quiet", "letters", "open endings"],
    }
)


class Instant(LLMProvider):
    """Answers at once."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    @property
    def endpoint(self) -> str:
        return self._endpoint

    async def complete(self, request: Request) -> Completion:
        return Completion(text=ANSWER, finish_reason="stop", prompt_tokens=300, completion_tokens=60, cost_usd=0.0)

    def price(self, model: str) -> Price | None:
        return Price(0.0, 0.0)

    async def aclose(self) -> None:
        return None


class Free:
    """An embedder whose vectors cost nothing."""

    fingerprint = rerun.Unused.fingerprint
    dim = rerun.DIM

    def encode(self, texts: Any) -> Any:
        return np.full((len(list(texts)), self.dim), self.dim**-0.5, np.float32)


def look_up(folder: Path, n: int) -> int:
    """Stamps by key, a survey's chunk at a time; the ids are made as they are needed."""
    with rerun.open_store(folder) as store:
        return sum(
            len(store.stamps([f"i{number}" for number in range(start, min(start + 1024, n))]))
            for start in range(0, n, 1024)
        )


def both(folder: Path, n: int) -> int:
    """The two that a refresh cannot do without."""
    rerun.hash_alone(folder)
    return look_up(folder, n)


def refreshed(folder: Path, n: int, changed: int) -> int:
    """One refresh, which must find as many changed rows as there are."""
    endpoint = OpenAI(OpenAIOptions(api_base=rerun.URL), Context(folder)).endpoint
    with rerun.open_store(folder) as store:
        pipeline = Pipeline(
            rerun.settings(), folder, store=store, provider=lambda: Instant(endpoint), embedder=lambda: Free()
        )
        done = refresh(pipeline, store)
    (found,) = done.changes.differences
    if sum(found.stale.values()) != changed or found.fresh != n - changed or done.quarantined:
        raise AssertionError(done)
    return n


def edit(folder: Path) -> int:
    """Change the text of one row in a hundred."""
    table = folder / "items.csv"
    draft = folder / "items.new"
    changed = 0
    with table.open() as old, draft.open("w") as new:
        for number, line in enumerate(old):
            if number and number % 100 == 0:
                line, changed = line.replace("a clerk", "a sailor"), changed + 1
            new.write(line)
    draft.replace(table)
    return changed


def work(what: str, n: int, changed: int) -> Callable[[Path], int]:
    """Describe the measurements."""
    return {
        "hash": rerun.hash_alone,
        "look-up": lambda folder: look_up(folder, n),
        "hash+look": lambda folder: both(folder, n),
        "first": lambda folder: refreshed(folder, n, 0),
        "unchanged": lambda folder: refreshed(folder, n, 0),
        "changed": lambda folder: refreshed(folder, n, changed),
    }[what]


KINDS = ("hash", "look-up", "hash+look", "first", "unchanged", "changed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--folder", type=Path, help="where tables and stores are put; by default a temporary folder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--changed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        own_process()  # as the command line does
        rerun.WORK[given.only] = work(given.only, given.rows[0], given.changed)
        print(json.dumps(rerun.measured(given.only, given.folder)))
        return
    about = machine("enhancer", "lmdb")
    results = []
    for n in given.rows:
        folder = Path(tempfile.mkdtemp(prefix="enhancer-refresh-", dir=given.folder))
        try:
            began = time.perf_counter()
            rerun.fill(folder, n)
            print(f"filled {n:,} rows in {time.perf_counter() - began:.0f} s", file=sys.stderr)
            for what in KINDS:
                changed = edit(folder) if what == "changed" else 0
                told = ["--rows", str(n), "--changed", str(changed), "--folder", str(folder)]
                command = [sys.executable, __file__, "--only", what, *told]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                results.append({"what": what, **json.loads(done.stdout)})
        finally:
            shutil.rmtree(folder)
    if given.json:
        print(json.dumps({"machine": about, "results": results}, indent=1))
        return
    print(
        lines(about) + "\n\nwhat             rows   seconds    rows/s  CPU µs a row  anonymous MiB  peak resident MiB"
    )
    for one in results:
        print(
            f"{one['what']:10s}{one['rows']:11,d}{one['seconds']:10.2f}{one['rows_per_second']:10,d}"
            f"{one['cpu_us']:14.1f}{one['anonymous_mib']:15.0f}{one['peak_mib']:19.0f}"
        )


if __name__ == "__main__":
    main()
