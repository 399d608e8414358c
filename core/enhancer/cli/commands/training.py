"""``diagnose``, ``train`` and ``ablate``: commands that read the stored vectors."""

from __future__ import annotations

import typer

from enhancer.cli import jsonlog, results
from enhancer.cli.choice_table import choice_table
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, print_json, say, with_session


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


def ablate(session: Session, as_json: JsonFlag = False) -> None:
    """Compare arms on one split, with several seeds.

    Trains every arm with every seed, tests the differences for significance, and writes report.html.
    """
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        result = project.ablate(listener=view).to_json()
    jsonlog.summary("ablate", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(results.ablation(result))
        if "choice" in result:
            typer.echo("\n" + choice_table(result["choice"], result["backbones"]))
    say(f"wrote {project.root / 'report.html'}")
