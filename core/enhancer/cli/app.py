"""Build the command line from built-in commands and those of plugins, and run it."""

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
from enhancer.cli.commands import (
    density,
    doctor,
    generate,
    init,
    plugins,
    refresh,
    reports,
    show,
    spend,
    store,
    training,
)
from enhancer.cli.commands.serving import export, recommend, serve
from enhancer.cli.failures import INTERRUPTED, guarded, scrub
from enhancer.cli.session import ConfigFlag, LogJsonFlag, QuietFlag, Session, SetFlag
from enhancer.cli.streams import clean, cleaned
from enhancer.plugin_host import load_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enhancer.plugin_host import PluginManager

_HELP = """LLM-written profiles of items and users: embed them offline, fuse them into a recommender, and test the gain.

Start with `enhancer demo`, or run `enhancer init` in the folder that holds your tables.
"""
_MODULES = (
    init,
    doctor,
    generate,
    refresh,
    spend,
    training,
    reports,
    density,
    recommend,
    show,
    serve,
    export,
    store,
    plugins,
)


def build_app(manager: PluginManager) -> typer.Typer:
    """Return the command line: built-in commands, then those of the given plugins."""
    # Plain help: rich help takes longer to import than everything else together.
    app = typer.Typer(name="enhancer", help=_HELP, rich_markup_mode=None, pretty_exceptions_enable=False)
    for module in _MODULES:
        module.add_to(app)
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
        del log_json  # main has handled it, before anything could fail
        context.obj = Session(manager, config, list(overrides or ()), quiet)
        if version:
            import enhancer

            typer.echo(f"enhancer {enhancer.__version__}")
        elif context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return app


def own_process() -> None:
    """Apply settings that are only appropriate in a process that runs nothing but enhancer.

    The garbage collector runs less often. Reading a catalogue creates many short-lived tuples that are in no cycle;
    looking for cycles after every 700 of them takes a tenth of the time of a run that has nothing to generate.
    """
    gc.set_threshold(50_000, 20, 50)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments; by default those of the process.

    Returns:
        The exit code; see :mod:`enhancer.cli.failures`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    jsonlog.enable(jsonlog.FLAG in arguments)
    _log_to_stderr()
    if argv is None:
        own_process()
    if argv is None and threading.current_thread() is threading.main_thread():
        _stop_gently()

    def run() -> None:
        app = build_app(load_plugins())
        if "_ENHANCER_COMPLETE" in os.environ:  # set by the shell's completion script
            app(prog_name="enhancer")
        command = typer.main.get_command(app)
        # Not command.main(), which converts some exceptions and ends the process.
        with command.make_context("enhancer", arguments) as context:
            command.invoke(context)

    with cleaned():
        code = guarded(run)
    if argv is None and code == INTERRUPTED:
        _exit_now(code)
    return code


def _stop_gently() -> None:
    """Let the signals that stop containers and services, or close a terminal, act like Ctrl-C.

    Answers in flight are still received. A signal that ``nohup`` ignores stays ignored.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # there is no SIGHUP on Windows
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def _exit_now(code: int) -> None:
    """End the process without waiting for threads that cannot be interrupted, such as a long import."""
    if threading.active_count() > 1:  # the interpreter would wait for the threads of pools, daemonic or not
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _StderrHandler(logging.Handler):
    """Write log records to the current ``sys.stderr``, which a live progress display replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if jsonlog.enabled():
                level = {"critical": "error"}.get(record.levelname.lower(), record.levelname.lower())
                jsonlog.emit("log", level=level, logger=record.name, message=logging.Formatter().format(record))
                return
            sys.stderr.write(clean(scrub(self.format(record))) + "\n")
        except Exception:  # noqa: BLE001  logging must not raise
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
    others = _StderrHandler(logging.WARNING)  # for loggers without a handler, such as those of plugins
    others.setFormatter(_Formatter())
    logging.lastResort = others
