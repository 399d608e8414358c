"""``enhancer store``: looks after the feature store."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from enhancer.cli import tables
from enhancer.cli.session import (
    MOST_PRUNED,
    JsonFlag,
    PruneFlag,
    Session,
    YesFlag,
    ask,
    is_terminal,
    print_json,
    say,
    with_session,
)
from enhancer.errors import DataError, EnhancerError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.contracts import Fault, Key, StoreStats
    from enhancer.features.surveying.difference import Difference
    from enhancer.harness.journal.journal import CostLine
    from enhancer.project import Project

KindFlag = Annotated[Literal["item", "user"], typer.Option("--kind", help="item or user.")]
AspectFlag = Annotated[str, typer.Option("--aspect", help='Which profile: empty for the LLM\'s, "text" for raw text.')]
_SHOWN = 6
"""Numbers of a vector that are shown to a person."""


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(name="store", help="Look after the feature store.", rich_markup_mode=None, no_args_is_help=True)
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
    quick: Annotated[bool, typer.Option("--quick", help="Count records alone; do not read the tables.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Count what is there, and how much of it is fresh, stale and orphaned."""
    from enhancer.cli.commands.refresh import differences

    with session.opened() as project:
        counted = project.store.stats()
        found = None if quick else _freshness(project)
    if as_json:
        freshness = None if found is None else [one.to_json() for one in found]
        print_json({**asdict(counted), "freshness": freshness})
        return
    typer.echo(_stats(counted))
    if found:
        typer.echo(f"\n{differences(found)}")


def _freshness(project: Project) -> tuple[Difference, ...] | None:
    """None where the tables cannot be read: what is in the store can be counted without."""
    try:
        return project.parts.pipeline.differences()
    except EnhancerError as error:
        say(f"what is fresh cannot be told: {error}")
        return None


def _stats(result: StoreStats) -> str:
    size = "unknown" if result.bytes_on_disk is None else f"{result.bytes_on_disk / 1e6:,.1f} MB"
    return tables.pairs(
        [
            ("records", tables.count(result.records)),
            *((f"  {name}", tables.count(number)) for name, number in result.by_kind.items()),
            ("vector lengths", ", ".join(f"{dim} ({number:,})" for dim, number in result.dims.items()) or "-"),
            ("embedders", ", ".join(f"{name} ({number:,})" for name, number in result.embedders.items()) or "-"),
            ("on disk", size),
        ]
    )


def get(
    session: Session,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Item or user id.")],
    kind: KindFlag = "item",
    aspect: AspectFlag = "",
    as_json: JsonFlag = False,
) -> None:
    """Show one record."""
    with session.opened() as project:
        (record,) = project.store.get([id_], kind=kind, aspect=aspect)
    if record is None:
        which = f" of aspect {aspect!r}" if aspect else ""
        raise DataError(f"no record of {kind} {id_!r}{which}", hint="`enhancer store stats` shows what is there")
    from enhancer.features.storing.interchange import record_to_json

    fields = record_to_json(record)
    if as_json:
        print_json(fields)
        return
    numbers = [f"{value:.4f}" for value in fields["vector"][:_SHOWN]]
    more = ", …" if len(fields["vector"]) > _SHOWN else ""
    fields["vector"] = f"[{', '.join(numbers)}{more}] ({tables.counted(len(fields['vector']), 'number')})"
    fields["tags"] = ", ".join(fields["tags"])
    typer.echo(tables.pairs([(name, "-" if value is None else str(value)) for name, value in fields.items()]))


def export(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Its ending names the format: .jsonl, .parquet, .safetensors, .itememb, .useremb."
        ),
    ],
    kind: Annotated[Literal["item", "user"] | None, typer.Option("--kind", help="Of one kind alone.")] = None,
    aspect: Annotated[
        str | None, typer.Option("--aspect", help='Of one aspect alone: empty for the LLM\'s, "text" for raw text.')
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Write records to a file: by default every one."""
    from enhancer.features.storing.interchange import export_records

    with session.opened() as project:
        written = export_records(project.store, file, kind=kind, aspect=aspect)
    _counted({"file": str(file), "records": written}, f"{tables.counted(written, 'record')} written to {file}", as_json)


def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `store export` wrote.")],
    as_json: JsonFlag = False,
) -> None:
    """Read records, or profiles made elsewhere, from a file.

    A row needs an id, a profile, and what the template's schema asks for (the bundled ones: tags). It replaces the
    record of equal kind, id and aspect. What has no vector of this project's embedder is embedded.
    """
    from enhancer.features.storing.interchange import import_records

    with session.opened() as project:
        rules = project.parts.pipeline.import_rules()
        report = import_records(
            project.store, file, project.parts.embedder, validate=rules.validate, complete=rules.complete
        )
    said = f"{tables.counted(report.records, 'record')} read from {file}, {report.embedded:,} of them embedded here"
    _counted({"file": str(file), **report.to_json()}, said, as_json)


def verify(session: Session, as_json: JsonFlag = False) -> None:
    """Read everything and list every fault.

    Exit code 1 if there is one. That there is no store is one, and that it is empty although answers were paid for.
    """
    from enhancer.contracts import Fault

    with session.opened() as project:
        place = str(project.store.directory)
        faults = project.store.verify()
        records: int | None = None
        try:
            records = project.store.stats().records
        except StoreError:  # so damaged that they cannot be counted
            if not faults:
                raise
        empty = records == 0 and all(fault.where == place for fault in faults)
        paid = sum(line.calls for line in _paid(project, "model")) if empty else 0
        if paid and not faults:
            faults = [Fault(place, "there is no record")]
    if as_json:
        print_json({"records": records, "faults": [asdict(fault) for fault in faults]})
    elif faults:
        typer.echo(_faults(faults))
    elif records is not None:
        typer.echo(f"{tables.counted(records, 'record')}, no fault")
    if not faults:
        return
    if not empty:
        say(f"{tables.counted(len(faults), 'fault')}: `enhancer store repair` keeps what is sound")
    elif paid:
        answers = tables.counted(paid, "paid answer")
        say(f"{answers} in the journal: `enhancer generate` makes the records again, and asks for none of them twice")
    else:
        say("is [store] path right? If it is: `enhancer generate` makes a store")
    raise typer.Exit(1)


def _faults(faults: Sequence[Fault]) -> str:
    return tables.table(["where", "what"], [[fault.where, fault.what] for fault in faults])


def repair(session: Session, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Keep all that is sound of a damaged store.

    What was lost is listed, and made again by the next `enhancer generate`, from the journal where it was paid for. A
    file whose structure is damaged is kept beside the new one. Nobody may use the store meanwhile.
    """
    project = session.project()
    if not yes and is_terminal() and not ask("Repair the store? Nobody may use it meanwhile."):
        raise typer.Exit(1)
    done = project.repair_store()
    if as_json:
        print_json(asdict(done))
        return
    if done.lost:
        typer.echo(_faults(done.lost))
    kept = f"{tables.counted(done.kept, 'record')} {'is' if done.kept == 1 else 'are'} sound"
    typer.echo(f"{kept}; nothing was lost" if not done.lost else f"{kept}; `enhancer generate` makes the others again")
    if done.backup is not None:
        say(f"the damaged file is kept as {done.backup}; delete it when it is of no use any more")


def gc(
    session: Session,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed; remove nothing.")] = False,
    prune_at_most: PruneFlag = MOST_PRUNED,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove records of entities that are gone.

    That is: of those that the tables no longer hold. What was paid for stays in the journal, so an entity that comes
    back costs nothing. Open snapshots still show removed records. A table that was cut short must not empty the store:
    removing more than half of a kind's records is an error.
    """
    from enhancer.features.refresh import refuse_mass_removal, remove_records

    with session.opened() as project:
        seen = project.parts.pipeline.difference_counter()
        gone = Counter(map(_name, project.parts.pipeline.vanished(seen)))
        count = sum(gone.values())
        named = ", ".join(f"{name} {number:,}" for name, number in sorted(gone.items()))
        removed = 0
        if count and not dry_run:
            there = Counter(map(_name, project.store.keys()))
            for name, number in gone.items():
                refuse_mass_removal(name, number, there[name], prune_at_most)
            if not yes and is_terminal() and not ask(f"Remove {tables.counted(count, 'record')} ({named})?"):
                say("nothing was removed")
                raise typer.Exit(1)
            removed = remove_records(project.store, project.parts.pipeline.vanished(seen))
    result = {"removed": removed, "orphaned": count, "by_kind": dict(sorted(gone.items())), "dry_run": dry_run}
    said = f"{tables.counted(count if dry_run else removed, 'record')} {'would be ' if dry_run else ''}removed"
    _counted(result, f"{said} ({named})" if count else said, as_json)


def _name(key: Key) -> str:
    return f"{key.kind}/{key.aspect}" if key.aspect else key.kind


def quarantine(session: Session, as_json: JsonFlag = False) -> None:
    """List entities whose answers were never valid."""
    from enhancer.harness import FILE_NAME, Journal

    with session.opened() as project:
        directory = project.store.directory
        lines: list[dict[str, Any]] = []
        if (directory / FILE_NAME).exists():
            journal = Journal(directory)
            lines = [line._asdict() for line in journal.all_quarantined()]
            journal.close()
    if as_json:
        print_json(lines)
    elif lines:
        rows = [[line["kind"], line["id"], line["reason"]] for line in lines]
        typer.echo(tables.table(["kind", "id", "reason"], rows))
    else:
        typer.echo("nothing is in quarantine")


def costs(
    session: Session,
    by: Annotated[Literal["day", "model", "template"], typer.Option("--by", help="What the calls are summed by.")] = (
        "day"
    ),
    as_json: JsonFlag = False,
) -> None:
    """List what was paid for: every call that was answered.

    By day (UTC), model or template, with a total. Where the price of a call is not known, neither is the sum; the known
    part and the number of calls that are missing from it are told.
    """
    with session.opened() as project:
        found = [_cost(line) for line in _paid(project, by)]
    total = {name: sum(line[name] for line in found) for name in _SUMMED}
    total["cost_usd"] = total["known_cost_usd"] if not total["unknown"] else None
    if as_json:
        print_json({"by": by, "lines": found, "total": total})
    elif found:
        head = [by, "calls", "entities", "prompt tokens", "completion tokens", "cost"]
        rows = [[str(line["group"]), *_cells(line)] for line in found]
        typer.echo(tables.table(head, [*rows, ["total", *_cells(total)]], right=range(1, 6)))
    else:
        typer.echo("nothing was paid for yet")


def _paid(project: Project, by: Literal["day", "model", "template"]) -> list[CostLine]:
    """What the journal has; it is not made where there is none."""
    from enhancer.harness import FILE_NAME, Journal

    directory = project.store.directory
    if not (directory / FILE_NAME).exists():
        return []
    with Journal(directory) as journal:
        return journal.costs(by)


_SUMMED = ("calls", "entities", "prompt_tokens", "completion_tokens", "known_cost_usd", "unknown")


def _cost(line: CostLine) -> dict[str, Any]:
    return {
        "group": line.group,
        "calls": line.calls,
        "entities": line.entities,
        "prompt_tokens": line.prompt_tokens,
        "completion_tokens": line.completion_tokens,
        "cost_usd": None if line.calls_of_unknown_cost else line.cost_usd,
        "known_cost_usd": line.cost_usd or 0.0,
        "unknown": line.calls_of_unknown_cost,
    }


def _cells(line: dict[str, Any]) -> list[str]:
    """Counts and cost; an unknown cost is never shown as a number alone."""
    cost = tables.dollars(line["cost_usd"])
    if line["unknown"] and line["known_cost_usd"]:
        cost = (
            f"unknown ({tables.counted(line['unknown'], 'call')}; the others {tables.dollars(line['known_cost_usd'])})"
        )
    counts = [tables.count(line[name]) for name in ("calls", "entities", "prompt_tokens", "completion_tokens")]
    return [*counts, cost]


def _counted(result: dict[str, Any], said: str, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        typer.echo(said)
