"""``diagnose``, ``train`` and ``ablate``."""

from __future__ import annotations

import typer

from enhancer.cli import jsonlog, tables
from enhancer.cli.progress import ProgressView
from enhancer.cli.session import JsonFlag, Session, print_json, say, with_session


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("diagnose")(with_session(diagnose))
    app.command("train")(with_session(train))
    app.command("ablate")(with_session(ablate))


def diagnose(session: Session, as_json: JsonFlag = False) -> None:
    """Look at profiles and vectors before any training.

    Do they cover the catalogue, tell things apart, and agree with what people do? Does this feature stand a chance?
    """
    with session.opened() as project:
        result = project.diagnose().to_json()
    if as_json:
        print_json(result)
    else:
        typer.echo(tables.diagnosis(result))


def train(session: Session, as_json: JsonFlag = False) -> None:
    """Train, and write the serving artifact."""
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        result = project.train(listener=view).to_json()
    jsonlog.summary("train", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(tables.training(result))


def ablate(session: Session, as_json: JsonFlag = False) -> None:
    """Compare arms fairly.

    Trains every arm with every seed on one split, tests the differences, and writes report.html.
    """
    with session.opened() as project, ProgressView(quiet=session.quiet) as view:
        result = project.ablate(listener=view).to_json()
    jsonlog.summary("ablate", result)
    if as_json:
        print_json(result)
    else:
        typer.echo(tables.ablation(result))
    say(f"wrote {project.root / 'report.html'}")
