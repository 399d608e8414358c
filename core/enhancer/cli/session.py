"""Flags, project loading and output shared by all commands."""

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
from enhancer.cli.streams import clean, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from enhancer.plugin_host import PluginManager
    from enhancer.project import Project

ConfigFlag = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Configuration: an enhancer.toml or pyproject.toml."),
]
SetFlag = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as llm.model=gpt-4o; repeatable."),
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no warnings.")]
LogJsonFlag = Annotated[bool, typer.Option("--log-json", help="Write progress and messages to stderr as JSON lines.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
PruneFlag = Annotated[
    float,
    typer.Option(
        "--prune-at-most",
        min=0,
        max=1,
        metavar="SHARE",
        help="Largest share of the records of a kind that may be removed; more is an error.",
    ),
]


@dataclass(slots=True)
class Session:
    """The common flags of one invocation."""

    plugins: PluginManager
    config: Path | None = None
    overrides: list[str] = field(default_factory=list)
    quiet: bool = False

    def merged(self, config: Path | None, overrides: list[str] | None, quiet: bool) -> Session:
        """Return a copy to which the flags after the command are added; they take precedence."""
        return Session(self.plugins, config or self.config, [*self.overrides, *(overrides or ())], quiet or self.quiet)

    def project(self) -> Project:
        """Load the project that the flags select."""
        if self.quiet:
            logging.getLogger("enhancer").setLevel(logging.ERROR)
        from enhancer.project import Project

        return Project.load(self.config, overrides=self.overrides, plugins=self.plugins)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Project]:
        """Load the project, and close its store at the end."""
        project = self.project()
        try:
            yield project
        finally:
            project.close()


def with_session(command: Callable[..., None]) -> Callable[..., None]:
    """Add the common flags to a command whose first parameter is a :class:`Session`.

    Args:
        command: Called with the session, then with its own parameters by keyword.

    Returns:
        A function for ``typer.Typer.command``.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(context: typer.Context, **values: Any) -> None:
        session: Session = context.find_root().obj
        flags = {name: values.pop(name) for name in ("config", "overrides", "quiet")}
        del values["log_json"]  # main has handled it, wherever it stands
        command(session.merged(**flags), **values)

    # typer reads the signature and, in some versions, the annotations: set both.
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
    """Print a result to stdout as one JSON document; NaN becomes null."""
    typer.echo(escape(json.dumps(jsonlog.plain(value), indent=2, ensure_ascii=False, allow_nan=False)))


def say(message: str) -> None:
    """Print a message to stderr."""
    if jsonlog.enabled():
        jsonlog.emit("message", message=message)
    else:
        typer.echo(clean(message), err=True)  # a live display replaces the stream


def ask(question: str, *, default: bool = False) -> bool:
    """Ask a yes-or-no question on stderr, and return the answer."""
    return typer.confirm(question, default=default, err=True)


def is_terminal() -> bool:
    """Return whether a question can be answered: both stdin and stderr are terminals."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def agree(question: str, otherwise: str, *, yes: bool, refused: str = "nothing was changed") -> None:
    """Ask before what cannot be undone; without a terminal to ask on, ``--yes`` is required.

    Args:
        question: Question on a terminal.
        otherwise: What would be done, for the error without one.
        yes: Whether ``--yes`` was given.
        refused: Said when the answer is no.

    Raises:
        ConfigError: There is no terminal.
        typer.Exit: The answer is no.
    """
    from enhancer.errors import ConfigError

    if yes:
        return
    if not is_terminal():
        raise ConfigError(
            f"{otherwise}, and there is no terminal to ask for confirmation",
            hint="pass --yes to continue without confirmation",
        )
    if not ask(question):
        say(refused)
        raise typer.Exit(1)


def sends(variables: Sequence[str], destination: str) -> str:
    """Return which environment variables are sent where; empty if none is."""
    return f"sends {' and '.join(variables)} to {destination}" if variables else ""


def say_sent(session: Session, project: Project, *, llm: bool = False, embedder: bool = False) -> None:
    """Say which environment variables calls send to which server; nothing with ``--quiet``, or if none is sent.

    Args:
        session: The flags of the command.
        project: The project.
        llm: Whether the LLM is called.
        embedder: Whether texts are embedded, by a remote embedder if there is one.
    """
    from enhancer.contracts import RemoteEmbedder

    if session.quiet:
        return
    parts = project.parts
    sent = []
    if llm:
        provider, model = parts.provider(complete=False), parts.settings.llm.model
        sent.append(sends(provider.sent_variables(model), provider.destination(model)))
    if embedder and isinstance(parts.embedder, RemoteEmbedder):
        sent.append(sends(parts.embedder.sent_variables, parts.embedder.destination))
    for line in filter(None, dict.fromkeys(sent)):
        say(line)
