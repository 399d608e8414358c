"""``enhancer``: the application, put together from its commands and those of plugins."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from enhancer.cli import jsonlog
from enhancer.cli.commands import doctor, experiment, generate, init, plugins, recommend, refresh, serve, store
from enhancer.cli.failures import INTERRUPTED, guarded, scrub
from enhancer.cli.session import ConfigFlag, LogJsonFlag, QuietFlag, Session, SetFlag
from enhancer.plugin_host import load_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.plugin_host import PluginManager

_HELP = """LLM-written item and user profiles, embedded offline, fused into collaborative filtering, and judged fairly.

Begin with `enhancer demo`, or with `enhancer init` in a folder that holds your tables.
"""
_PARTS = (init, doctor, generate, refresh, experiment, recommend, serve, store, plugins)


def build_app(manager: PluginManager) -> typer.Typer:
    """The command line with the commands of the given plugins."""
    # Plain help: importing rich's takes longer than all the rest together.
    app = typer.Typer(name="enhancer", help=_HELP, rich_markup_mode=None, pretty_exceptions_enable=False)
    for part in _PARTS:
        part.add_to(app)
    own = {info.name or "" for info in app.registered_commands} | {info.name or "" for info in app.registered_groups}
    manager.add_commands(app, reserved=own)

    @app.callback(invoke_without_command=True)
    def root(
        context: typer.Context,
        config: ConfigFlag = None,
        overrides: SetFlag = None,
        quiet: QuietFlag = False,
        log_json: LogJsonFlag = False,
        version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    ) -> None:
        del log_json  # seen before anything could go wrong: see main
        context.obj = Session(manager, config, list(overrides or ()), quiet)
        if version:
            import enhancer

            typer.echo(f"enhancer {enhancer.__version__}")
        elif context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return app


def own_process() -> None:
    """Set up what a process of enhancer's own may choose for itself.

    A catalogue streams through as many short-lived tuples, none of them in a cycle: to look for cycles after every
    700 of them takes a tenth of the time of a run that finds nothing to do.
    """
    gc.set_threshold(50_000, 20, 50)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; by default the process's.

    Returns:
        The exit code: see :mod:`enhancer.cli.failures`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    jsonlog.speak_json(jsonlog.FLAG in arguments)
    _log_to_stderr()
    if argv is None:
        own_process()
    if argv is None and threading.current_thread() is threading.main_thread():
        # Whoever stops a container or a service means what Ctrl-C means: answers that are on their way may land.
        signal.signal(signal.SIGTERM, signal.default_int_handler)

    def run() -> None:
        app = build_app(load_plugins())
        if "_ENHANCER_COMPLETE" in os.environ:  # the shell asks for completions
            app(prog_name="enhancer")
        command = typer.main.get_command(app)
        # Not command.main(): that turns some exceptions into others, and ends the process by itself.
        with command.make_context("enhancer", arguments) as context:
            command.invoke(context)

    code = guarded(run)
    if argv is None and code == INTERRUPTED:
        _end_now(code)
    return code


def _end_now(code: int) -> None:
    """End without waiting for a thread that nothing can interrupt, such as one that imports a large library."""
    if threading.active_count() > 1:  # daemons, too: a pool's threads are waited for whatever they are
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _StderrHandler(logging.Handler):
    """Writes to whatever ``sys.stderr`` is just now: while progress is live, lines go above it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if jsonlog.speaks_json():
                level = {"critical": "error"}.get(record.levelname.lower(), record.levelname.lower())
                jsonlog.emit("log", level=level, logger=record.name, message=logging.Formatter().format(record))
                return
            sys.stderr.write(scrub(self.format(record)) + "\n")
        except Exception:  # noqa: BLE001  logging never raises
            self.handleError(record)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {super().format(record)}"


def _log_to_stderr() -> None:
    log = logging.getLogger("enhancer")
    for old in [each for each in log.handlers if isinstance(each, _StderrHandler)]:
        log.removeHandler(old)
    handler = _StderrHandler()
    handler.setFormatter(_Formatter())
    log.addHandler(handler)
    log.setLevel(logging.WARNING)
    log.propagate = False
