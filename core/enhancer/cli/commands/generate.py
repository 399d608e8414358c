"""``plan``, ``generate`` and ``run``: what costs money, and asks first."""

from __future__ import annotations

import contextlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import jsonlog, tables
from enhancer.cli.failures import PARTLY
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, YesFlag, ask, is_terminal, print_json, say, with_session
from enhancer.errors import ConfigError, EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enhancer.harness.journal.batch_jobs import Job
    from enhancer.project import Project


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("plan")(with_session(plan))
    app.command("generate")(with_session(generate))
    app.command("run")(with_session(run))


BatchFlag = Annotated[
    bool, typer.Option("--batch", help="By the provider's batch API: within a day, at about half the price.")
]

NoWaitFlag = Annotated[bool, typer.Option("--no-wait", help="With --batch: submit, collect what is ready, and leave.")]


def plan(session: Session, batch: BatchFlag = False, as_json: JsonFlag = False) -> None:
    """Show what would be generated, and the cost. Calls nothing."""
    with session.opened() as project:
        result = project.plan(batch=batch).to_json()
    if as_json:
        print_json(result)
    else:
        typer.echo(tables.plan(result))


def generate(
    session: Session,
    retry_quarantined: Annotated[
        bool, typer.Option("--retry-quarantined", help="Ask again about entities whose answers were never valid.")
    ] = False,
    batch: BatchFlag = False,
    no_wait: NoWaitFlag = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="With --batch: end the jobs that are out, and collect what they have.")
    ] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Profile, embed and store what is new or changed.

    Resumable: what was paid for is kept, and nothing is paid for twice.
    """
    with session.opened() as project, ProgressView(quiet=session.quiet) as view, _telling(view, as_json):
        try:
            done = project.generate(
                listener=view,
                confirm=consent(yes, view),
                retry_quarantined=retry_quarantined,
                batch=batch,
                wait=not no_wait,
                abandon=abandon,
            )
        except (KeyboardInterrupt, EnhancerError):
            with view.suspended():
                tell_of_jobs(project)
            raise
        out = project.parts.pipeline.open_jobs() if batch or done.pending else []
    report = done.to_json()
    _print(report, as_json, tables.generation)
    if out:
        _say_jobs(out)
    _end_in_part(report)


def tell_of_jobs(project: Project) -> None:
    """Whoever stops waiting learns that the provider does not."""
    with contextlib.suppress(EnhancerError):  # what stopped the run is told, not that nothing can be said of jobs
        if out := project.parts.pipeline.open_jobs():
            _say_jobs(out)


def _say_jobs(out: Sequence[Job]) -> None:
    names = ", ".join(job.provider_id or "one about to be submitted" for job in out[:3])
    more = f" and {len(out) - 3} more" if len(out) > 3 else ""
    what = "a batch job goes on" if len(out) == 1 else f"{len(out)} batch jobs go on"
    say(
        f"{what} at the provider ({names}{more}; {tables.counted(sum(job.requests for job in out), 'request')}): "
        "`enhancer generate --batch` collects what is answered, and submits nothing twice"
    )


def run(session: Session, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Generate, train and ablate."""
    with session.opened() as project, ProgressView(quiet=session.quiet) as view, _telling(view, as_json):
        result = project.run(listener=view, confirm=consent(yes, view)).to_json()
    _print(result, as_json, _three)
    _end_in_part(result["generate"])


def _three(result: dict[str, Any]) -> str:
    parts = (tables.generation(result["generate"]), tables.training(result["train"]), tables.ablation(result["ablate"]))
    return "\n\n".join(parts)


@contextmanager
def _telling(view: ProgressView, as_json: bool) -> Iterator[None]:
    """A run that was stopped tells what it had done before it says why it stopped."""
    try:
        yield
    except EnhancerError as error:
        if error.report is not None:
            with view.suspended():
                _print(error.report.to_json(), as_json, tables.generation)
        raise
    except KeyboardInterrupt as stop:
        if (report := getattr(stop, "report", None)) is not None:
            with view.suspended():
                _say_done(report.to_json())
        raise


def _say_done(report: dict[str, Any]) -> None:
    """What an interrupted run had done: no result, so it goes to stderr."""
    if jsonlog.speaks_json():
        jsonlog.summary("generate", report)
    else:
        say(f"\n{tables.generation(report)}")


def _print(result: dict[str, Any], as_json: bool, render: Callable[[dict[str, Any]], str]) -> None:
    jsonlog.summary("run" if render is _three else "generate", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(render(result))


def _end_in_part(report: dict[str, Any]) -> None:
    """Exit 3 when some entities are in quarantine."""
    if report["quarantined"]:
        say(
            f"{report['quarantined']} in quarantine: `enhancer store quarantine` lists them with the reason, "
            "`enhancer generate --retry-quarantined` asks again"
        )
        raise typer.Exit(PARTLY)


def consent(yes: bool, view: ProgressView) -> Callable[[Any], bool]:
    """Ask before money is spent: shown the plan, somebody at a terminal answers; elsewhere ``--yes`` must have.

    Args:
        yes: Answered already.
        view: Steps aside while the question is on the terminal.
    """

    def confirm(plan: Any) -> bool:
        result = plan.to_json()
        if not result["requests"] or result["cost_usd"] == 0:
            return True
        with view.suspended():
            if not (yes and view.quiet):
                say(tables.plan(result))
            if yes:
                return True
            if not is_terminal():
                cost = result["cost_usd"]
                price = "at an unknown price" if cost is None else f"for about {tables.dollars(cost)}"
                raise ConfigError(
                    f"this would make {tables.counted(result['requests'], 'call')} {price}, "
                    "and nobody is here to be asked",
                    hint="pass --yes to go on; `enhancer plan` shows the plan alone",
                )
            if not ask("Go on?"):
                say("nothing was generated")
                raise typer.Exit(1)
        return True

    return confirm
