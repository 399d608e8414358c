"""Command ``enhancer demo``: generate, train and ablate on MovieLens-100k."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register_commands(cli: typer.Typer) -> None:
    """Add the command to the command line."""
    cli.command("demo")(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Working folder for all files.")] = Path("enhancer-demo"),
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Live model to write the profiles, such as openai/gpt-4o-mini."),
    ] = None,
    llm: Annotated[str, typer.Option(metavar="PLUGIN", help="Provider of --model.")] = "litellm",
    seeds: Annotated[int, typer.Option(min=1, help="Training runs of each arm.")] = 3,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending money.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on stderr.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Run the whole pipeline on MovieLens-100k. Needs no API key, GPU or model hub."""
    from enhancer_plugins.demo.command import run

    run(folder, model=model, llm=llm, seeds=seeds, yes=yes, quiet=quiet, as_json=as_json)
