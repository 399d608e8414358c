"""``diagnose``, ``train`` and ``ablate``: commands that read the stored vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import jsonlog, results
from enhancer.cli.choice_table import choice_table
from enhancer.cli.metrics_like_table import metrics_like_table
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, print_json, say, with_session

if TYPE_CHECKING:
    from enhancer.evaluation import Ablation


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("diagnose")(with_session(diagnose))
    app.command("train")(with_session(train))
    app.command("ablate")(with_session(ablate))


def diagnose(session: Session, as_json: JsonFlag = False) -> None:
    """Check profiles and vectors before any training.

    Reports coverage, duplicate profiles, the spread of the vectors, their agreement with interactions, and leaks.
    """
    with session.opened() as project:
        result = project.diagnose().to_json()
    if as_json:
        print_json(result)
    else:
        typer.echo(results.diagnosis(result))


def train(session: Session, as_json: JsonFlag = False) -> None:
    """Train a model and write the serving artifact."""
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        result = project.train(listener=view).to_json()
    jsonlog.summary("train", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(results.training(result))
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
    as_json: JsonFlag = False,
) -> None:
    """Compare arms on one split, with several seeds.

    Trains every arm with every seed, tests the differences for significance, and writes report.html.
    """
    if metrics_like is not None:
        from enhancer.evaluation.measuring.peer_definitions import library_definition

        library_definition(metrics_like)  # raises before anything is trained
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        ablation = project.ablate(listener=view)
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
    say(f"wrote {project.root / 'report.html'}")


def _like(ablation: Ablation, library: str) -> dict[str, Any]:
    """Return our metrics beside those of another library's definitions, on the rankings of all runs."""
    from enhancer.evaluation.measuring.peer_definitions import compare_definitions

    runs = {arm.name: [run.scores for run in ablation.runs if run.arm == arm.name] for arm in ablation.arms}
    return compare_definitions(runs, ablation.metrics, library)
