"""``enhancer store``: looks after the feature store."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from enhancer.cli import tables
from enhancer.cli.session import JsonFlag, Session, print_json, say, with_session
from enhancer.errors import DataError

if TYPE_CHECKING:
    from enhancer.contracts import StoreStats
    from enhancer.contracts.record import Kind
    from enhancer.harness.journal import CostLine

KindFlag = Annotated[Literal["item", "user"], typer.Option("--kind", help="item or user.")]
AspectFlag = Annotated[str, typer.Option("--aspect", help='Which profile: empty for the LLM\'s, "text" for raw text.')]
_BATCH = 512
"""Ids in one call of the store."""
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
    group.command("gc")(with_session(gc))
    group.command("quarantine")(with_session(quarantine))
    group.command("costs")(with_session(costs))
    app.add_typer(group, name="store")


def stats(session: Session, as_json: JsonFlag = False) -> None:
    """Count what is there."""
    with session.opened() as project:
        result = project.store.stats()
    if as_json:
        print_json(asdict(result))
    else:
        typer.echo(_stats(result))


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
    from enhancer.features.interchange import record_to_json

    fields = record_to_json(record)
    if as_json:
        print_json(fields)
        return
    numbers = [f"{value:.4f}" for value in fields["vector"][:_SHOWN]]
    more = ", …" if len(fields["vector"]) > _SHOWN else ""
    fields["vector"] = f"[{', '.join(numbers)}{more}] ({len(fields['vector'])} numbers)"
    fields["tags"] = ", ".join(fields["tags"])
    typer.echo(tables.pairs([(name, "-" if value is None else str(value)) for name, value in fields.items()]))


def export(
    session: Session,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Its ending names the format: .jsonl, .parquet, .safetensors, .itememb."),
    ],
    as_json: JsonFlag = False,
) -> None:
    """Write every record to a file."""
    from enhancer.features.interchange import export_records

    with session.opened() as project:
        written = export_records(project.store, file)
    _counted({"file": str(file), "records": written}, f"{written:,} records written to {file}", as_json)


def import_(
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `store export` wrote.")],
    as_json: JsonFlag = False,
) -> None:
    """Read records, or profiles made elsewhere, from a file.

    A row needs an id, a profile, and what the template's schema asks for (the bundled ones: tags). It replaces the
    record of equal kind, id and aspect. What has no vector of this project's embedder is embedded.
    """
    from enhancer.features.interchange import import_records

    with session.opened() as project:
        adoption = project.pipeline.adoption()
        report = import_records(
            project.store, file, project.embedder, validate=adoption.validate, complete=adoption.complete
        )
    said = f"{report.records:,} records read from {file}, {report.embedded:,} of them embedded here"
    _counted({"file": str(file), **report.to_json()}, said, as_json)


def verify(session: Session, as_json: JsonFlag = False) -> None:
    """Read everything and list every fault.

    Exit code 1 if there is one.
    """
    with session.opened() as project:
        faults = project.store.verify()
        records = project.store.stats().records
    if as_json:
        print_json({"records": records, "faults": [asdict(fault) for fault in faults]})
    elif faults:
        typer.echo(tables.table(["where", "what"], [[fault.where, fault.what] for fault in faults]))
    else:
        typer.echo(f"{records:,} records, no fault")
    if faults:
        say(f"{len(faults)} faults; delete what is damaged and run `enhancer generate`: paid completions are kept")
        raise typer.Exit(1)


def gc(session: Session, as_json: JsonFlag = False) -> None:
    """Remove records of entities that are gone.

    That is: of those that the tables no longer hold. What was paid for stays in the journal, so an entity that comes
    back costs nothing.
    """
    with session.opened() as project:
        gone: dict[tuple[Kind, str], list[str]] = {}
        for kind, id_, aspect in project.pipeline.vanished():
            gone.setdefault((kind, aspect), []).append(id_)
        removed = 0
        for (kind, aspect), ids in gone.items():
            for start in range(0, len(ids), _BATCH):
                removed += project.store.delete(ids[start : start + _BATCH], kind=kind, aspect=aspect)
    _counted({"removed": removed}, f"{removed:,} records removed", as_json)


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
    from enhancer.harness import FILE_NAME, Journal

    with session.opened() as project:
        directory = project.store.directory
        found: list[Any] = []
        if (directory / FILE_NAME).exists():
            with Journal(directory) as journal:
                found = [_cost(line) for line in journal.costs(by)]
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
        cost = f"unknown ({tables.count(line['unknown'])} calls; the others {tables.dollars(line['known_cost_usd'])})"
    counts = [tables.count(line[name]) for name in ("calls", "entities", "prompt_tokens", "completion_tokens")]
    return [*counts, cost]


def _counted(result: dict[str, Any], said: str, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        typer.echo(said)
