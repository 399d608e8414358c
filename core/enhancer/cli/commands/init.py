"""``enhancer init``: write an ``enhancer.toml`` for the tables in a folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from enhancer.cli.commands.guess_tables import (
    Guess,
    TableHead,
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
_DTYPE = '# dtype = "mixed"               # twice as fast on a CPU with bfloat16, at cosines of .9999'
_EMBEDDERS = {"minilm": None, "sentence-transformers": "BAAI/bge-small-en-v1.5", "bge": "BAAI/bge-small-en-v1.5"}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("init")(init)


@dataclass(frozen=True)
class Choice:
    """Plugins and models to write into the file."""

    llm: str
    model: str | None
    api_base: str | None
    embedder: str
    store: str


def init(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with the tables.")] = Path(),
    items: Annotated[Path | None, typer.Option(help="Table of items and their text.")] = None,
    interactions: Annotated[Path | None, typer.Option(help="Table of interactions.")] = None,
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
    """Write an enhancer.toml for the tables in a folder."""
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}")
    target = folder / FILE
    if target.exists() and not force:
        raise ConfigError(f"{target} exists already", hint="pass --force to overwrite it")
    session: Session = context.find_root().obj
    found = guess(find_tables(folder), items, interactions)
    if is_terminal() and not yes:
        found = _asked(found, folder)
    if found.items is None:
        raise ConfigError(
            f"found no table of items in {folder.resolve()}",
            hint="pass it: enhancer init --items FILE --interactions FILE; a table needs a header and a column of ids",
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
        say(_next_steps(found, session.plugins, choice))


def _asked(found: Guess, folder: Path) -> Guess:
    """Ask the user to confirm or correct the tables."""

    def ask_path(label: str, table: TableHead | None) -> Path | None:
        default = str(table.path) if table else "-"
        given = typer.prompt(f"{label} (a file, or - for none)", default=default, err=True).strip()
        return None if given in ("", "-") else Path(given) if Path(given).is_file() else folder / given

    items = ask_path("table of items", found.items)
    interactions = ask_path("table of interactions", found.interactions)
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
    """Choose plugins: the one that was asked for, else the first preferred one that is available, else the first."""
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
        embedder=select("embedder", embedder, list(_EMBEDDERS)),
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


def _quote(value: str) -> str:
    """Return a TOML string; JSON's escapes are valid in TOML."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _path(table: TableHead, folder: Path) -> str:
    """Return a table's path as a TOML string, relative to the folder if it is inside."""
    path, root = table.path.resolve(), folder.resolve()
    return _quote(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix())


def render(found: Guess, choice: Choice, folder: Path) -> str:
    """Return the text of ``enhancer.toml``.

    Args:
        found: The tables; ``found.items`` must be set.
        choice: The plugins.
        folder: Folder of the file; paths in it are relative to this folder.
    """
    parts = [
        "# Settings of enhancer. Every key is optional; --set and ENHANCER_... variables override them.",
        "",
        *_data(found, folder),
        "",
        "[prompts.item]",
        'template = "item/v1"        # a bundled template, or the path of another',
        'source = "llm"              # llm | text (embed the raw text, no LLM) | none',
        "# Several notes say more than one profile, and each is embedded by itself; there are sets for films, books,",
        '# music, games, shop and news, and item/v2 for anything else. With them, [embedder] input is "*".',
        '# template = "item/v2"',
        '# aspects = ["content", "character", "audience", "making"]',
        '# knowledge = "open"        # closed: from the text alone | open: what the model knows, too | both',
        "",
        "# A user's vector is the mean of the vectors of their training items. To have the LLM write user profiles:",
        "# [prompts.user]",
        '# template = "user/v1"',
        '# source = "llm"',
        "",
        *_llm(choice),
        "",
        "[embedder]",
        f"use = {_quote(choice.embedder)}",
        *([f"model = {_quote(name)}"] if (name := _EMBEDDERS.get(choice.embedder)) else []),
        *([_DTYPE] if choice.embedder in _EMBEDDERS else []),
        '# input = ["profile", "text"]   # vectors side by side; by default the profile, with aspects "*"',
        "",
        "[store]",
        f"use = {_quote(choice.store)}",
        'path = "features"',
        "",
        "[backbone]",
        'use = "auto"                # the best on validation; or lightgcn, als, ease, popularity, fm',
        "",
        "[fuser]",
        'use = "prior"               # or concat, align, adapter, generate, semantic, none',
        "",
        "[evaluation]",
        'metrics = ["ndcg@10", "recall@20"]',
        f'split = "random"            # random | leave-one-out | files{_temporal(found)}',
        "cold_items = 0.0            # share of items that are held out of training entirely",
        "seeds = 5",
        "# arms = [...]             # by default: none, the fuser above, raw text, and shuffled vectors (placebo)",
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
        lines.append('# interactions = "ratings.csv"   # required by train, ablate and recommend')
    return [*lines, "", "[data.columns]", *_columns(found)]


def _columns(found: Guess) -> list[str]:
    """Return the lines of [data.columns]; those that equal the defaults are comments."""
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
    line = f"item_text = [{', '.join(map(_quote, worded or text))}]"
    dropped = worded and len(worded) < len(text)
    return [*lines, line if dropped else f"# {line}   # by default every column but the id"]


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
        "# items_per_request = 1     # several items per call cost less",
        "# requests_per_minute = 500",
        "# max_cost = 5.0            # USD; a hard limit",
    ]
    host = urlsplit(choice.api_base or "").hostname
    if host in ("127.0.0.1", "localhost", "::1"):
        lines += [
            "",
            "[llm.price]                 # a local server: calls are free",
            "input = 0.0",
            "output = 0.0",
        ]
    else:
        lines += ["", "# [llm.price]               # USD per million tokens, if the price of the model is not known"]
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


def _next_steps(found: Guess, manager: PluginManager, choice: Choice) -> str:
    """Return the tables that were found, the libraries that are missing, and the commands to run next."""
    lines = []
    for name, table in (("items", found.items), ("users", found.users), ("interactions", found.interactions)):
        if table is not None:
            lines.append(f"  {name}: {table.path} ({', '.join(table.columns)})")
    for kind, use in (("llm", choice.llm), ("embedder", choice.embedder)):
        try:
            manager.get(kind, use)
        except EnhancerError as error:
            lines.append(f"  missing: {error}")
    lines.append("next: `enhancer doctor` checks the setup, `enhancer plan` estimates the cost")
    return "\n".join(lines)
