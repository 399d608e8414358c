"""``store costs``: what the answered calls have cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from enhancer.cli.formatting import count, counted, dollars
from enhancer.cli.layout import table
from enhancer.cli.session import JsonFlag, Session, print_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enhancer.harness.journal.journal import CostLine
    from enhancer.project import Project


def costs(
    session: Session,
    by: Annotated[Literal["day", "model", "template"], typer.Option("--by", help="How calls are grouped.")] = "day",
    as_json: JsonFlag = False,
) -> None:
    """Sum the tokens and the cost of all answered calls, to the LLM and to a remote embedder.

    Grouped by day (UTC), model or template, with a total. Requests without an answer are counted beside the calls. If
    the price of a call is not known, neither is the sum; the known part is then shown with the number of calls that are
    missing from it.
    """
    with session.opened() as project:
        lines = [_cost(line) for line in paid_calls(project, by)]
    total = {name: sum(line[name] for line in lines) for name in _SUMMED}
    total["cost_usd"] = total["known_cost_usd"] if not total["unknown"] else None
    if as_json:
        print_json({"by": by, "lines": lines, "total": total})
    elif lines:
        names = {"calls": "calls", "failed": "without answer", "entities": "entities", "texts": "texts embedded"}
        names = {name: shown for name, shown in names.items() if total[name] or name in ("calls", "entities")}
        head = [by, *names.values(), "prompt tokens", "completion tokens", "cost"]
        rows = [[str(line["group"]), *_cells(line, names)] for line in lines]
        rows.append(["total", *_cells(total, names)])
        typer.echo(table(head, rows, right=range(1, len(head))))
    else:
        typer.echo("no calls have been paid for")


def paid_calls(project: Project, by: Literal["day", "model", "template"]) -> list[CostLine]:
    """Read costs from the journal; none if there is no journal, which is not created."""
    from enhancer.harness import Journal

    if (found := Journal.find(project.store)) is None:
        return []
    with found as journal:
        return journal.costs(by)


_SUMMED = ("calls", "failed", "entities", "texts", "prompt_tokens", "completion_tokens", "known_cost_usd", "unknown")


def _cost(line: CostLine) -> dict[str, Any]:
    return {
        "group": line.group,
        "calls": line.calls,
        "failed": line.failed,
        "entities": line.entities,
        "texts": line.texts,
        "prompt_tokens": line.prompt_tokens,
        "completion_tokens": line.completion_tokens,
        "cost_usd": None if line.calls_of_unknown_cost else line.cost_usd,
        "known_cost_usd": line.cost_usd or 0.0,
        "unknown": line.calls_of_unknown_cost,
    }


def _cells(line: dict[str, Any], names: Iterable[str]) -> list[str]:
    """Format counts and cost; a cost that is unknown in part is never shown as a number alone."""
    cost = dollars(line["cost_usd"])
    if line["unknown"] and line["known_cost_usd"]:
        cost = f"unknown ({counted(line['unknown'], 'call')}; the others {dollars(line['known_cost_usd'])})"
    counts = [count(line[name]) for name in (*names, "prompt_tokens", "completion_tokens")]
    return [*counts, cost]
