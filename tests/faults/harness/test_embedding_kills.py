"""A run that embeds by a server is killed: vectors that were paid for are on disk, and none is paid for again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from loopback_embeddings import EmbeddingServer, embedding_server

from enhancer.harness import Journal

TEXTS, BATCH, CONCURRENCY = 120, 4, 3


def written(folder: Path, url: str, store: str = "lmdb") -> Path:
    rows = "".join(f"{n},a film about {n} friends\n" for n in range(TEXTS))
    (folder / "items.csv").write_text(f"item_id,text\n{rows}")
    (folder / "enhancer.toml").write_text(
        '[data]\nitems = "items.csv"\n[data.columns]\nitem_text = ["text"]\n[prompts.item]\nsource = "text"\n'
        f'[embedder]\nuse = "openai"\nmodel = "m"\napi_base = "{url}"\nbatch_size = {BATCH}\nprice = 10.0\n'
        f'concurrency = {CONCURRENCY}\ninput = ["text"]\n[store]\nuse = "{store}"\npath = "features"\n'
    )
    return folder


def command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "enhancer", "generate", "-c", str(folder / "enhancer.toml"), "--yes", "--json"]


def after(server: EmbeddingServer, requests: int) -> None:
    until = time.monotonic() + 30
    while len(server.bodies) < requests and time.monotonic() < until:
        time.sleep(0.01)


def test_a_killed_run_pays_again_for_no_more_than_was_in_flight(tmp_path):
    with embedding_server() as server:
        server.latency = 0.05
        folder = written(tmp_path, server.url)
        for killed_at in (8, 16):
            process = subprocess.Popen(command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            after(server, killed_at)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        with Journal(folder / "features") as journal:
            kept = journal.vectors.count()
            assert journal.costs("template")[0].texts == kept
        assert kept >= BATCH * (16 - 2 * CONCURRENCY)
        sent = len(server.texts)
        done = subprocess.run(command(folder), capture_output=True, text=True, check=True)
        report = json.loads(done.stdout)
        assert report["entities"] == TEXTS
        assert len(server.texts) - sent == TEXTS - kept
        assert len(server.texts) <= TEXTS + 2 * BATCH * CONCURRENCY
        written(folder, server.url, "sqlite")
        again = json.loads(subprocess.run(command(folder), capture_output=True, text=True, check=True).stdout)
        assert again["embedded"] == TEXTS
        assert again["embedding_requests"] == 0
