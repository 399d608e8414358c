"""``refresh``: what a nightly job calls. It says what changed, does it, and ends with a code to act upon."""

from __future__ import annotations

import json
import time
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import jsonlog, tables
from enhancer.cli.commands.generate import BatchFlag, NoWaitFlag, consent, tell_of_jobs
from enhancer.cli.failures import INTERRUPTED, PARTLY
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import (
    MOST_PRUNED,
    JsonFlag,
    PruneFlag,
    Session,
    YesFlag,
    plain,
    print_json,
    say,
    with_session,
)
from enhancer.errors import EnhancerError
from enhancer.files import atomic_replace, check_output_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.features.refresh import Changes
    from enhancer.features.surveying.difference import Difference


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("refresh")(with_session(refresh))


def refresh(
    session: Session,
    prune: Annotated[bool, typer.Option("--prune", help="Remove records of entities that are gone.")] = False,
    prune_at_most: PruneFlag = MOST_PRUNED,
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Ask again about entities whose answers were never valid.")
    ] = False,
    batch: BatchFlag = False,
    no_wait: NoWaitFlag = False,
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Write what was found and done, as JSON.")
    ] = None,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Bring the store up to date: new, changed and vanished.

    Made for a nightly job. Exit code 3 when some are in quarantine, 4 at the budget, 1 when it failed; the summary is
    written in each case.
    """
    from enhancer.harness.clock import now

    known: dict[str, Any] = {}
    started, began = now(), time.perf_counter()

    def tell(changes: Changes) -> None:
        known["changes"] = [one.to_json() for one in changes.differences]
        known["plan"] = changes.plan.to_json()
        if not as_json:
            with view.suspended():
                typer.echo(differences(changes.differences))

    if summary is not None:
        check_output_path(summary, "--summary")
    try:
        with session.opened() as project, ProgressView(quiet=session.quiet) as view:
            try:
                report = project.refresh(
                    listener=view,
                    confirm=consent(yes, view),
                    on_changes=tell,
                    prune=prune,
                    max_pruned_share=prune_at_most,
                    retry_quarantined=retry_quarantined,
                    batch=batch,
                    wait=not no_wait,
                )
            finally:
                if batch or known.get("plan", {}).get("pending"):
                    with view.suspended():
                        tell_of_jobs(project)
    except (EnhancerError, KeyboardInterrupt, typer.Exit) as stop:
        _write(summary, {"started": started, "seconds": round(time.perf_counter() - began, 3), **_stopped(stop, known)})
        done = getattr(stop, "report", None)
        if done is not None and not as_json:
            typer.echo(tables.generation(done.to_json()))
        raise
    code = PARTLY if report.quarantined else 0
    result = {**report.to_json(), "exit_code": code, "attention": _attention(report.quarantined), "error": None}
    _write(summary, result)
    jsonlog.summary("refresh", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(_said(result))
    if code:
        say(
            f"{report.quarantined} in quarantine: `enhancer store quarantine` lists them with the reason, "
            "`enhancer refresh --retry-quarantined` asks again"
        )
        raise typer.Exit(code)


def differences(found: Sequence[Difference]) -> str:
    """What is fresh, new, stale by reason and gone, a line for each kind of record."""
    head = ["", "entities", "fresh", "new", "text", "template", "model", "embedder", "no text", "vanished"]
    rows = []
    for one in found:
        stale = one.to_json()["stale"]
        counts = [one.entities, one.fresh, one.new, *stale.values(), one.without_text, one.vanished]
        rows.append([one.name, *map(tables.count, counts)])
    named = [
        f"{one.name}, {what}: {', '.join(ids)}{', …' if len(ids) < _count(one, what) else ''}"
        for one in found
        for what, ids in one.examples.items()
    ]
    return "\n".join([tables.table(head, rows, right=range(1, len(head))), *map(tables.one_line, named)])


def _count(one: Difference, what: str) -> int:
    return {"new": one.new, "vanished": one.vanished}.get(what, one.stale[what])


def _said(result: Mapping[str, Any]) -> str:
    lines = ["nothing to generate" if result["generate"] is None else tables.generation(result["generate"])]
    if result["vanished"]:
        kept = result["vanished"] - result["pruned"]
        lines.append(f"{tables.counted(result['pruned'], 'record')} of vanished entities removed, {kept:,} kept")
        if kept:
            lines[-1] += " (--prune removes them)"
    return "\n".join(lines)


def _attention(quarantined: int) -> list[str]:
    return [f"{quarantined} in quarantine"] if quarantined else []


def _stopped(stop: BaseException, known: Mapping[str, Any]) -> dict[str, Any]:
    """What the summary says of a run that did not get to its end: null is what is not known."""
    done = getattr(stop, "report", None)
    code, message, hint = 1, "not confirmed", None
    if isinstance(stop, EnhancerError):
        code, message, hint = stop.exit_code, stop.message, stop.hint
    elif isinstance(stop, KeyboardInterrupt):
        code, message = INTERRUPTED, "interrupted"
    plan, changes = known.get("plan"), known.get("changes")
    quarantined = done.quarantined if done is not None else plan["quarantined"] if plan else None
    return {
        "changes": changes,
        "plan": plan,
        "generate": None if done is None else done.to_json(),
        "quarantined": quarantined,
        "vanished": None if changes is None else sum(one["vanished"] for one in changes),
        "pruned": None if code == INTERRUPTED else 0,
        "exit_code": code,
        "attention": [message],
        "error": {"type": type(stop).__name__, "message": message, "hint": hint},
    }


def _write(path: Path | None, result: Mapping[str, Any]) -> None:
    if path is None:
        return
    from enhancer.cli.failures import scrub

    text = scrub(json.dumps(plain(result), indent=2, ensure_ascii=False, allow_nan=False))
    with atomic_replace(path) as draft:
        draft.write_text(text + "\n", encoding="utf-8")
