"""Write the text of ``enhancer.toml``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from enhancer.guessing.bfloat16 import has_bfloat16
from enhancer.guessing.roles import holds_reviews

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enhancer.guessing.leaving_out import LeftOut
    from enhancer.guessing.proposal import Proposal
    from enhancer.guessing.tables import TableHead

_MIXED = 'dtype = "mixed"             # this CPU has bfloat16: twice as fast, at cosines of .9999 to float32'
_NOT_MIXED = '# dtype = "mixed"           # twice as fast on a CPU with bfloat16, at cosines of .9999; not on this one'
_MAX_LISTED = 60
"""Columns that are left out of a text and listed."""
EMBEDDERS = {"minilm": None, "sentence-transformers": "BAAI/bge-small-en-v1.5", "bge": "BAAI/bge-small-en-v1.5"}
"""Embedders to choose from, best first, with the model to name."""
_WHAT = {
    "items": "table holds the items",
    "interactions": "table holds the interactions",
    "item_id": "column holds the ids of items",
    "items_id": "column of the items table holds the ids of items",
    "user_id": "column holds the ids of users",
    "users_id": "column of the users table holds the ids of users",
}


@dataclass(frozen=True)
class Choice:
    """Plugins and models to write into the file."""

    llm: str
    model: str | None
    api_base: str | None
    embedder: str
    store: str


def config_text(proposal: Proposal, choice: Choice, folder: Path) -> str:
    """Return the text of ``enhancer.toml``.

    Args:
        proposal: The tables and columns.
        choice: The plugins.
        folder: Folder of the file; paths in it are relative to this folder.
    """
    parts = [
        "# Settings of enhancer. Every key is optional; --set and ENHANCER_... variables override them.",
        "",
        *_data(proposal, folder),
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
        *([f"model = {_quote(name)}"] if (name := EMBEDDERS.get(choice.embedder)) else []),
        *([_MIXED if has_bfloat16() else _NOT_MIXED] if choice.embedder in EMBEDDERS else []),
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
        *_split(proposal, folder),
        "cold_items = 0.0            # share of items that are held out of training entirely",
        "seeds = 5",
        "# arms = [...]             # by default: none, the fuser above, raw text, and shuffled vectors (placebo)",
    ]
    return "\n".join(parts) + "\n"


def _temporal(proposal: Proposal) -> str:
    return " | temporal | temporal-global" if proposal.timestamp else ""


def _split(proposal: Proposal, folder: Path) -> list[str]:
    """Return the lines of the split: that of a public data set, if its test interactions are in a file of their own."""
    table = proposal.guess.interactions
    beside = [] if table is None or table.native is None else [table.path.with_name(name) for name in table.native.test]
    test = next((path for path in beside if path.is_file()), None)
    if test is None:
        return [f'split = "random"            # random | leave-one-out | files{_temporal(proposal)}']
    return [
        f'split = "files"             # random | leave-one-out | files{_temporal(proposal)}',
        f"test = {_path(test, folder)}",
    ]


def _data(proposal: Proposal, folder: Path) -> list[str]:
    found = proposal.guess
    lines = ["[data]"]
    if found.items is not None:
        lines += [f"items = {_path(found.items.path, folder)}", *_format("items", found.items)]
    else:
        lines.append(_undecided(proposal, "items", folder) or '# items = "items.csv"           # needed for profiles')
    if found.users is not None:
        lines += [f"users = {_path(found.users.path, folder)}", *_format("users", found.users)]
    else:
        lines.append('# users = "users.csv"')
    if found.interactions is not None:
        lines.append(f"interactions = {_path(found.interactions.path, folder)}")
        lines += [*_format("interactions", found.interactions), *_reviews(found.interactions, folder)]
    else:
        default = '# interactions = "ratings.csv"   # required by train, ablate and recommend'
        lines.append(_undecided(proposal, "interactions", folder) or default)
    if proposal.encoding != "utf-8":
        lines.append(f'encoding = "{proposal.encoding}"'.ljust(28) + "# of text that is not UTF-8")
    if proposal.plain_cells:
        lines.append("plain_cells = true          # lists as their elements, 32-bit numbers by their shortest digits")
    if proposal.html:
        lines.append('html = "strip"              # tags and entities become plain text; "keep" leaves them')
    return [*lines, "", "[data.columns]", *_columns(proposal, folder)]


def _reviews(interactions: TableHead, folder: Path) -> list[str]:
    """Return comments with the reviews that the interactions of a public data set come with."""
    if interactions.native is None or not holds_reviews(interactions):
        return []
    return [
        f"# reviews = {_path(interactions.path, folder)}   # for templates that show {{{{ reviews }}}}",
        f"# reviews_format = {_quote(interactions.native.name)}",
    ]


def _format(key: str, table: TableHead) -> list[str]:
    return [] if table.native is None else [f"{key}_format = {_quote(table.native.name)}"]


def _undecided(proposal: Proposal, key: str, folder: Path) -> str | None:
    """Return a comment with the candidates for a key that could not be told; None if there are none."""
    candidates = proposal.guess.undecided.get(key)
    if not candidates:
        return None
    if key in ("items", "interactions"):
        shown = [_path(type(folder)(name), folder) for name in candidates]
    else:
        shown = [_quote(name) for name in candidates]
    others = f"or {', '.join(shown[1:])}; " if len(shown) > 1 else ""
    return f"# {key} = {shown[0]}   # {others}init could not tell which {_WHAT[key]}"


def _columns(proposal: Proposal, folder: Path) -> list[str]:
    """Return the lines of [data.columns]; those that equal the defaults are comments."""
    found, title = proposal.guess, proposal.title
    rows = [
        ("item_id", found.item_id, "item_id"),
        ("items_id", found.items_id, None),
        ("user_id", found.user_id, "user_id"),
        ("users_id", found.users_id, None),
        ("rating", proposal.rating, "rating"),
        ("timestamp", proposal.timestamp, "timestamp"),
        ("title", title, title if title in ("title", "name") else None),
    ]
    lines = []
    for key, column, default in rows:
        if key in proposal.known:
            continue
        if column is not None:
            lines.append(f"{'# ' if column == default else ''}{key} = {_quote(column)}")
        elif comment := _undecided(proposal, key, folder):
            lines.append(comment)
    for key, value in proposal.known.items():
        shown = str(value).lower() if isinstance(value, bool) else _quote(str(value))
        remark = proposal.remarks.get(key)
        lines.append(f"{key} = {shown}" + (f"   # {remark}" if remark else ""))
    for key, table, names, without, own in (
        ("item_text", found.items, proposal.item_text, proposal.item_left_out, proposal.items_key),
        ("user_text", found.users, proposal.user_text, proposal.user_left_out, proposal.users_key),
    ):
        if table is not None:
            lines += _text(key, table, names, without, own)
    return lines


def _text(key: str, table: TableHead, names: list[str], without: Sequence[LeftOut], own: str | None) -> list[str]:
    """Return the line of the columns of a text, and comments on those that are left out."""
    line = f"{key} = [{', '.join(map(_quote, names))}]"
    if names == [column for column in table.columns if column != own]:
        return [f"# {line}   # by default every column but the id"]
    if not without:
        return [line]
    return [
        line,
        f"# Left out of {key}; to have a column back, add it above:",
        *(f"#   {_quote(each.column)}   {each.reason}" for each in without[:_MAX_LISTED]),
        *(
            [f"#   and {others:,} others: enhancer init --json lists them"]
            if (others := len(without) - _MAX_LISTED) > 0
            else []
        ),
    ]


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


def _quote(value: str) -> str:
    """Return a TOML string; JSON's escapes are valid in TOML."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _path(path: Path, folder: Path) -> str:
    """Return a table's path as a TOML string, relative to the folder if it is inside."""
    path, root = path.resolve(), folder.resolve()
    return _quote(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix())
