"""``serve`` and ``index``: serve an artifact over HTTP, and export its items as a search index."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from enhancer.cli import jsonlog
from enhancer.cli.formatting import counted
from enhancer.cli.session import JsonFlag, Session, print_json, with_session
from enhancer.serving.service.settings import GRACE, HOST, PORT, WATCH, WORKERS, Limits

ArtifactArgument = Annotated[
    Path | None, typer.Argument(metavar="ARTIFACT", help="Artifact folder; by default that of the project.")
]
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
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 selects a free one.")] = PORT,
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of processes that share the port.")] = WORKERS,
    watch: Annotated[
        float, typer.Option(min=0, help="Seconds between checks for a new artifact; 0: reload on SIGHUP only.")
    ] = WATCH,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running requests may take after SIGTERM.")] = GRACE,
    max_k: Annotated[int, typer.Option(min=1, help="Maximum number of items per user.")] = _LIMITS.k,
    max_batch: Annotated[int, typer.Option(min=1, help="Maximum number of users per request.")] = _LIMITS.batch,
    max_body: Annotated[int, typer.Option(min=1, help="Maximum size of a request in bytes.")] = _LIMITS.body,
    max_waiting: Annotated[int, typer.Option(min=1, help="Maximum number of waiting requests.")] = _LIMITS.waiting,
    max_connections: Annotated[
        int, typer.Option(min=1, help="Maximum number of open connections of a process.")
    ] = _LIMITS.connections,
    max_held: Annotated[
        int, typer.Option(min=1, help="Maximum size of all request bodies and unsent answers of a process in bytes.")
    ] = _LIMITS.held,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds until a request times out.")] = _LIMITS.timeout,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of threads of a process.", show_default="all cores together, at most 4 a process"
        ),
    ] = None,
    explore: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of places that new items get whatever their scores; by default the artifact's."
        ),
    ] = None,
    new_items_cap: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Largest share of a list that is new items; by default the artifact's."),
    ] = None,
    in_memory: Annotated[
        bool, typer.Option("--in-memory", help="Load the artifact into memory instead of memory-mapping it.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check the sha256 of each artifact before using it.")
    ] = True,
    access_log: Annotated[bool, typer.Option("--access-log", help="Log every request.")] = False,
) -> None:
    """Serve the artifact over HTTP.

    Endpoints: /recommend, /similar, /health, /metrics, /openapi.json. A new artifact is loaded without dropping
    requests, at once on SIGHUP. SIGTERM stops the server gracefully.
    """
    flags: dict[str, str | float] = {
        "host": host,
        "port": port,
        "workers": workers,
        "watch": watch,
        "grace": grace,
        "max-k": max_k,
        "max-batch": max_batch,
        "max-body": max_body,
        "max-waiting": max_waiting,
        "max-connections": max_connections,
        "max-held": max_held,
        "timeout": timeout,
    }
    if threads is not None:
        flags["threads"] = threads
    switches = {"in-memory": in_memory, "no-verify": not verify, "access-log": access_log}
    switches |= {"quiet": session.quiet, "log-json": jsonlog.enabled()}
    folder, shares = _folder_and_shares(session, artifact)
    given = {"explore": explore, "new_items_cap": new_items_cap}
    shares |= {name: value for name, value in given.items() if value is not None}
    flags |= {name.replace("_", "-"): value for name, value in shares.items()}
    arguments = [f"--{name}={value}" for name, value in flags.items()]
    arguments += [f"--{name}" for name, on in switches.items() if on]
    # Replace this process by one that has not imported plugins and stores; the process id stays the same.
    arguments += ["--", str(folder)]
    if os.name == "posix":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, "-P", "-m", "enhancer.serving", *arguments])  # noqa: S606
    from enhancer.serving.service.command import main

    raise typer.Exit(main(arguments))


def index(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File to write; the ids are written to PATH.json.")],
    artifact: ArtifactArgument = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="Library: usearch, hnswlib or faiss; by default by the ending of PATH (.usearch, .hnswlib, .hnsw,"
            " .faiss), else usearch."
        ),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="ip (queries are user vectors) or cosine (queries are item vectors).")
    ] = "ip",
    as_json: JsonFlag = False,
) -> None:
    """Export the artifact's items as a vector search index.

    Also measures the recall of approximate search, except for cosines.
    """
    from enhancer.serving import ApproximateRanker, Ranker
    from enhancer.serving.index_file import kind_for

    library = kind_for(path, kind)  # type: ignore[arg-type]  # write_index refuses unknown values
    ranker = Ranker.load(_folder(session, artifact))
    begun = time.perf_counter()
    ranker.export_index(path, kind=library, metric=metric)  # type: ignore[arg-type]  # unknown values raise an error
    seconds = time.perf_counter() - begun
    recall = None
    if metric == "ip" and (users := ranker.user_sample(_SAMPLE)):
        recall = ApproximateRanker(ranker, path).recall(users)
    result = {"index": str(path), "kind": library, "metric": metric, "items": ranker.n_items, "seconds": seconds}
    if as_json:
        print_json({**result, "recall@10": recall})
        return
    typer.echo(f"{counted(ranker.n_items, 'item')} in {path} (an index of {library}), {seconds:.1f} s")
    if recall is not None:
        typer.echo(f"recall@10 against exact search, over {counted(len(users), 'user')}: {recall:.4f}")


def _folder(session: Session, artifact: Path | None) -> Path:
    return _folder_and_shares(session, artifact)[0]


def _folder_and_shares(session: Session, artifact: Path | None) -> tuple[Path, dict[str, float]]:
    """Return the folder of the artifact, and those keys of ``[serving]`` that a project sets."""
    if artifact is not None:
        return artifact, {}
    with session.opened() as project:
        return project.root / project.settings.artifact, project.settings.serving.shares
