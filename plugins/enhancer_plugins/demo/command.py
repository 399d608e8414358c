"""The steps of the demo, one after the other."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import typer

from enhancer.cli.kit import ProgressView, consent, print_json, say
from enhancer.project import Project
from enhancer_plugins.demo.movielens import cache_folder, fetch_movielens
from enhancer_plugins.demo.pages import next_steps, render, sections
from enhancer_plugins.demo.showcase import Showcase, show
from enhancer_plugins.demo.workplace import write_project

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enhancer.evaluation import Ablation
    from enhancer.evaluation.reporting.report import Section


def run(folder: Path, *, model: str | None, llm: str, seeds: int, yes: bool, quiet: bool, as_json: bool) -> None:
    """Do the main job and print what came of it; see ``enhancer demo --help``.

    Raises:
        EnhancerError: See the exception tree.
    """
    started = time.perf_counter()
    # Importing a model library makes this folder, used or not, in the system's: the demo leaves nothing there.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "torch"))

    def tell(message: str) -> None:
        if not quiet:
            say(message)

    tell("MovieLens-100k: from the cache, or downloaded into it")
    data = fetch_movielens()
    config = write_project(folder, data, model=model, llm=llm, seeds=seeds)
    tell(f"working folder: {folder} (its {config.name} is a project like any other)")
    project = Project.load(config)
    shown: list[Showcase] = []

    def pages(ablation: Ablation) -> Sequence[Section]:
        del ablation
        shown.append(show(project))
        return sections(shown[0])

    try:
        with ProgressView(quiet=quiet) as view:
            # A live model costs money and is asked about; recorded answers cost nothing and are not.
            generated = project.generate(listener=view, confirm=consent(yes, view))
            trained = project.train(listener=view, keep=True)
            ablation = project.ablate(listener=view, sections=pages, title="Does the feature help? MovieLens-100k")
    finally:
        project.close()
    seconds = time.perf_counter() - started
    if as_json:
        result = {"generate": generated.to_json(), "train": trained.to_json(), "ablate": ablation.to_json()}
        print_json(
            {**result, "showcase": shown[0].to_json(), "report": str(folder / "report.html"), "seconds": seconds}
        )
        return
    typer.echo(render(ablation, shown[0], recorded=model is None))
    typer.echo(next_steps(folder, seconds))
