"""``enhancer demo``: the whole main job on MovieLens-100k. A command plugin over ``enhancer.Project``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register_commands(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("demo")(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Working folder; everything is written there.")] = Path("enhancer-demo"),
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Let a live model write the profiles, such as openai/gpt-4o-mini."),
    ] = None,
    llm: Annotated[str, typer.Option(metavar="PLUGIN", help="The provider that --model is asked through.")] = "litellm",
    seeds: Annotated[int, typer.Option(min=1, help="Training runs of each arm.")] = 3,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go on without asking.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """The whole thing on MovieLens-100k: no key, no GPU and no model hub needed."""
    from enhancer_plugins.demo.command import run

    run(folder, model=model, llm=llm, seeds=seeds, yes=yes, quiet=quiet, as_json=as_json)
