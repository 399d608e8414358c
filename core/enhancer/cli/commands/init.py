"""``enhancer init``: an ``enhancer.toml`` for the tables in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from enhancer.cli.commands.guess_tables import (
    Guess,
    Table,
    find_tables,
    guess,
    rating_column,
    time_column,
    title_column,
)
from enhancer.cli.session import JsonFlag, Session, YesFlag, is_terminal, print_json, say
from enhancer.errors import ConfigError, EnhancerError
from enhancer.files import atomic_replace

if TYPE_CHECKING:
    from enhancer.plugin_host import PluginManager

FILE = "enhancer.toml"
_MODELS = {"litellm": "openai/gpt-4o-mini", "openai": "gpt-4o-mini"}
_EMBEDDERS = {"minilm": None, "sentence-transformers": "BAAI/bge-small-en-v1.5", "bge": "BAAI/bge-small-en-v1.5"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


@dataclass(frozen=True)
class Choice:
    """What goes into the file beside the tables."""

    llm: str
    model: str | None
    api_base: str | None
    embedder: str
    store: str


def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the tables are.")] = Path(),
    items: Annotated[Path | None, typer.Option(help="Items and their text.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="Who touched what.")] = None,
    llm: Annotated[str | None, typer.Option(help="LLM provider; see `enhancer plugins`.")] = None,
    model: Annotated[str | None, typer.Option(help="Model, as the provider names it.")] = None,
    api_base: Annotated[str | None, typer.Option(help="An OpenAI-compatible server, such as a local one.")] = None,
    embedder: Annotated[str | None, typer.Option(help="Embedder; see `enhancer plugins`.")] = None,
    store: Annotated[str, typer.Option(help="Feature store; see `enhancer plugins`.")] = "lmdb",
    yes: YesFlag = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an enhancer.toml.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write an enhancer.toml for the tables in a folder."""
    if not folder.is_dir():
        raise ConfigError(f"no folder {folder}")
    target = folder / FILE
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already", hint="pass --force to overwrite it")
    session: Session = context.find_root().obj
    found = guess(find_tables(folder), items, interactions)
    if is_terminal() and not yes:
        found = _asked(found, folder)
    if found.items is None:
        raise ConfigError(
            f"no table of items found in {folder.resolve()}",
            hint="name it: enhancer init --items FILE --interactions FILE; a table has a header and a column of ids",
        )
    choice = _choose(session.plugins, llm=llm, model=model, api_base=api_base, embedder=embedder, store=store)
    text = render(found, choice, folder)
    _write(target, text)
    for note in found.notes:
        say(f"note: {note}")
    if as_json:
        print_json(_summary(target, found, choice))
    else:
        typer.echo(f"wrote {target}")
        say(_told(found, session.plugins, choice))


def _asked(found: Guess, folder: Path) -> Guess:
    """Let the person at the terminal confirm or correct the tables."""

    def answer(what: str, table: Table | None) -> Path | None:
        default = str(table.path) if table else ""
        given = typer.prompt(f"{what} (a file, or - for none)", default=default or "-", err=True).strip()
        return None if given in ("", "-") else Path(given) if Path(given).is_file() else folder / given

    items = answer("table of items", found.items)
    interactions = answer("table of interactions", found.interactions)
    tables = find_tables(folder)
    if interactions is None:
        tables = [table for table in tables if found.interactions is None or table.path != found.interactions.path]
    return guess(tables, items, interactions)


def _choose(
    manager: PluginManager,
    *,
    llm: str | None,
    model: str | None,
    api_base: str | None,
    embedder: str | None,
    store: str,
) -> Choice:
    """Settle on plugins: what was asked for, else the first that works here, else the first."""
    lines = manager.listing()

    def settle(kind: str, wanted: str | None, preferred: list[str]) -> str:
        if wanted is not None:
            known = {line.name for line in lines if line.kind == kind}
            if wanted.rpartition(":")[2] not in known:
                manager.get(kind, wanted)  # raises, with the nearest name
            return wanted
        works = [
            name for name in preferred for line in lines if (line.kind, line.name, line.status) == (kind, name, "ok")
        ]
        return [*works, *preferred][0]

    provider = settle("llm", llm, ["openai", "litellm"] if api_base else ["litellm", "openai"])
    return Choice(
        llm=provider,
        model=model or _MODELS.get(provider),
        api_base=api_base,
        embedder=settle("embedder", embedder, list(_EMBEDDERS)),
        store=settle("store", store, ["lmdb"]),
    )


def _write(target: Path, text: str) -> None:
    """Write the file whole, and only if it is one that enhancer reads."""
    from enhancer.config import load_settings

    try:
        with atomic_replace(target) as draft:
            draft.write_text(text, encoding="utf-8")
            load_settings(draft, environ={})
    except OSError as error:
        raise ConfigError(f"cannot write {target}: {error.strerror}") from None


def _quote(value: str) -> str:
    """A TOML string; JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _path(table: Table, folder: Path) -> str:
    """As written in the file: relative to it where possible."""
    path, root = table.path.resolve(), folder.resolve()
    return _quote(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix())


def render(found: Guess, choice: Choice, folder: Path) -> str:
    """The text of the file.

    Args:
        found: The tables; ``found.items`` is there.
        choice: The plugins.
        folder: Where the file will be: paths in it are relative to that.
    """
    parts = [
        "# Settings of enhancer. Every key is optional; --set and ENHANCER_… variables override.",
        "",
        *_data(found, folder),
        "",
        "[prompts.item]",
        'template = "item/v1"        # a bundled template, or the path of your own',
        'source = "llm"              # llm | text (embed the raw text, no LLM) | none',
        "",
        "# Users are the mean of the items they trained on. For profiles of users, written by the LLM:",
        "# [prompts.user]",
        '# template = "user/v1"',
        '# source = "llm"',
        "",
        *_llm(choice),
        "",
        "[embedder]",
        f"use = {_quote(choice.embedder)}",
        *([f"model = {_quote(name)}"] if (name := _EMBEDDERS.get(choice.embedder)) else []),
        'input = ["profile"]         # profile | text, or both: vectors side by side',
        "",
        "[store]",
        f"use = {_quote(choice.store)}",
        'path = "features"',
        "",
        "[backbone]",
        'use = "lightgcn"',
        "",
        "[fuser]",
        'use = "align"',
        "",
        "[evaluation]",
        'metrics = ["ndcg@10", "recall@20"]',
        f'split = "random"            # random | leave-one-out | files{_temporal(found)}',
        "cold_items = 0.0            # share of items held out of training altogether",
        "seeds = 5",
        'arms = ["none", "concat", "align", "text", "placebo"]',
    ]
    return "\n".join(parts) + "\n"


def _temporal(found: Guess) -> str:
    return " | temporal | temporal-global" if found.interactions and time_column(found.interactions) else ""


def _data(found: Guess, folder: Path) -> list[str]:
    assert found.items is not None
    lines = ["[data]", f"items = {_path(found.items, folder)}"]
    lines.append(f"users = {_path(found.users, folder)}" if found.users else '# users = "users.csv"')
    if found.interactions:
        lines.append(f"interactions = {_path(found.interactions, folder)}")
    else:
        lines.append('# interactions = "ratings.csv"   # needed by train, ablate and recommend')
    return [*lines, "", "[data.columns]", *_columns(found)]


def _columns(found: Guess) -> list[str]:
    """The columns that differ from the defaults; the others as comments."""
    assert found.items is not None
    items, interactions = found.items, found.interactions
    rating = rating_column(interactions) if interactions else None
    seconds = time_column(interactions) if interactions else None
    title = title_column(items)
    rows = [
        ("item_id", found.item_id, "item_id"),
        ("items_id", found.items_id, None),
        ("user_id", found.user_id, "user_id"),
        ("rating", rating, "rating"),
        ("timestamp", seconds, "timestamp"),
        ("title", title, title if title in ("title", "name") else None),
    ]
    lines = []
    for key, column, default in rows:
        if column is not None:
            lines.append(f"{'# ' if column == default else ''}{key} = {_quote(column)}")
    text = [column for column in items.columns if column != (found.items_id or found.item_id)]
    worded = [column for column in text if not items.wordless(column)]
    said = f"item_text = [{', '.join(map(_quote, worded or text))}]"
    dropped = worded and len(worded) < len(text)
    return [*lines, said if dropped else f"# {said}   # by default every column but the id"]


def _llm(choice: Choice) -> list[str]:
    lines = ["[llm]", f"use = {_quote(choice.llm)}"]
    if choice.model:
        lines.append(f"model = {_quote(choice.model)}")
    lines.append(
        f"api_base = {_quote(choice.api_base)}" if choice.api_base else '# api_base = "http://127.0.0.1:8000/v1"'
    )
    lines += [
        "temperature = 0.0",
        "concurrency = 32",
        "# items_per_request = 1     # several entities a call: cheaper",
        "# requests_per_minute = 500",
        "# max_cost = 5.0            # USD; a hard cap",
    ]
    host = urlsplit(choice.api_base or "").hostname
    if host in ("127.0.0.1", "localhost", "::1"):
        lines += [
            "",
            "[llm.price]                 # a server of your own: nothing a call",
            "input = 0.0",
            "output = 0.0",
        ]
    else:
        lines += ["", "# [llm.price]               # USD per million tokens, where the model's price is not known"]
        lines += ["# input = 0.15", "# output = 0.60"]
    return lines


def _summary(target: Path, found: Guess, choice: Choice) -> dict[str, Any]:
    tables = {"items": found.items, "users": found.users, "interactions": found.interactions}
    return {
        "path": str(target),
        **{name: str(table.path) if table else None for name, table in tables.items()},
        "columns": {
            "item_id": found.item_id,
            "user_id": found.user_id,
            **({"items_id": found.items_id} if found.items_id else {}),
        },
        "llm": choice.llm,
        "embedder": choice.embedder,
        "store": choice.store,
        "notes": found.notes,
    }


def _told(found: Guess, manager: PluginManager, choice: Choice) -> str:
    """What was found, what is still missing, and what to run next."""
    lines = []
    for name, table in (("items", found.items), ("users", found.users), ("interactions", found.interactions)):
        if table is not None:
            lines.append(f"  {name}: {table.path} ({', '.join(table.columns)})")
    for kind, use in (("llm", choice.llm), ("embedder", choice.embedder)):
        try:
            manager.get(kind, use)
        except EnhancerError as error:
            lines.append(f"  missing: {error}")
    lines.append("next: `enhancer doctor` checks the setup, `enhancer plan` shows what it would cost")
    return "\n".join(lines)
