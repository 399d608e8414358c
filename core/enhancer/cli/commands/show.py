"""``show`` and ``browse``: everything that is known about items and users, on a screen and as local pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from enhancer.cli.formatting import count, counted, dollars
from enhancer.cli.layout import pairs, prose, table
from enhancer.cli.session import JsonFlag, Session, is_terminal, print_json, say, with_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHORT = 400
"""Characters of a text, a prompt and an answer that are shown without --full."""


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("show")(with_session(show))
    app.command("browse")(with_session(browse))


def show(
    session: Session,
    entity: Annotated[str, typer.Argument(metavar="ITEM", help="Id or title of an item, or id of a user.")],
    kind: Annotated[Literal["item", "user"], typer.Option("--kind", help="item or user.")] = "item",
    k: Annotated[int, typer.Option("-k", "--count", min=1, help="Number of neighbours of each sort.")] = 5,
    full: Annotated[
        bool, typer.Option("--full", help="Show the text, the prompt and the answers in full length.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show what is known about one item: notes, tags, prompt, answers, cost, and neighbours by meaning and behaviour.

    Calls no LLM.
    """
    with session.opened() as project:
        found = project.show(entity, kind=kind, neighbours=k).to_json()
    if as_json:
        print_json(found)
    else:
        typer.echo(render(found, None if full else _SHORT))


def browse(
    session: Session,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 lets the system choose.")] = 8765,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in the browser of this machine.")
    ] = True,
) -> None:
    """Show items, users and quarantine as pages on this machine, until Ctrl-C.

    Calls no LLM and writes nothing. Other machines cannot reach the pages.
    """
    import webbrowser

    from enhancer.project.browsing.pages import Pages
    from enhancer.project.browsing.server import make_server

    with session.opened() as project:
        server = make_server(Pages(project.parts, project.root.resolve().name), port)
        address = f"http://127.0.0.1:{server.server_address[1]}/"
        say(f"{address} shows the items; Ctrl-C stops")
        if open_browser and is_terminal():
            webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            say("stopped")
        finally:
            server.server_close()


def render(found: Mapping[str, Any], longest: int | None) -> str:
    """Render an entity.

    Args:
        found: Output of ``enhancer show --json``.
        longest: Largest number of characters of a text, a prompt and an answer; None for all.
    """
    name = f"{found['kind']} {found['id']}"
    blocks = [prose(f"{name}: {found['title']}" if found["title"] else name), _facts(found)]
    blocks += [_note(note) for note in found["notes"]]
    blocks += [
        _block(f"in quarantine, {one['note']}: {one['reason']}", one["raw"], longest) for one in found["quarantined"]
    ]
    if found["text"]:
        blocks.append(_block("text", found["text"], longest))
    if found["prompt"]:
        blocks.append(_block("prompt", found["prompt"], longest))
        if longest is None:
            blocks.append(_block("system", found["system"], None))
    blocks += [_block(_about(answer), answer["text"], longest) for answer in found["answers"]]
    near = [("by meaning", found["by_meaning"]), ("by behaviour", found["by_behaviour"])]
    blocks += [_neighbours(title, rows) for title, rows in near if rows]
    return "\n\n".join(blocks)


def _facts(found: Mapping[str, Any]) -> str:
    rows = []
    if found["interactions"] is not None:
        rows.append(("training interactions", count(found["interactions"])))
    if found["text"] is None:
        rows.append(("table", "has no such row"))
    if found["notes"]:
        rows.append(("cost of its notes", dollars(found["cost_usd"])))
    else:
        rows.append(("notes", "none is stored"))
    return pairs(rows)


def _note(note: Mapping[str, Any]) -> str:
    about = [note["model"] or "made elsewhere", note["prompt_version"]]
    if note["tokens"] is not None:
        about.append(counted(note["tokens"], "token"))
    if note["cost_usd"] is not None:
        about.append(dollars(note["cost_usd"]))
    about.append(note["generated_at"])
    if note["confidence"]:
        about.append(f"confidence {note['confidence']}")
    if note["current"] is False:
        about.append("stale: its text, prompt or model has changed")
    lines = [
        prose(f"{note['name']}  ({', '.join(filter(None, about))})", indent=4),
        prose(note["text"], "  ", piped=100),
    ]
    if note["tags"]:
        lines.append(prose(f"tags: {', '.join(note['tags'])}", "  ", piped=100))
    return "\n".join(lines)


def _about(answer: Mapping[str, Any]) -> str:
    tokens = [answer["prompt_tokens"], answer["completion_tokens"]]
    used = [] if None in tokens else [f"{tokens[0]:,} + {tokens[1]:,} tokens"]
    price = [] if answer["cost_usd"] is None else [dollars(answer["cost_usd"])]
    ending = [] if answer["finish_reason"] == "stop" else [f"ended by {answer['finish_reason']}"]
    told = ", ".join([answer["model"], *used, *price, answer["at"], *ending])
    return f"answer for {', '.join(answer['notes'])}  ({told})"


def _block(title: str, text: str, longest: int | None) -> str:
    shown = text if longest is None or len(text) <= longest else f"{text[:longest].rstrip()} [...]"
    lines = [prose(line, "  ", piped=100) for line in shown.splitlines() if line.strip()]
    return "\n".join([prose(title, indent=4), *lines])


def _neighbours(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [[row["id"], row["title"] or "", f"{row['similarity']:.3f}"] for row in rows]
    return table([f"nearest {title}", "title", "similarity"], cells, right=[2])
