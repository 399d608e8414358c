"""Run the steps of the demo."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import typer

from enhancer.cli.kit import ProgressView, consent, print_json, say
from enhancer.project import Project
from enhancer_plugins.demo.density import measure_density
from enhancer_plugins.demo.movielens import cache_folder, fetch_movielens
from enhancer_plugins.demo.output import next_steps, render, sections
from enhancer_plugins.demo.project_file import write_project
from enhancer_plugins.demo.showcase import Showcase, make_showcase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from enhancer.evaluation import Ablation
    from enhancer.evaluation.reporting.blocks import ReportSection


def run(folder: Path, *, model: str | None, llm: str, seeds: int, yes: bool, quiet: bool, as_json: bool) -> None:
    """Generate, train and ablate, and print the results; see ``enhancer demo --help``.

    Raises:
        EnhancerError: A step failed.
    """
    started = time.perf_counter()
    # Importing torch creates this folder, by default in the system's temporary folder.
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "torch"))

    def report(message: str) -> None:
        if not quiet:
            say(message)

    report("MovieLens-100k: reading the cache, or downloading into it")
    data = fetch_movielens()
    config = write_project(folder, data, model=model, llm=llm, seeds=seeds)
    report(f"working folder: {folder} ({config.name} in it can be changed and run again)")
    project = Project.load(config)
    shown: list[Showcase] = []

    def examples(ablation: Ablation) -> Sequence[ReportSection]:
        del ablation
        shown.append(make_showcase(project))
        return sections(shown[0])

    try:
        with ProgressView(quiet=quiet) as view:
            # Asks before a live model spends money; recorded answers are free.
            generated = project.generate(listener=view, confirm=consent(yes, view))
            # Its examples show what the tested model makes of films that it has not seen.
            trained = project.train(listener=view, evaluate_only=True)
            ablation = project.ablate(listener=view, sections=examples, title="Does the feature help? MovieLens-100k")
        density = measure_density(project, ablation, recorded=model is None)
    finally:
        project.close()
    seconds = time.perf_counter() - started
    if as_json:
        result = {"generate": generated.to_json(), "train": trained.to_json(), "ablate": ablation.to_json()}
        print_json(
            {
                **result,
                "density": density.to_json(),
                "showcase": shown[0].to_json(),
                "report": str(folder / "report.html"),
                "seconds": seconds,
            }
        )
        return
    typer.echo(render(ablation, shown[0], density))
    typer.echo(next_steps(folder, seconds))
