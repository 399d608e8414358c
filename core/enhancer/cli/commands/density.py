"""``density``: gain of the stored texts against what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import jsonlog
from enhancer.cli.formatting import count, dollars
from enhancer.cli.layout import prose, table
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, print_json, say, with_session
from enhancer.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.frontier.shares import Order

_ORDERS: tuple[Order, ...] = ("rarest", "commonest", "random")
_STRATA = ("all", "tail", "cold", "everything")


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("density")(with_session(density))


def density(
    session: Session,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, help="Training runs of each rung; by default two.")
    ] = None,
    shares: Annotated[
        str, typer.Option("--shares", metavar="LIST", help="Shares of the catalogue to try, beside all of it.")
    ] = "0.1,0.25,0.5",
    orders: Annotated[
        str, typer.Option("--orders", metavar="LIST", help="Which items come first: rarest, commonest, random.")
    ] = "rarest,commonest,random",
    as_json: JsonFlag = False,
) -> None:
    """Weigh what the stored texts bring against what they cost.

    Trains a ladder of rungs (nothing, raw text, each note, more and more notes, shares of the catalogue) on one split,
    and writes density.html with the frontier of gain against cost. Calls no LLM and writes nothing to the store.
    """
    chosen = _shares(shares), _orders(orders)
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        result = project.density(listener=view, seeds=seeds, shares=chosen[0], orders=chosen[1]).to_json()
    jsonlog.summary("density", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(render(result))
    say(f"wrote {project.root / 'density.html'}")


def render(result: Mapping[str, Any]) -> str:
    """Render the verdicts, and a table of all rungs. Takes what ``--json`` prints."""
    from enhancer.evaluation.frontier.wording import added_notes

    shown = [name for name in _STRATA if name in result["strata"]]
    parts = [prose(words) for words in result["verdict"].values()]
    head = ["rung", "cost", "texts", *(f"{result['metric']} on {name}" if name == "all" else name for name in shown)]
    rows = [_row(rung, shown, result["unit"]) for rung in result["frontier"]]
    parts.append(table(head, rows, right=[1, 2]))
    parts.append(prose("Gains over nothing ± half of the 95% interval over users and seeds; * on the frontier."))
    if (notes := added_notes(result)) is not None:
        parts.append(prose(notes))
    parts += [prose(f"left out: {each['rung']}: {each['reason']}") for each in result["left_out"]]
    if result["missing"] is not None and result["missing"]["to_generate"]:
        missing = result["missing"]
        parts.append(
            prose(
                f"Writing what is missing, {count(missing['to_generate'])} entities, would cost "
                f"{dollars(missing['cost_usd'])} (estimated)."
            )
        )
    if result["unit"] != "usd" and any(rung["records"] for rung in result["frontier"]):
        parts.append(
            prose("The price of these texts is not known: set input and output in [llm.price] to weigh dollars.")
        )
    return "\n\n".join(parts)


def _row(rung: Mapping[str, Any], shown: Sequence[str], unit: str) -> list[str]:
    cost = f"{count(rung['tokens'])} tokens" if unit == "tokens" else dollars(rung["cost_usd"])
    return [rung["rung"], cost, count(rung["records"]), *(_gain(rung["strata"][name]) for name in shown)]


def _gain(found: Mapping[str, Any]) -> str:
    mark = " *" if found["on_frontier"] else ""
    if found["interval"] is None:
        return f"-{mark}"
    low, high = found["interval"]
    return f"{found['gain']:+.4f} ± {(high - low) / 2:.4f}{mark}"


def _shares(text: str) -> list[float]:
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(float(part.removesuffix("%")) / (100 if part.endswith("%") else 1))
        except ValueError:
            raise ConfigError(f"--shares: {part!r} is no number", hint="such as --shares 0.25,0.5") from None
    return found


def _orders(text: str) -> list[Order]:
    found: list[Order] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        known = next((order for order in _ORDERS if order == part), None)
        if known is None:
            raise ConfigError(f"--orders: unknown order {part!r}", hint=did_you_mean(part, _ORDERS))
        found.append(known)
    return found
