"""``spend``: buy profiles where they pay."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import jsonlog
from enhancer.cli.formatting import count, counted, dollars
from enhancer.cli.layout import table
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, YesFlag, ask, is_terminal, print_json, say, say_sent, with_session
from enhancer.errors import BudgetError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enhancer.project import Project
    from enhancer.project.spending.results import SpendPlan

_STOPPED = {
    "no gain": "Stopped: no stratum's gain is certain any more.",
    "complete": "Stopped: all that gains has been bought.",
    "budget": "Stopped: the budget is spent.",
}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("spend")(with_session(spend))


def spend(
    session: Session,
    budget: Annotated[
        float | None,
        typer.Option("--budget", metavar="USD", help="Limit over all runs of the campaign; by default [llm] max_cost."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the pilot and its cost. Pays and writes nothing.")
    ] = False,
    least_gain: Annotated[
        float,
        typer.Option(
            "--least-gain",
            metavar="SHARE",
            help="Smallest gain that is worth buying, as a share of what interactions alone reach.",
        ),
    ] = 0.0,
    pilot: Annotated[
        int,
        typer.Option("--pilot", metavar="ITEMS", help="Smallest number of items of a stratum that the pilot buys."),
    ] = 40,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin a new campaign; profiles and paid answers are kept.")
    ] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Buy profiles of items where they pay.

    A pilot buys profiles of a few items of each stratum of popularity. Strata whose gain on validation is certain, over
    interactions, raw text and shuffled vectors, get more, in rounds, until none is left. Continues after an
    interruption.
    """
    if dry_run:
        with session.opened() as project, ProgressView(quiet=session.quiet) as view:
            planned = project.plan_spending(budget, pilot=pilot, restart=restart, listener=view).to_json()
        if as_json:
            print_json(planned)
        else:
            typer.echo(plan_text(planned))
        return
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:

        def on_round(one: dict[str, Any]) -> None:
            if as_json:
                return
            with view.suspended():
                typer.echo(round_text(one) + "\n")

        try:
            report = project.spend(
                budget,
                least_gain=least_gain,
                pilot=pilot,
                restart=restart,
                listener=view,
                on_round=on_round,
                confirm=_consent(session, project, view, yes=yes),
            ).to_json()
        except BudgetError as error:
            if error.report is not None:
                with view.suspended():
                    _print(error.report.to_json(), as_json)
            raise
    _print(report, as_json)


def _print(report: dict[str, Any], as_json: bool) -> None:
    jsonlog.summary("spend", report)
    if as_json:
        print_json(report)
    else:
        typer.echo(report_text(report))


def _consent(session: Session, project: Project, view: ProgressView, *, yes: bool) -> Callable[[SpendPlan], bool]:
    def confirm(plan: SpendPlan) -> bool:
        result = plan.to_json()
        if _buys(result):
            with view.suspended():
                say_sent(session, project, llm=True, embedder=True)
        if not result["everything_usd"]:  # there is nothing to pay for
            return True
        with view.suspended():
            if not (yes and view.quiet):
                say(plan_text(result))
            if yes:
                return True
            left = result["budget_usd"] - result["spent_usd"]
            if not is_terminal():
                raise ConfigError(
                    f"this may spend {dollars(left)}, and there is no terminal to ask for confirmation",
                    hint="pass --yes to continue without confirmation",
                )
            if not ask(f"Spend up to {dollars(left)}?"):
                say("nothing was bought")
                raise typer.Exit(1)
        return True

    return confirm


def _buys(plan: Mapping[str, Any]) -> bool:
    """Check whether a campaign may buy anything: it is not over, and items are left."""
    return not _is_over(plan) and any(one["bought"] < one["items"] for one in plan["strata"])


def _is_over(plan: Mapping[str, Any]) -> bool:
    return plan["stopped"] not in (None, "", "budget")


def plan_text(plan: Mapping[str, Any]) -> str:
    """Render a plan: a row for each stratum."""
    rows = [
        [
            one["stratum"],
            count(one["items"]),
            count(one["bought"]),
            count(one["pilot"]),
            dollars(one["pilot_usd"]),
            dollars(one["everything_usd"]),
        ]
        for one in plan["strata"]
    ]
    money = f"budget {dollars(plan['budget_usd'])}, of which {dollars(plan['spent_usd'])} is spent"
    columns = ["stratum", "items", "bought", "pilot", "cost of pilot", "cost of all left"]
    lines = [f"{money}; to buy: {' + '.join(plan['aspects'])}", table(columns, rows, right=range(1, 6))]
    if not plan["rounds"]:
        lines.append(
            f"The pilot costs about {dollars(plan['pilot_usd'])}; everything would cost about "
            f"{dollars(plan['everything_usd'])}."
        )
    else:
        lines.append(
            f"{counted(len(plan['rounds']), 'round')} done; the campaign"
            f" {'is over' if _is_over(plan) else 'continues'}. An item counts as bought when it has all notes."
        )
    return "\n".join(lines)


def round_text(one: Mapping[str, Any]) -> str:
    """Render what a round bought and learnt."""
    items = sum(order["bought"] for order in one["orders"])
    bought = ", ".join(f"{count(order['bought'])} {order['stratum']}" for order in one["orders"])
    name = "round 1, the pilot" if one["round"] == 1 else f"round {one['round']}"
    head = (
        f"{name}: {counted(items, 'item')} ({bought}) for {dollars(one['spent_usd'])}; "
        f"{dollars(one['left_usd'])} is left"
    )
    rows = [
        [
            gain["stratum"],
            " + ".join(gain["aspects"]),
            count(gain["items"]),
            count(gain["pairs"]),
            _signed(gain["gain"]),
            _signed(gain["bound"]),
            "-" if gain["gain_per_usd"] is None else f"{gain['gain_per_usd']:+.3g}",
            gain["decision"],
            gain["reason"],
        ]
        for gain in one["gains"]
    ]
    columns = ["stratum", "aspects", "items", "pairs", "gain", "bound", "gain per $", "decision", "reason"]
    return "\n".join([head, *([table(columns, rows, right=range(2, 7))] if rows else [])])


def report_text(report: Mapping[str, Any]) -> str:
    """Render the end of a campaign."""
    worth = [
        f"{one['stratum']} ({', then '.join(' + '.join(step) for step in one['worth'])})"
        for one in report["strata"]
        if one["worth"]
    ]
    money = f"Spent {dollars(report['spent_usd'])} of {dollars(report['budget_usd'])}"
    lines = [
        _STOPPED.get(report["stopped"], ""),
        f"Worth buying: {', '.join(worth)}." if worth else "Nothing proved worth buying.",
        f"{money}; what was not bought would cost about {dollars(report['everything_usd'])}.",
    ]
    if report["lost_usd"]:
        lines.append(
            f"The amount spent includes {dollars(report['lost_usd'])}, the most that calls may have cost which were in "
            "flight when a run was stopped."
        )
    return "\n".join(line for line in lines if line)


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.5f}"
