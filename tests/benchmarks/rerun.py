"""A second run over unchanged rows: rows a second and peak memory, beside reading and hashing alone::

    python tests/benchmarks/rerun.py                           # 200,000 rows
    python tests/benchmarks/rerun.py --rows 100000 1000000     # is memory flat?

The LMDB store is first filled with the very records that a first run leaves: input hashes of the rendered prompts, vectors of
384 dimensions. Then, in a fresh process each:

``hash``    reads the CSV file, renders every prompt and hashes it: what no second run can do without
``rerun``   ``Pipeline.generate()``: the same, and each row looked up in the store; it must find nothing to do

Memory is told twice. Anonymous memory is what the process holds. Peak resident memory also counts the pages of the store's
file that the system keeps mapped while there is room, and takes back when there is none.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from machine import lines, machine
from peers import MODEL, cpu_seconds, peak_mib, rows

from enhancer.config import Settings
from enhancer.contracts import Context, Record
from enhancer.data import read_entities
from enhancer.features import Pipeline
from enhancer.features.kind_spec import CHUNK
from enhancer.harness import KeyMaker
from enhancer.prompts import Template
from enhancer_plugins.llm.openai import OpenAI, OpenAIOptions
from enhancer_plugins.stores.lmdb import LMDBStore

DIM = 384
URL = "http://127.0.0.1:9/v1"  # nobody listens there: a second run that asked anything would fail


class Unused:
    """An embedder that is never asked."""

    fingerprint = "unused"
    dim = DIM

    def encode(self, texts: Any) -> Any:
        raise AssertionError(texts)


def settings() -> Settings:
    """The same for both runs."""
    return Settings.model_validate(
        {
            "data": {"items": "items.csv"},
            "llm": {"use": "openai", "model": MODEL, "max_tokens": 400},
            "prompts": {"user": {"source": "none"}},
        }
    )


def open_store(folder: Path) -> LMDBStore:
    """The store of the folder."""
    return LMDBStore(LMDBStore.options_class(path=Path("features")), Context(folder))


def hashes(folder: Path) -> Any:
    """Id and input hash of every row, computed as a run computes them."""
    given = settings()
    template = Template.load(given.prompts.item.template, folder)
    keys = KeyMaker(template, given.llm, endpoint=OpenAI(OpenAIOptions(api_base=URL), Context(folder)).endpoint)
    entities = read_entities(folder / "items.csv", "item", given.data.columns, given.data.max_text)
    while chunk := list(islice(entities, CHUNK)):
        rendered = template.render_all(chunk)
        yield from zip((entity.id for entity in chunk), keys.of_all(rendered), strict=True)


def fill(folder: Path, n: int) -> None:
    """Write the table, and what a first run leaves."""
    with (folder / "items.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(("item_id", "title", "genres", "plot"))
        out.writerows(rows(n))
    vector = np.full(DIM, DIM**-0.5, np.float32)
    pairs = hashes(folder)
    store = open_store(folder)
    while chunk := list(islice(pairs, 2000)):
        store.put(
            [
                Record(
                    id=id_,
                    kind="item",
                    profile=f"A warm and quiet story, number {id_}, for those who like their endings open.",
                    tags=("warm", "open endings"),
                    vector=vector,
                    prompt_version="item/v1",
                    model=MODEL,
                    embedder=Unused.fingerprint,
                    generated_at="2026-01-01T00:00:00.000Z",
                    input_hash=input_hash,
                )
                for id_, input_hash in chunk
            ]
        )
    store.close()


def hash_alone(folder: Path) -> int:
    """The limit."""
    return sum(1 for _ in hashes(folder))


def rerun(folder: Path) -> int:
    """The second run."""
    with open_store(folder) as store:
        made = Pipeline(
            settings(),
            folder,
            store=store,
            provider=lambda: OpenAI(OpenAIOptions(api_base=URL), Context(folder)),
            embedder=Unused,  # type: ignore[arg-type]
        ).generate()
    if made.cached != made.entities or made.requests:
        raise AssertionError(made)
    return made.entities


WORK: dict[str, Callable[[Path], int]] = {"hash": hash_alone, "rerun": rerun}


def anonymous_mib() -> float:
    """Memory that is this process's own (Linux; 0 elsewhere)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    told = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
    return int(told[0].split()[1]) / 1024 if told else 0.0


def measured(what: str, folder: Path) -> dict[str, float]:
    """Do it, with an eye on memory."""
    peak, ended = [anonymous_mib()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peak[0] = max(peak[0], anonymous_mib())

    watcher = threading.Thread(target=watch)
    watcher.start()
    cpu, began = cpu_seconds(), time.perf_counter()
    count = WORK[what](folder)
    seconds, used = time.perf_counter() - began, cpu_seconds() - cpu
    ended.set()
    watcher.join()
    return {
        "rows": count,
        "seconds": round(seconds, 3),
        "rows_per_second": round(count / seconds),
        "cpu_us": round(1e6 * used / count, 2),
        "anonymous_mib": round(peak[0], 1),
        "peak_mib": round(peak_mib(), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[200_000])
    parser.add_argument("--folder", type=Path, help="where tables and stores are put; by default a temporary folder")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", choices=WORK, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(measured(given.only, given.folder)))
        return
    about = machine("enhancer", "lmdb")
    results = []
    for n in given.rows:
        folder = Path(tempfile.mkdtemp(prefix="enhancer-rerun-", dir=given.folder))
        try:
            began = time.perf_counter()
            fill(folder, n)
            print(f"filled {n:,} rows in {time.perf_counter() - began:.0f} s", file=sys.stderr)
            for what in WORK:
                command = [sys.executable, __file__, "--only", what, "--folder", str(folder)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                results.append({"what": what, **json.loads(done.stdout)})
        finally:
            shutil.rmtree(folder)
    if given.json:
        print(json.dumps({"machine": about, "results": results}, indent=1))
        return
    print(lines(about) + "\n\nwhat        rows   seconds    rows/s  CPU µs a row  anonymous MiB  peak resident MiB")
    for one in results:
        print(
            f"{one['what']:6s}{one['rows']:10,d}{one['seconds']:10.2f}{one['rows_per_second']:10,d}{one['cpu_us']:14.1f}"
            f"{one['anonymous_mib']:15.0f}{one['peak_mib']:19.0f}"
        )


if __name__ == "__main__":
    main()
