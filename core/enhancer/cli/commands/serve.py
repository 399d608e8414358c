"""``serve`` and ``index``: an artifact over HTTP, and its items for another library."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from enhancer.cli import jsonlog, tables
from enhancer.cli.session import JsonFlag, Session, print_json, with_session
from enhancer.serving.service.settings import GRACE, HOST, PORT, WATCH, Limits

ArtifactArgument = Annotated[Path | None, typer.Argument(help="Artifact folder; by default the project's.")]
_LIMITS = Limits()
_SAMPLE = 200


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("serve")(with_session(serve))
    app.command("index")(with_session(index))


def serve(
    session: Session,
    artifact: ArtifactArgument = None,
    host: Annotated[str, typer.Option(help="Address to bind.")] = HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 lets the system choose.")] = PORT,
    watch: Annotated[
        float, typer.Option(min=0, help="Seconds between looks for a new artifact; 0: SIGHUP alone.")
    ] = WATCH,
    grace: Annotated[float, typer.Option(min=0, help="Seconds for running requests after SIGTERM.")] = GRACE,
    max_k: Annotated[int, typer.Option(min=1, help="Most items for a user.")] = _LIMITS.k,
    max_batch: Annotated[int, typer.Option(min=1, help="Most users in a request.")] = _LIMITS.batch,
    max_body: Annotated[int, typer.Option(min=1, help="Most bytes in a request.")] = _LIMITS.body,
    max_waiting: Annotated[int, typer.Option(min=1, help="Most requests that wait.")] = _LIMITS.waiting,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds for a request.")] = _LIMITS.timeout,
    threads: Annotated[
        int, typer.Option(min=1, help="Products that run at once.", show_default="cores, at most 4")
    ] = _LIMITS.threads,
    in_memory: Annotated[bool, typer.Option("--in-memory", help="Read the artifact instead of mapping it.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare its sha256 before it is used.")] = False,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log a line for each request.")] = False,
) -> None:
    """Serve the artifact over HTTP: /recommend, /similar, /health, /openapi.json.

    A new artifact is swapped in without a dropped request. SIGHUP loads it now, SIGTERM stops gracefully.
    """
    flags = {
        "host": host,
        "port": port,
        "watch": watch,
        "grace": grace,
        "max-k": max_k,
        "max-batch": max_batch,
        "max-body": max_body,
        "max-waiting": max_waiting,
        "timeout": timeout,
        "threads": threads,
    }
    switches = {"in-memory": in_memory, "verify": verify, "access-log": access_log}
    switches |= {"quiet": session.quiet, "log-json": jsonlog.speaks_json()}
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    arguments += [f"--{name}" for name, on in switches.items() if on]
    # The server is a process that knows nothing of plugins and stores: this one gives way to it, and keeps its number.
    arguments += ["--", str(_folder(session, artifact))]
    if os.name == "posix":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, "-P", "-m", "enhancer.serving", *arguments])  # noqa: S606
    from enhancer.serving.service.server import main

    raise typer.Exit(main(arguments))


def index(
    session: Session,
    path: Annotated[Path, typer.Argument(help="File to write; PATH.json beside it gives the ids.")],
    artifact: ArtifactArgument = None,
    kind: Annotated[str, typer.Option(help="usearch, hnswlib or faiss.")] = "usearch",
    metric: Annotated[str, typer.Option(help="ip: users ask. cosine: items ask.")] = "ip",
    as_json: JsonFlag = False,
) -> None:
    """Write the artifact's items as an index for approximate search, and measure its recall."""
    from enhancer.serving import ApproximateRanker, Ranker

    ranker = Ranker.load(_folder(session, artifact))
    begun = time.perf_counter()
    ranker.export_index(path, kind=kind, metric=metric)  # type: ignore[arg-type]  # refused where it is unknown
    seconds = time.perf_counter() - begun
    recall = None
    if metric == "ip" and (users := ranker.user_sample(_SAMPLE)):
        recall = ApproximateRanker(ranker, path).recall(users)
    result = {"index": str(path), "kind": kind, "metric": metric, "items": ranker.n_items, "seconds": seconds}
    if as_json:
        print_json({**result, "recall@10": recall})
        return
    typer.echo(f"{tables.counted(ranker.n_items, 'item')} in {path}, {seconds:.1f} s")
    if recall is not None:
        typer.echo(f"recall@10 against exact search, over {tables.counted(len(users), 'user')}: {recall:.4f}")


def _folder(session: Session, artifact: Path | None) -> Path:
    if artifact is not None:
        return artifact
    with session.opened() as project:
        return project.root / project.settings.artifact
