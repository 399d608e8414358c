"""What every command shares: the flags that choose a project, and how results leave."""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from enhancer.cli import jsonlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enhancer.plugin_host import PluginManager
    from enhancer.project import Project

ConfigFlag = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="enhancer.toml or pyproject.toml of the project."),
]
SetFlag = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as llm.model=gpt-4o; repeatable."),
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
LogJsonFlag = Annotated[bool, typer.Option("--log-json", help="Progress and messages on stderr as lines of JSON.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Go on without asking.")]
PruneFlag = Annotated[
    float,
    typer.Option("--prune-at-most", min=0, max=1, metavar="SHARE", help="Of a kind's records; more is an error."),
]
MOST_PRUNED = 0.5
"""As :data:`enhancer.features.refresh.MAX_PRUNED_SHARE`, which is not imported to print help."""


@dataclass(slots=True)
class Session:
    """One invocation. The flags may stand before the command or after it."""

    plugins: PluginManager
    config: Path | None = None
    overrides: list[str] = field(default_factory=list)
    quiet: bool = False

    def merged(self, config: Path | None, overrides: list[str] | None, quiet: bool) -> Session:
        """The same with the flags that stood after the command merged in."""
        return Session(self.plugins, config or self.config, [*self.overrides, *(overrides or ())], quiet or self.quiet)

    def project(self) -> Project:
        """Load the project that the flags choose."""
        if self.quiet:
            logging.getLogger("enhancer").setLevel(logging.ERROR)
        from enhancer.project import Project

        return Project.load(self.config, overrides=self.overrides, plugins=self.plugins)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Project]:
        """The project, whose store is closed at the end."""
        project = self.project()
        try:
            yield project
        finally:
            project.close()


def with_session(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose first parameter is a :class:`Session` the flags that every command has."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(context: typer.Context, **values: Any) -> None:
        session: Session = context.find_root().obj
        flags = {name: values.pop(name) for name in ("config", "overrides", "quiet")}
        del values["log_json"]  # it may stand anywhere: main has seen it
        command(session.merged(**flags), **values)

    # typer reads the signature and, in some versions, the annotations: both must be those of the real command line.
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter("config", keyword, default=None, annotation=ConfigFlag),
        inspect.Parameter("overrides", keyword, default=None, annotation=SetFlag),
        inspect.Parameter("quiet", keyword, default=False, annotation=QuietFlag),
        inspect.Parameter("log_json", keyword, default=False, annotation=LogJsonFlag),
    ]
    first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [first, *(parameter.replace(kind=keyword) for parameter in own), *shared]
    functools.update_wrapper(run, command)
    del run.__dict__["__wrapped__"]
    run.__dict__["__signature__"] = inspect.Signature(parameters)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def print_json(value: Any) -> None:
    """Print a result for programs: one JSON document, never NaN (which is not JSON) but null."""
    typer.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """A result as JSON can say it, which has no NaN, no paths and no tuples."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return plain(value.tolist())
    return str(value)


def say(message: str) -> None:
    """Tell the person at the terminal something that is not a result."""
    if jsonlog.speaks_json():
        jsonlog.emit("message", message=message)
    else:
        typer.echo(message, err=True)


def ask(question: str, *, default: bool = False) -> bool:
    """Ask on stderr, so that stdout stays the result's."""
    return typer.confirm(question, default=default, err=True)


def is_terminal() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()
