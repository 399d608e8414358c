"""``plan``, ``generate`` and ``run``: estimate costs, and generate after confirmation."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import formatting, jsonlog, results
from enhancer.cli.failures import PARTIAL
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, YesFlag, ask, is_terminal, print_json, say, say_sent, with_session
from enhancer.errors import ConfigError, EnhancerError
from enhancer.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enhancer.features import Plan
    from enhancer.harness.journal.batch_jobs import BatchJob
    from enhancer.project import Project


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("plan")(with_session(plan))
    app.command("generate")(with_session(generate))
    app.command("run")(with_session(run))


BatchFlag = Annotated[
    bool,
    typer.Option(
        "--batch", help="Use the batch APIs of LLM and embedder: results within a day each, at half the price."
    ),
]

NoWaitFlag = Annotated[
    bool,
    typer.Option("--no-wait", help="With --batch: submit jobs, collect finished ones, and do not wait for others."),
]

RetryFlag = Annotated[
    bool, typer.Option("--retry-quarantined", help="Ask again about entities whose answers were never valid.")
]


KeepGoingFlag = Annotated[
    bool, typer.Option("--keep-going", help="Go on although most of the first answers are not valid.")
]

LimitFlag = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, metavar="N", help="Ask about at most N entities; a later run asks about the others."
    ),
]


def plan(session: Session, batch: BatchFlag = False, limit: LimitFlag = None, as_json: JsonFlag = False) -> None:
    """Show what would be generated, its estimated cost, and the tokens that each column costs. Makes no calls."""
    from enhancer.project.inspecting.column_tokens import column_tokens

    with session.opened() as project:
        result = project.plan(batch=batch, limit=limit).to_json()
        if columns := column_tokens(project.parts):
            result["columns"] = [each.to_json() for each in columns]
    if as_json:
        print_json(result)
    else:
        typer.echo(results.plan(result))


def generate(
    session: Session,
    retry_quarantined: RetryFlag = False,
    limit: LimitFlag = None,
    batch: BatchFlag = False,
    no_wait: NoWaitFlag = False,
    abandon: Annotated[
        bool, typer.Option("--abandon", help="With --batch: cancel open jobs, and collect the answers that they have.")
    ] = False,
    keep_going: KeepGoingFlag = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Generate, embed and store profiles of new and changed entities.

    An interrupted run continues where it stopped. No answer is paid for twice.
    """
    left = 0

    def confirm(plan: Plan) -> bool:
        nonlocal left
        left = plan.left
        return agreed(plan)

    with session.opened() as project, ProgressView(quiet=session.quiet) as view, _partial_report(view, as_json):
        view(Progress("read", 0))  # before libraries are imported, and before large tables are read
        agreed = consent(yes, view, before=tells_variables(session, project, batch=batch))
        if batch and abandon:  # jobs are cancelled without a question
            of_texts = [job.endpoint.endswith("/embeddings") for job in project.parts.pipeline.open_jobs()]
            say_sent(session, project, llm=not all(of_texts), embedder=any(of_texts))
        try:
            report = project.generate(
                listener=view,
                confirm=confirm,
                retry_quarantined=retry_quarantined,
                limit=limit,
                batch=batch,
                wait=not no_wait,
                abandon=abandon,
                keep_going=keep_going,
            )
        except (KeyboardInterrupt, EnhancerError):
            with view.suspended():
                report_open_jobs(project)
            raise
        jobs = project.parts.pipeline.open_jobs() if batch or report.pending else []
    result = report.to_json()
    _print(result, as_json, results.generation)
    if jobs:
        _report_jobs(jobs)
    if left:
        say(f"{formatting.counted(left, 'entity')} left for later runs by --limit {limit}")
    _exit_if_quarantined(result)


def report_open_jobs(project: Project) -> None:
    """Print which batch jobs go on at the provider after the command has ended."""
    with contextlib.suppress(EnhancerError):  # an error here must not hide the one that ended the run
        if jobs := project.parts.pipeline.open_jobs():
            _report_jobs(jobs)


def _report_jobs(jobs: Sequence[BatchJob]) -> None:
    names = ", ".join(job.provider_id or "one about to be submitted" for job in jobs[:3])
    more = f" and {len(jobs) - 3} more" if len(jobs) > 3 else ""
    subject = "a batch job is" if len(jobs) == 1 else f"{len(jobs)} batch jobs are"
    requests = formatting.counted(sum(job.requests for job in jobs), "request")
    say(
        f"{subject} still running at the provider ({names}{more}; {requests}): run `enhancer generate --batch` later "
        "to collect the answers; nothing is submitted twice"
    )


def run(session: Session, keep_going: KeepGoingFlag = False, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Run generate, train and ablate in this order."""
    with session.opened() as project, ProgressView(quiet=session.quiet) as view, _partial_report(view, as_json):
        view(Progress("read", 0))  # before libraries are imported, and before large tables are read
        agreed = consent(yes, view, before=tells_variables(session, project))
        result = project.run(listener=view, confirm=agreed, keep_going=keep_going).to_json()
    _print(result, as_json, _all_results)
    _exit_if_quarantined(result["generate"])


def _all_results(result: dict[str, Any]) -> str:
    generated, trained = results.generation(result["generate"]), results.training(result["train"])
    return "\n\n".join([generated, trained, results.ablation(result["ablate"])])


@contextlib.contextmanager
def _partial_report(view: ProgressView, as_json: bool) -> Iterator[None]:
    """Print the report of a run that stops early before its error message."""
    try:
        yield
    except EnhancerError as error:
        if error.report is not None:
            with view.suspended():
                _print(error.report.to_json(), as_json, results.generation)
        raise
    except KeyboardInterrupt as interrupt:
        if (report := getattr(interrupt, "report", None)) is not None:
            with view.suspended():
                _say_interrupted(report.to_json())
        raise


def _say_interrupted(result: dict[str, Any]) -> None:
    """Print the report of an interrupted run to stderr, since stdout is for complete results."""
    if jsonlog.enabled():
        jsonlog.summary("generate", result)
    else:
        say(f"\n{results.generation(result)}")


def _print(result: dict[str, Any], as_json: bool, render: Callable[[dict[str, Any]], str]) -> None:
    jsonlog.summary("run" if render is _all_results else "generate", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(render(result))


def _exit_if_quarantined(result: dict[str, Any]) -> None:
    """Exit with code 3 if entities are in quarantine."""
    if result["quarantined"]:
        say(quarantine_hint(result["quarantined"], "generate"))
        raise typer.Exit(PARTIAL)


def quarantine_hint(quarantined: int, command: str) -> str:
    """Return what to do about quarantined entities.

    Args:
        quarantined: Their number.
        command: The command that asks again: ``generate`` or ``refresh``.
    """
    return (
        f"{formatting.counted(quarantined, 'entity')} in quarantine: `enhancer store quarantine` lists the reasons, "
        f"`enhancer {command} --retry-quarantined` asks again"
    )


def tells_variables(session: Session, project: Project, *, batch: bool = False) -> Callable[[dict[str, Any]], None]:
    """Return a function that says which environment variables the calls of a plan send to which server.

    Args:
        session: The flags of the command.
        project: The project.
        batch: Whether open batch jobs are collected.
    """

    def tell(plan: dict[str, Any]) -> None:
        collects = batch and bool(plan.get("pending"))
        texts = bool(plan.get("embedding_requests"))
        say_sent(session, project, llm=bool(plan["requests"]) or collects, embedder=texts or collects)

    return tell


def consent(
    yes: bool,
    view: ProgressView,
    *,
    before: Callable[[dict[str, Any]], None] = lambda _: None,
    render: Callable[[dict[str, Any]], str] = results.plan,
    refused: str = "nothing was generated",
) -> Callable[[Any], bool]:
    """Return a function that shows a plan and asks for confirmation before money is spent.

    Without a terminal to ask on, ``--yes`` is required.

    Args:
        yes: Whether ``--yes`` was given.
        view: Suspended while the question is asked.
        before: Called first with the plan as JSON values, such as :func:`tells_variables`.
        render: Renders the plan.
        refused: Said when the answer is no.
    """

    def confirm(plan: Any) -> bool:
        result = plan.to_json()
        requests = result["requests"] + result.get("embedding_requests", 0)
        with view.suspended():
            before(result)
        if not requests or result["cost_usd"] == 0:
            return True
        with view.suspended():
            if not (yes and view.quiet):
                say(render(result))
            if yes:
                return True
            if not is_terminal():
                cost = result["cost_usd"]
                price = "at an unknown price" if cost is None else f"for about {formatting.dollars(cost)}"
                raise ConfigError(
                    f"this would make {formatting.counted(requests, 'call')} {price}, and there is no "
                    "terminal to ask for confirmation",
                    hint="pass --yes to continue without confirmation",
                )
            if not ask("Continue?"):
                say(refused)
                raise typer.Exit(1)
        return True

    return confirm
