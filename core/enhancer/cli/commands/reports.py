"""``verdict`` and ``compare``: quote the results of an ablation, and set several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli.formatting import number
from enhancer.cli.layout import pairs, prose, table
from enhancer.cli.session import JsonFlag, Session, print_json, with_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enhancer.evaluation.judging.findings import Comparison
    from enhancer.evaluation.reporting.saved_report import SavedReport
    from enhancer.evaluation.side_by_side import SideBySide

_HERE = Path()


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("verdict")(with_session(verdict))
    app.command("compare")(with_session(compare))


def verdict(
    session: Session,
    report: Annotated[
        Path | None,
        typer.Argument(metavar="REPORT", help="Folder of an ablation, or its report; by default that of the project."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown, for an issue or a message.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Print the verdict of the last ablation in a few lines.

    Says whether to ship, on what data, beside which simple models, what is gained and what it costs.
    """
    saved = _read(session, report)
    if as_json:
        print_json({**saved.summary.to_json(), "verdict": saved.result["verdict"]})
    elif markdown:
        typer.echo(_markdown(saved))
    else:
        typer.echo(f"{prose(saved.summary.headline)}\n\n{pairs(saved.summary.lines())}")


def compare(
    session: Session,
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT...", help="Folders of ablations, or their reports.")],
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="Metric to compare by; by default the first.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set ablations side by side, and test the others against the first.

    Needs the same split and seeds; otherwise values are shown and nothing is tested.
    """
    from enhancer.evaluation.side_by_side import compare_reports

    found = compare_reports([_read(session, path) for path in reports], metric)
    if as_json:
        print_json(found.to_json())
    else:
        typer.echo(_render(found))


def _read(session: Session, path: Path | None) -> SavedReport:
    from enhancer.evaluation.reporting.saved_report import SavedReport

    if path is None:
        path = _HERE if session.config is None else session.config.parent
    return SavedReport.read(path)


def _markdown(saved: SavedReport) -> str:
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in saved.summary.lines()]
    words = [f"- {one}" for one in saved.result["verdict"].values()]
    return "\n".join([f"**{saved.summary.headline}**", "", "| | |", "|---|---|", *rows, "", *words])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _render(found: SideBySide) -> str:
    parts = [prose(sentence) for sentence in found.verdict]
    if found.untested is not None:
        parts.insert(0, prose(f"Nothing is tested: {found.untested}."))
    names = list(found.reports)
    for panel, arms in found.values.items():
        rows = [
            [arm, *(_value(each.get(name)) for name in names), *_changes(found, panel, arm, names[1:])]
            for arm, each in arms.items()
        ]
        head = [f"{found.metric}, {panel}", *names, *(f"change by {name}" for name in names[1:])]
        parts.append(table(head, rows, right=range(1, len(head))))
    if found.comparisons:
        parts.append(
            prose("* significant at .05: paired t over seeds, Holm's correction over all comparisons on a panel.")
        )
    decisions = [(name, one.summary.headline) for name, one in found.reports.items()]
    return "\n\n".join([*parts, pairs(decisions)])


def _value(values: Sequence[float] | None) -> str:
    return "-" if values is None else number(sum(values) / len(values))


def _changes(found: SideBySide, panel: str, arm: str, names: Sequence[str]) -> list[str]:
    tests: Mapping[Any, Comparison] = found.comparisons
    return [_change(tests.get((panel, arm, name))) for name in names]


def _change(test: Comparison | None) -> str:
    if test is None or test.relative is None:
        return "-"
    return f"{test.relative:+.1%}{' *' if test.significant else ''}"
