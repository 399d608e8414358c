"""``enhancer init``: write an ``enhancer.toml`` for the tables in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli.session import JsonFlag, Session, YesFlag, is_terminal, print_json, say
from enhancer.errors import ConfigError, EnhancerError
from enhancer.files import atomic_replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.guessing.config_text import Choice
    from enhancer.guessing.proposal import Proposal
    from enhancer.guessing.roles import Given
    from enhancer.guessing.tables import TableHead
    from enhancer.plugin_host import PluginManager

FILE = "enhancer.toml"
_MAX_LISTED = 40
"""Columns that a line on the terminal names."""
_MODELS = {"litellm": "openai/gpt-4o-mini", "openai": "gpt-4o-mini"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with the tables.")] = Path(),
    items: Annotated[Path | None, typer.Option(help="Table of items and their text.")] = None,
    users: Annotated[Path | None, typer.Option(help="Table of users.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="Table of interactions.")] = None,
    item_id: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of item ids.")] = None,
    user_id: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column of user ids.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Column of the items' text; repeatable.")
    ] = None,
    llm: Annotated[str | None, typer.Option(help="LLM provider; `enhancer plugins` lists them.")] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model at the provider.")] = None,
    api_base: Annotated[
        str | None, typer.Option(help="URL of an OpenAI-compatible server, such as a local one.")
    ] = None,
    embedder: Annotated[str | None, typer.Option(help="Embedder; `enhancer plugins` lists them.")] = None,
    store: Annotated[str, typer.Option(help="Feature store; `enhancer plugins` lists them.")] = "lmdb",
    yes: YesFlag = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing enhancer.toml.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write an enhancer.toml for the tables in a folder.

    Reads at most 2,000,000 interactions and 100,000 items and users. What cannot be told from names and values is left
    open: the file has the candidates as comments.
    """
    from enhancer.guessing.config_text import config_text
    from enhancer.guessing.proposal import propose
    from enhancer.guessing.roles import Given
    from enhancer.guessing.tables import find_tables

    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    target = folder / FILE
    if target.exists() and not force:
        raise ConfigError(f"{target} exists already", hint="pass --force to overwrite it")
    session: Session = context.find_root().obj
    given = Given(items, users, interactions, item_id, user_id, tuple(text or ()))
    tables = find_tables(folder)
    proposal = propose(tables.tables, given)
    if is_terminal() and not yes:
        proposal = _asked(proposal, tables.tables, given, folder)
    found = proposal.guess
    notes = [*tables.notes, *found.notes, *_open_questions(proposal)]
    if found.items is None and found.interactions is None and not found.undecided:
        for note in notes:
            say(f"note: {note}")
        raise ConfigError(
            f"found no table of items in {folder.resolve()}",
            hint="pass it: enhancer init --items FILE --interactions FILE; a table needs a header and a column of ids",
        )
    choice = _choose(session.plugins, llm=llm, model=model, api_base=api_base, embedder=embedder, store=store)
    _write(target, config_text(proposal, choice, folder))
    for note in notes:
        say(f"note: {note}")
    if as_json:
        print_json(_summary(target, proposal, choice, notes))
    else:
        typer.echo(f"wrote {target}")
        say(_next_steps(proposal, session.plugins, choice))


def _asked(proposal: Proposal, tables: list[TableHead], given: Given, folder: Path) -> Proposal:
    """Ask the user to confirm or correct the tables."""
    from enhancer.guessing.proposal import propose

    def ask_path(label: str, table: TableHead | None) -> Path | None:
        default = str(table.path) if table else "-"
        answer = typer.prompt(f"{label} (a file, or - for none)", default=default, err=True).strip()
        return None if answer in ("", "-") else Path(answer) if Path(answer).is_file() else folder / answer

    found = proposal.guess
    items = ask_path("table of items", found.items)
    interactions = ask_path("table of interactions", found.interactions)
    if (items, interactions) == tuple(table and table.path for table in (found.items, found.interactions)):
        return proposal
    if interactions is None:
        tables = [table for table in tables if found.interactions is None or table.path != found.interactions.path]
    return propose(tables, replace(given, items=items, interactions=interactions))


def _open_questions(proposal: Proposal) -> list[str]:
    """Return a sentence on each thing that could not be told."""
    flags = {"items": "--items", "interactions": "--interactions", "user_id": "--user-id", "users_id": "--user-id"}
    asked = [
        f"cannot tell {key}: it may be {', '.join(candidates)}; uncomment it in the file, or pass"
        f" {flags.get(key, '--item-id')}"
        for key, candidates in proposal.guess.undecided.items()
    ]
    if proposal.guess.items is None and "items" not in proposal.guess.undecided:
        asked.append("found no table of items, which profiles need; pass --items")
    return asked


def _choose(
    manager: PluginManager,
    *,
    llm: str | None,
    model: str | None,
    api_base: str | None,
    embedder: str | None,
    store: str,
) -> Choice:
    """Choose plugins: the one that was asked for, else the first preferred one that is available, else the first."""
    from enhancer.guessing.config_text import EMBEDDERS, Choice

    lines = manager.listing()

    def select(kind: str, wanted: str | None, preferred: list[str]) -> str:
        if wanted is not None:
            known = {line.name for line in lines if line.kind == kind}
            if wanted.rpartition(":")[2] not in known:
                manager.get(kind, wanted)  # raises an error that suggests the nearest name
            return wanted
        available = [
            name for name in preferred for line in lines if (line.kind, line.name, line.status) == (kind, name, "ok")
        ]
        return [*available, *preferred][0]

    provider = select("llm", llm, ["openai", "litellm"] if api_base else ["litellm", "openai"])
    return Choice(
        llm=provider,
        model=model or _MODELS.get(provider),
        api_base=api_base,
        embedder=select("embedder", embedder, list(EMBEDDERS)),
        store=select("store", store, ["lmdb"]),
    )


def _write(target: Path, text: str) -> None:
    """Write the file atomically, and only if it is a valid configuration."""
    from enhancer.config import load_settings

    try:
        with atomic_replace(target) as draft:
            draft.write_text(text, encoding="utf-8")
            load_settings(draft, environ={})
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from None


def _summary(target: Path, proposal: Proposal, choice: Choice, notes: list[str]) -> dict[str, Any]:
    found = proposal.guess
    tables = {"items": found.items, "users": found.users, "interactions": found.interactions}
    others = {"items_id": found.items_id, "users_id": found.users_id}
    return {
        "path": str(target),
        **{name: str(table.path) if table else None for name, table in tables.items()},
        "columns": {
            "item_id": found.item_id,
            "user_id": found.user_id,
            **{key: column for key, column in others.items() if column},
        },
        "left_out": [
            {"table": table, "column": each.column, "reason": each.reason}
            for table, columns in (("items", proposal.item_left_out), ("users", proposal.user_left_out))
            for each in columns
        ],
        "undecided": found.undecided,
        "llm": choice.llm,
        "embedder": choice.embedder,
        "store": choice.store,
        "notes": notes,
    }


def _listed(names: Sequence[str]) -> str:
    """Return names for a line of text; of very many the first."""
    if len(names) <= _MAX_LISTED:
        return ", ".join(names)
    return f"{', '.join(names[:_MAX_LISTED])} and {len(names) - _MAX_LISTED:,} others"


def _next_steps(proposal: Proposal, manager: PluginManager, choice: Choice) -> str:
    """Return the tables, the columns left out of texts, missing libraries, and the commands to run next."""
    found = proposal.guess
    lines = []
    for name, table in (("items", found.items), ("users", found.users), ("interactions", found.interactions)):
        if table is not None:
            lines.append(f"  {name}: {table.path} ({_listed(table.columns)})")
    for key, columns in (("item_text", proposal.item_left_out), ("user_text", proposal.user_left_out)):
        if columns:
            lines.append(f"  left out of {key}:")
            reasons = dict.fromkeys(each.reason for each in columns)
            lines += [
                f"    {reason}: {_listed([c.column for c in columns if c.reason == reason])}" for reason in reasons
            ]
    for kind, use in (("llm", choice.llm), ("embedder", choice.embedder)):
        try:
            manager.get(kind, use)
        except EnhancerError as error:
            lines.append(f"  missing: {error}")
    lines.append("next: `enhancer doctor` checks the setup, `enhancer plan` estimates the cost")
    return "\n".join(lines)
