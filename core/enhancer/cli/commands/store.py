"""``enhancer store``: inspect, copy, check and repair the feature store."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from enhancer.cli import results
from enhancer.cli.commands.costs import costs, paid_calls
from enhancer.cli.commands.generate import consent, tells_variables
from enhancer.cli.failures import PARTIAL
from enhancer.cli.formatting import count, counted, dollars
from enhancer.cli.layout import pairs, prose, table
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import (
    JsonFlag,
    PruneFlag,
    Session,
    YesFlag,
    agree,
    print_json,
    say,
    with_session,
)
from enhancer.errors import DataError, EnhancerError, StoreError
from enhancer.features.limits import MAX_PRUNED_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts import Fault, Key, StoreStats
    from enhancer.features.surveying.difference import Difference
    from enhancer.project import Project
    from enhancer.project.inspecting.stored_notes import NoteCount

KindFlag = Annotated[Literal["item", "user"], typer.Option("--kind", help="item or user.")]
AspectFlag = Annotated[
    str | None,
    typer.Option("--aspect", help='Only this aspect: empty for the profile, "text" for the raw text, or a name.'),
]
_SHOWN = 6
"""Elements of a vector that ``get`` prints."""


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        name="store",
        help="Inspect, export, check and repair the feature store.",
        rich_markup_mode=None,
        no_args_is_help=True,
    )
    group.command("stats")(with_session(stats))
    group.command("get")(with_session(get))
    group.command("export")(with_session(export))
    group.command("import")(with_session(import_))
    group.command("verify")(with_session(verify))
    group.command("repair")(with_session(repair))
    group.command("gc")(with_session(gc))
    group.command("quarantine")(with_session(quarantine))
    group.command("costs")(with_session(costs))
    app.add_typer(group, name="store")


def stats(
    session: Session,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only count records; do not compare them with the tables.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Count records, what the notes of each aspect cost, and how many are fresh, stale or vanished."""
    from enhancer.cli.commands.refresh import differences

    with session.opened() as project:
        result = project.store.stats()
        found = None if quick else _freshness(project)
        notes = None if quick else _counted_notes(project)
    if as_json:
        freshness = None if found is None else [one.to_json() for one in found]
        aspects = None if notes is None else [one.to_json() for one in notes]
        print_json({**asdict(result), "aspects": aspects, "freshness": freshness})
        return
    typer.echo(_stats(result))
    if notes:
        typer.echo(f"\n{_notes(notes)}")
    if found:
        typer.echo(f"\n{differences(found)}")


def _freshness(project: Project) -> tuple[Difference, ...] | None:
    """Compare the store with the tables; None if they cannot be read."""
    try:
        return project.parts.pipeline.differences()
    except EnhancerError as error:
        say(f"cannot compare the store with the tables: {error}")
        return None


def _counted_notes(project: Project) -> list[NoteCount] | None:
    """Count the notes of each aspect; None if a record cannot be read."""
    from enhancer.project.inspecting.stored_notes import count_notes

    try:
        return count_notes(project.store)
    except EnhancerError as error:
        say(f"cannot count what the notes of each aspect cost: {error}")
        return None


def _stats(result: StoreStats) -> str:
    size = "unknown" if result.bytes_on_disk is None else f"{result.bytes_on_disk / 1e6:,.1f} MB"
    return pairs(
        [
            ("records", count(result.records)),
            *((f"  {name}", count(number)) for name, number in result.by_kind.items()),
            ("dimensions", ", ".join(f"{dim} ({number:,})" for dim, number in result.dims.items()) or "-"),
            ("embedders", ", ".join(f"{name} ({number:,})" for name, number in result.embedders.items()) or "-"),
            ("on disk", size),
        ]
    )


def _notes(notes: Sequence[NoteCount]) -> str:
    """Render tokens, cost and confidence of the records of each aspect."""
    sure = [level for level in ("high", "medium", "low") if any(one.confidence.get(level) for one in notes)]
    rows = [
        [
            one.name,
            count(one.records),
            "-" if one.tokens is None else count(one.tokens),
            "-" if one.cost_usd is None else dollars(one.cost_usd),
            *(count(one.confidence.get(level, 0)) for level in sure),
        ]
        for one in notes
    ]
    head = ["notes", "records", "tokens", "cost", *(f"{level} confidence" for level in sure)]
    return table(head, rows, right=range(1, len(head)))


def get(
    session: Session,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Item or user id.")],
    kind: KindFlag = "item",
    aspect: AspectFlag = None,
    as_json: JsonFlag = False,
) -> None:
    """Print the records of one item or user: all its aspects, or one.

    With --json, prints the first record, the profile if there is one, and under "aspects" the others by their name.
    """
    from enhancer.features.storing.interchange import record_to_json
    from enhancer.project.inspecting.stored_notes import records_of

    with session.opened() as project:
        if aspect is None:
            records = records_of(project.parts, kind, id_)
        else:
            records = [one for one in project.store.get([id_], kind=kind, aspect=aspect) if one is not None]
    if not records:
        which = f" of aspect {aspect!r}" if aspect else ""
        raise DataError(
            f"no record of {kind} {id_!r}{which}", hint="`enhancer store stats` counts the records of each kind"
        )
    first, *others = map(record_to_json, records)
    if as_json:
        print_json(first if aspect is not None else {**first, "aspects": {one["aspect"]: one for one in others}})
        return
    typer.echo(_record(first))
    for one in others:
        sure = f" ({one['confidence']})" if one["confidence"] else ""
        made = one["profile"] or f"no text of its own, a vector of {counted(len(one['vector']), 'dimension')}"
        typer.echo("\n" + prose(f"{one['aspect']}{sure}: {made}"))


def _record(fields: dict[str, Any]) -> str:
    shown = ", ".join(f"{value:.4f}" for value in fields["vector"][:_SHOWN])
    more = ", …" if len(fields["vector"]) > _SHOWN else ""
    fields["vector"] = f"[{shown}{more}] ({counted(len(fields['vector']), 'dimension')})"
    fields["tags"] = ", ".join(fields["tags"])
    if fields["cost_usd"] is not None:
        fields["cost_usd"] = f"{fields['cost_usd']:.6f}"
    return pairs([(name, "-" if value in (None, "") else str(value)) for name, value in fields.items()])


def export(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="The extension selects the format: .jsonl, .parquet, .safetensors, .itememb or .useremb.",
        ),
    ],
    kind: Annotated[Literal["item", "user"] | None, typer.Option("--kind", help="Only records of this kind.")] = None,
    aspect: Annotated[
        str | None,
        typer.Option("--aspect", help='Only records of this aspect: empty for profiles, "text" for raw texts.'),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write records to a file."""
    from enhancer.features.storing.interchange import export_records

    with session.opened() as project:
        written = export_records(project.store, file, kind=kind, aspect=aspect)
    _output({"file": str(file), "records": written}, f"{counted(written, 'record')} written to {file}", as_json)


def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .jsonl, .parquet, .safetensors, .csv or .tsv file.")],
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the whole file if a row is not valid.")] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Read records, or notes from another source, from a file.

    Each row needs an id, a profile, and the fields of the template's schema; or an id and a column for each of the
    aspects of [prompts], which become records of their own. It replaces the records with the same kind, id and aspect.
    Rows without a vector of this project's embedder are embedded, after a question where that costs. Rows that are not
    valid are listed and left out; the exit code is then 3, or 1 if no row is valid.
    """
    from enhancer.features.storing.interchange import import_records

    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        tell = tells_variables(session, project)
        confirm = consent(yes, view, before=tell, render=results.import_plan, refused="nothing was imported")
        rules = project.parts.pipeline.import_rules()
        prompts = project.settings.prompts
        report = import_records(
            project.store,
            file,
            project.parts.embedder,
            validate=rules.validate,
            complete=rules.complete,
            aspects={
                kind: (*prompt.notes, *prompt.closed_notes)
                for kind, prompt in (("item", prompts.item), ("user", prompts.user))
            },
            strict=strict,
            config=project.settings.embedder,
            max_cost=project.settings.llm.max_cost,
            confirm=confirm,
            listener=view,
        )
    message = f"{counted(report.records, 'record')} read from {file}, {report.embedded:,} of them embedded here"
    if report.embedding_requests is not None:
        failed = report.embedding_failed_requests
        without = f", and {count(failed)} without an answer" if failed else ""
        message += (
            f" by {counted(report.embedding_requests, 'request')}{without} ({dollars(report.embedding_cost_usd)})"
        )
    _output({"file": str(file), **report.to_json()}, message, as_json)
    if report.rejected:
        for rejected in report.rejected_rows:
            named = "" if rejected.id is None else f" (id {rejected.id!r})"
            say(f"row {rejected.row:,}{named}: {rejected.reason}")
        more = report.rejected - len(report.rejected_rows)
        others = f"; {more:,} more are not listed" if more else ""
        say(f"{counted(report.rejected, 'row')} left out as not valid{others}")
        raise typer.Exit(PARTIAL if report.records else 1)


def verify(session: Session, as_json: JsonFlag = False) -> None:
    """Read every record and list all faults.

    Exits with code 1 if there are any. A missing store is a fault, and so is an empty one if answers were paid for.
    """
    from enhancer.contracts import Fault

    with session.opened() as project:
        place = str(project.store.directory)
        faults = project.store.verify()
        records: int | None = None
        try:
            records = project.store.stats().records
        except StoreError:  # too damaged to be counted
            if not faults:
                raise
        empty = records == 0 and all(fault.where == place for fault in faults)
        paid = sum(line.calls for line in paid_calls(project, "model")) if empty else 0
        if paid and not faults:
            faults = [Fault(place, "the store has no records")]
    if as_json:
        print_json({"records": records, "faults": [asdict(fault) for fault in faults]})
    elif faults:
        typer.echo(_faults(faults))
    elif records is not None:
        typer.echo(f"{counted(records, 'record')}, no faults")
    if not faults:
        return
    if not empty:
        say(f"{counted(len(faults), 'fault')}: `enhancer store repair` keeps the sound records")
    elif paid:
        answers = counted(paid, "paid answer")
        say(f"{answers} in the journal: `enhancer generate` restores the records without asking again")
    else:
        say("check [store] path; if it is right, `enhancer generate` creates the store")
    raise typer.Exit(1)


def _faults(faults: Sequence[Fault]) -> str:
    return table(["where", "fault"], [[fault.where, fault.what] for fault in faults])


def repair(session: Session, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Keep the sound records of a damaged store.

    Lists the lost ones. The next `enhancer generate` restores them, from the journal if they were paid for. A file with
    a damaged structure is kept beside the new one. No other process may use the store meanwhile.
    """
    project = session.project()
    agree("Repair the store? No other process may use it meanwhile.", "this would repair the store", yes=yes)
    done = project.repair_store()
    if as_json:
        print_json(asdict(done))
        return
    if done.lost:
        typer.echo(_faults(done.lost))
    kept = f"{counted(done.kept, 'sound record')} kept"
    typer.echo(f"{kept}; `enhancer generate` restores the others" if done.lost else f"{kept}; nothing was lost")
    if done.backup is not None:
        say(f"the damaged file is kept as {done.backup}; delete it when you no longer need it")


def gc(
    session: Session,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only report what would be removed.")] = False,
    prune_at_most: PruneFlag = MAX_PRUNED_SHARE,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove records of entities that are no longer in the tables, and joint texts that no input names any longer.

    Paid answers stay in the journal, so an entity that comes back costs nothing. A joint text, such as plot+mood, is
    embedded again once an input names it. Vectors that a remote embedder was paid for and that no record has any more
    are removed from it. Open snapshots still contain removed records. Without a terminal to ask on, --yes is required.
    As a guard against truncated tables, removing more than half of the records of a kind is an error, unless no input
    names them.
    """
    from enhancer.features import inputs_wanted
    from enhancer.features.refresh import refuse_mass_removal, remove_records
    from enhancer.features.storing.joint_texts import unnamed_joint_texts
    from enhancer.features.storing.unused_vectors import remove_unused_vectors

    with session.opened() as project:
        seen = project.parts.pipeline.difference_counter()
        inputs = inputs_wanted(project.settings)
        unnamed = Counter(map(_name, unnamed_joint_texts(project.store, inputs)))
        orphans = Counter(map(_name, project.parts.pipeline.vanished(seen)))
        for name in unnamed:
            del orphans[name]  # each record is counted once
        total = sum(orphans.values()) + sum(unnamed.values())
        stored = Counter(map(_name, project.store.keys())) if orphans else Counter()
        refused: DataError | None = None
        try:
            for name, number in orphans.items():
                refuse_mass_removal(name, number, stored[name], prune_at_most)
        except DataError as error:
            if not dry_run:
                raise
            refused = error
        vectors = remove_unused_vectors(project.store, max_share=prune_at_most, dry_run=True)
        by_name = _by_name(orphans, unnamed)
        removed = 0
        if not dry_run and (total or vectors.removed):
            what = f"{counted(total, 'record')} ({by_name})" if total else ""
            paid = f"{counted(vectors.removed, 'paid vector')} of no record" if vectors.removed else ""
            what = " and ".join(filter(None, (what, paid)))
            agree(f"Remove {what}?", f"this would remove {what}", refused="nothing was removed", yes=yes)
            removed = remove_records(project.store, list(unnamed_joint_texts(project.store, inputs)))
            removed += remove_records(project.store, project.parts.pipeline.vanished(seen))
            vectors = remove_unused_vectors(project.store, max_share=prune_at_most)
    result: dict[str, Any] = {
        "removed": removed,
        "orphaned": sum(orphans.values()),
        "by_kind": dict(sorted(orphans.items())),
        "dry_run": dry_run,
    }
    if unnamed:
        result["unnamed"] = dict(sorted(unnamed.items()))
    if refused is not None:
        result["refused"] = refused.message
        _output(result, f"nothing would be removed: {refused.message}", as_json)
        say(f"  {refused.hint}")
        return
    if vectors.vectors:
        result["vectors"] = vectors.removed
    message = f"{counted(total if dry_run else removed, 'record')} {'would be ' if dry_run else ''}removed"
    message = f"{message} ({by_name})" if total else message
    if vectors.removed:
        message += f", and {counted(vectors.removed, 'paid vector')} of no record"
    _output(result, message, as_json)
    if vectors.unused and not vectors.removed:
        kept = f"{vectors.unused:,} of {counted(vectors.vectors, 'paid vector')} are of no record"
        say(f"{kept}: too many to remove unseen; if the store is complete, use --prune-at-most 1")


def _by_name(orphans: Counter[str], unnamed: Counter[str]) -> str:
    """Render the numbers of records to remove, by kind and aspect."""
    parts = [f"{name} {number:,}" for name, number in sorted(orphans.items())]
    parts += [f"{name} {number:,}, which no input names" for name, number in sorted(unnamed.items())]
    return "; ".join(parts) if unnamed else ", ".join(parts)


def _name(key: Key) -> str:
    return f"{key.kind}/{key.aspect}" if key.aspect else key.kind


def quarantine(session: Session, as_json: JsonFlag = False) -> None:
    """List entities without a valid answer, or without a vector of it; of several notes, each of these."""
    from enhancer.contracts import Key
    from enhancer.harness import Journal

    with session.opened() as project:
        lines: list[dict[str, Any]] = []
        if (found := Journal.find(project.store)) is not None:
            with found as journal:
                lines = [line._asdict() for line in journal.all_quarantined()]
    if as_json:
        print_json(lines)
    elif lines:
        shown = [[_name(Key(line["kind"], line["id"], line["aspect"])), line["id"], line["reason"]] for line in lines]
        typer.echo(table(["kind", "id", "reason"], shown))
    else:
        typer.echo("nothing is in quarantine")


def _output(result: dict[str, Any], message: str, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        typer.echo(message)
