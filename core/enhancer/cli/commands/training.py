"""``diagnose``, ``train`` and ``ablate``: commands that read the stored vectors."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  typer reads annotations at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import jsonlog, results
from enhancer.cli.choice_table import choice_table
from enhancer.cli.commands.generate import consent, tells_variables
from enhancer.cli.failures import PARTIAL
from enhancer.cli.formatting import counted
from enhancer.cli.metrics_like_table import metrics_like_table
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, YesFlag, print_json, say, with_session
from enhancer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from enhancer.evaluation import Ablation


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("diagnose")(with_session(diagnose))
    app.command("train")(with_session(train))
    app.command("ablate")(with_session(ablate))


_JUDGED, _PROBED = 100, 200
"""Entities whose notes are judged, and items that are probed, unless ``--sample`` is given."""


def diagnose(
    session: Session,
    judge: Annotated[
        bool, typer.Option("--judge", help="Have the LLM check the claims of notes against their texts. Costs money.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Ask the LLM what it knows of the items by itself. Costs money.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            min=1,
            metavar="N",
            help=f"Entities to ask about; by default {_JUDGED} with --judge and {_PROBED} with --memory.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what --judge and --memory would cost. Makes no calls.")
    ] = False,
    yes: YesFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Check profiles and vectors before any training.

    Reports coverage, duplicate profiles, names and numbers that texts do not have, sentences of one form, aspects that
    repeat each other, the spread of the vectors, their agreement with interactions, and leaks.
    """
    if not (judge or memory) and (sample is not None or dry_run):
        raise ConfigError("--sample and --dry-run are about questions to the LLM", hint="add --judge or --memory")
    asked = {"judge": (sample or _JUDGED) * judge, "memory": (sample or _PROBED) * memory}
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        if dry_run:
            from enhancer.project.notes.asking import Inquiry

            plan = Inquiry.of(project.parts, **asked).plan().to_json()
            _print(plan, as_json, results.question_plan)
            return
        confirm = consent(
            yes,
            view,
            before=tells_variables(session, project),
            render=results.question_plan,
            refused="nothing was asked",
        )
        result = project.diagnose(**asked, listener=view, confirm=confirm).to_json()
    _print(result, as_json, results.diagnosis)
    if lacking := result.get("asked", {}).get("quarantined"):
        say(f"{counted(lacking, 'question')} in quarantine: `enhancer store quarantine` lists the reasons")
        raise typer.Exit(PARTIAL)


def _print(result: dict[str, Any], as_json: bool, render: Callable[[dict[str, Any]], str]) -> None:
    if as_json:
        print_json(result)
    else:
        typer.echo(render(result))


def train(
    session: Session,
    evaluate_only: Annotated[
        bool,
        typer.Option("--evaluate-only", help="Serve the model that was tested, without a refit on all interactions."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Train even if the artifact has the same data, vectors and options.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Train a model and write the serving artifact.

    The model is tested on held-out interactions, and then fitted once more on all of them.
    """
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        result = project.train(listener=view, keep=not force, evaluate_only=evaluate_only).to_json()
    jsonlog.summary("train", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(results.training(result))
        if result["kept"]:
            say("the artifact is of the same data, vectors and options: nothing was trained; --force trains again")
        if "choice" in result:
            typer.echo("\n" + choice_table(result["choice"]))


def ablate(
    session: Session,
    metrics_like: Annotated[
        str | None,
        typer.Option(
            "--metrics-like",
            metavar="LIBRARY",
            help="Also print the metrics as rectools, lenskit, trec_eval, implicit or torchmetrics define them.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Page to write; by default report.html in the project's folder."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare arms on one split, with several seeds.

    Trains every arm with every seed, tests the differences for significance, and writes report.html. `enhancer verdict`
    prints its main points, `enhancer compare` sets several side by side.
    """
    if metrics_like is not None:
        from enhancer.evaluation.measuring.peer_definitions import library_definition

        library_definition(metrics_like)  # raises before anything is trained
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        page = project.root / "report.html" if report is None else _page_of(report)
        ablation = project.ablate(listener=view, report=page)
    result = ablation.to_json()
    if metrics_like is not None:
        result["metrics_like"] = _like(ablation, metrics_like)
    jsonlog.summary("ablate", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(results.ablation(result))
        if "choice" in result:
            typer.echo("\n" + choice_table(result["choice"], result["backbones"]))
        if "metrics_like" in result:
            typer.echo("\n" + metrics_like_table(result["metrics_like"]))
    say(f"wrote {page}")


def _page_of(report: Path) -> Path:
    """Return the absolute path of a page to write, which is relative to the working directory.

    Raises:
        ConfigError: It is a folder, or has the ending of one of the files beside it.
    """
    if report.is_dir():
        raise ConfigError(f"--report {report} is a folder", hint=f"such as --report {report / 'report.html'}")
    if report.suffix in {".json", ".csv"}:
        raise ConfigError(
            f"--report {report} names a page, which is HTML",
            hint=f"--report {report.with_suffix('.html')} writes {report.name} beside it",
        )
    return report.resolve()


def _like(ablation: Ablation, library: str) -> dict[str, Any]:
    """Return our metrics beside those of another library's definitions, on the rankings of all runs."""
    from enhancer.evaluation.measuring.peer_definitions import compare_definitions

    runs = {arm.name: [run.scores for run in ablation.runs if run.arm == arm.name] for arm in ablation.arms}
    return compare_definitions(runs, ablation.metrics, library)
