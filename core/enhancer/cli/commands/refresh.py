"""``refresh``: bring the store up to date, for a nightly job."""

from __future__ import annotations

import json
import time
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import formatting, jsonlog, layout, results
from enhancer.cli.commands.generate import (
    BatchFlag,
    KeepGoingFlag,
    NoWaitFlag,
    RetryFlag,
    consent,
    quarantine_hint,
    report_open_jobs,
    tells_variables,
)
from enhancer.cli.failures import INTERRUPTED, PARTIAL
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, PruneFlag, Session, YesFlag, print_json, say, with_session
from enhancer.errors import EnhancerError
from enhancer.features.limits import MAX_PRUNED_SHARE
from enhancer.files import atomic_replace, check_output_path
from enhancer.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.features.refresh import Changes
    from enhancer.features.surveying.difference import Difference


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("refresh")(with_session(refresh))


def refresh(
    session: Session,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove records of entities that are no longer in the tables.")
    ] = False,
    prune_at_most: PruneFlag = MAX_PRUNED_SHARE,
    retry_quarantined: RetryFlag = False,
    batch: BatchFlag = False,
    no_wait: NoWaitFlag = False,
    keep_going: KeepGoingFlag = False,
    summary: Annotated[
        Path | None, typer.Option("--summary", metavar="FILE", help="Write the changes and the result to FILE as JSON.")
    ] = None,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Update the store after changes of the tables.

    Generates profiles of new and changed entities, and with --prune removes records of entities that are gone. Made for
    nightly jobs. Exit codes: 3 if entities are in quarantine, 4 if stopped at the budget, 1 if it failed. The summary
    is written in each case.
    """
    from enhancer.harness.clock import now

    known: dict[str, Any] = {}
    started, began = now(), time.perf_counter()

    def show_changes(changes: Changes) -> None:
        known["changes"] = [one.to_json() for one in changes.differences]
        known["plan"] = changes.plan.to_json()
        if not as_json:
            with view.suspended():
                typer.echo(differences(changes.differences))

    if summary is not None:
        check_output_path(summary, "--summary")
    try:
        with session.opened() as project, ProgressView(quiet=session.quiet) as view:
            view(Progress("read", 0))
            try:
                report = project.refresh(
                    listener=view,
                    confirm=consent(yes, view, before=tells_variables(session, project, batch=batch)),
                    on_changes=show_changes,
                    prune=prune,
                    max_pruned_share=prune_at_most,
                    retry_quarantined=retry_quarantined,
                    batch=batch,
                    wait=not no_wait,
                    keep_going=keep_going,
                )
            finally:
                if batch or known.get("plan", {}).get("pending"):
                    with view.suspended():
                        report_open_jobs(project)
    except (EnhancerError, KeyboardInterrupt, typer.Exit) as stop:
        seconds = round(time.perf_counter() - began, 3)
        _write(summary, {"started": started, "seconds": seconds, **_stopped(stop, known)})
        done = getattr(stop, "report", None)
        if done is not None and not as_json:
            typer.echo(results.generation(done.to_json()))
        raise
    code = PARTIAL if report.quarantined else 0
    result = {**report.to_json(), "exit_code": code, "attention": _attention(report.quarantined), "error": None}
    _write(summary, result)
    jsonlog.summary("refresh", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(_render(result))
    if code:
        say(quarantine_hint(report.quarantined, "refresh"))
        raise typer.Exit(code)


def differences(found: Sequence[Difference]) -> str:
    """Render the numbers of fresh, new, stale and vanished entities, a column for each kind of record."""
    names, columns = [], []
    for one in found:
        stale = one.to_json()["stale"]
        names = ["entities", "fresh", "new", *(f"{reason} changed" for reason in stale), "no text", "vanished"]
        columns.append([one.entities, one.fresh, one.new, *stale.values(), one.without_text, one.vanished])
    rows = [[name, *map(formatting.count, counts)] for name, *counts in zip(names, *columns, strict=True)]
    examples = [
        layout.prose(f"{one.name}, {name}: {', '.join(ids)}{', …' if len(ids) < _count(one, name) else ''}", indent=2)
        for one in found
        for name, ids in one.examples.items()
    ]
    table = layout.table(["records", *(one.name for one in found)], rows, right=range(1, len(found) + 1))
    return "\n".join([table, *examples])


def _count(one: Difference, name: str) -> int:
    return {"new": one.new, "vanished": one.vanished}.get(name, one.stale[name])


def _render(result: Mapping[str, Any]) -> str:
    lines = ["nothing to generate" if result["generate"] is None else results.generation(result["generate"])]
    if result["vanished"]:
        kept = result["vanished"] - result["pruned"]
        lines.append(f"{formatting.counted(result['pruned'], 'record')} of vanished entities removed, {kept:,} kept")
        if kept:
            lines[-1] += " (--prune removes them)"
    return "\n".join(lines)


def _attention(quarantined: int) -> list[str]:
    return [f"{quarantined} in quarantine"] if quarantined else []


def _stopped(stop: BaseException, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary of a run that stopped early; null stands for what is not known."""
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

    text = scrub(json.dumps(jsonlog.plain(result), indent=2, ensure_ascii=False, allow_nan=False))
    with atomic_replace(path) as draft:
        draft.write_text(text + "\n", encoding="utf-8")
