"""``enhancer export``: write factors and vectors to other systems."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli.failures import PARTIAL
from enhancer.cli.formatting import counted
from enhancer.cli.session import JsonFlag, Session, print_json, say, with_session
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export")(with_session(export))


def export(
    session: Session,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="Exporter: duckdb, faiss, lancedb, pgvector, qdrant, or a plugin's.")
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="File, folder or URL.")],
    table: Annotated[
        str | None,
        typer.Option(
            "--table",
            metavar="TABLE",
            help="items or users (factors of the artifact), item-vectors or user-vectors (stored vectors).",
            show_default="the first that KIND takes",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the table or collection.", show_default="that of TABLE")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", metavar="KEY=VALUE", help="Option of the exporter; repeatable."),
    ] = None,
    artifact: Annotated[Path | None, typer.Option("--artifact", help="Folder of the artifact.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    payload: Annotated[
        bool, typer.Option("--payload/--no-payload", help="Write titles, profiles and tags, too.")
    ] = True,
    k: Annotated[int, typer.Option("-k", "--count", min=1, help="Rows that each query of the check asks for.")] = 10,
    sample: Annotated[int, typer.Option("--sample", min=0, help="Queries of the check; 0 for none.")] = 200,
    min_recall: Annotated[
        float, typer.Option("--min-recall", min=0, max=1, help="A recall below this ends with exit code 3.")
    ] = 0.9,
    as_json: JsonFlag = False,
) -> None:
    """Write factors or vectors to another system, and compare what it finds with exact search.

    The target holds the whole table or nothing of it. An earlier export is replaced with --force, and anything else is
    never replaced. `enhancer store export` writes records to files, and `enhancer index` writes enhancer's own index.
    """
    with session.opened() as project:
        report = project.export(
            kind,
            target,
            table=table,
            name=name,
            options=_parsed(options or ()),
            replace=force,
            payload=payload,
            artifact=artifact,
            k=k,
            sample=sample,
        )
    if as_json:
        print_json(report.to_json())
    else:
        rows = f"{counted(report.rows, 'row')} of {report.table}, {counted(report.width, 'dimension')}"
        typer.echo(f"{rows}, in {report.name} of {report.target} ({report.exporter}), {report.seconds:.1f} s")
        if report.recall is not None:
            typer.echo(
                f"recall@{report.k} against exact search, over {counted(report.queries, 'query')}: {report.recall:.4f}"
            )
    if report.recall is not None and report.recall < min_recall:
        say(
            f"recall@{report.k} is {report.recall:.4f}, below {min_recall:g}: all rows are there, but searches miss"
            " some of the best; raise the search width of the index, or export without one"
        )
        raise typer.Exit(PARTIAL)


def _parsed(given: Iterable[str]) -> dict[str, Any]:
    """Return the options; a value is a number or a boolean where it looks like one of TOML."""
    import tomllib

    found: dict[str, Any] = {}
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise ConfigError(f"--option takes KEY=VALUE, not {one!r}")
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = value
    return found
