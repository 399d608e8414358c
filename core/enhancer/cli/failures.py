"""Turn exceptions into messages and exit codes.

====  =====================================================
code  meaning
====  =====================================================
0     success
1     failure
2     wrong usage or configuration
3     partial success: some entities are in quarantine
4     stopped at the budget
130   interrupted; everything paid for is kept
141   the reader of stdout closed it, as ``| head`` does
====  =====================================================
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from typing import TYPE_CHECKING, cast

import typer

from enhancer.cli import jsonlog
from enhancer.cli.streams import discard
from enhancer.errors import EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable

_HINTS = {
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "check the permissions of this path"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some disk space and run again; finished work is kept"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit on open files (ulimit -n) and run again"),
}
"""Operating-system errors that are not bugs, each with its remedy."""

INTERRUPTED, PARTIAL, PIPE_CLOSED = 130, 3, 141
DEBUG = "ENHANCER_DEBUG"

# The bases of typer's errors. Some versions of typer bundle click and others depend on it; this finds either.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
_ClickException = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])


def guarded(run: Callable[[], None]) -> int:
    """Call a function and return the exit code, with a message on stderr if it raised an exception."""
    try:
        run()
        sys.stdout.flush()
    except typer.Exit as stop:
        return _flushed(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except BrokenPipeError:
        return _pipe_closed()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except EnhancerError as error:
        return _enhancer_error(error)
    except _ClickException as error:
        return _usage_error(error)
    except OSError as error:
        return _os_error(error) if error.errno in _HINTS else _unexpected(error)
    except Exception as error:  # noqa: BLE001  nothing above this catches it
        return _unexpected(error)
    return 0


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_closed()
    return code


def _interrupted() -> int:
    kept = "Everything paid for is kept; run the same command again to continue."
    if jsonlog.enabled():
        jsonlog.emit("error", level="error", type="interrupted", message=kept, hint=None, exit_code=INTERRUPTED)
    else:
        _print(f"\ninterrupted. {kept}")
    return INTERRUPTED


def _enhancer_error(error: EnhancerError) -> int:
    if jsonlog.enabled():
        return _emit(error, error.message, error.hint, error.exit_code)
    _print(scrub(f"error: {error.message}"))
    if error.hint:
        _print(scrub(f"  {error.hint}"))
    _print_traceback(error)
    return error.exit_code


def _emit(error: BaseException, message: str, hint: str | None, code: int) -> int:
    """Write an error as one line of JSON, and return its exit code."""
    jsonlog.emit("error", level="error", type=type(error).__name__, message=message, hint=hint, exit_code=code)
    _print_traceback(error)
    return code


def _usage_error(error: typer.BadParameter) -> int:
    if jsonlog.enabled():
        return _emit(error, error.format_message(), None, error.exit_code)
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command; the message is the help text
        _print(error.format_message())
        return error.exit_code
    _print(f"error: {error.format_message()}")
    context = getattr(error, "ctx", None)
    if context is not None and isinstance(error, _UsageError):
        _print(f"  see `{context.command_path} --help`")
    return error.exit_code


def _os_error(error: OSError) -> int:
    """Report an operating-system error that is not a bug."""
    where = "" if error.filename is None else f"{error.filename}: "
    hint = _HINTS[error.errno or 0]
    if jsonlog.enabled():
        return _emit(error, f"{where}{error.strerror}", hint, 1)
    _print(scrub(f"error: {where}{error.strerror}"))
    _print(f"  {hint}")
    _print_traceback(error)
    return 1


def _unexpected(error: Exception) -> int:
    lines = str(error).strip().splitlines()
    message = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    if jsonlog.enabled():
        return _emit(error, message, f"this is a bug in enhancer or in a plugin; {DEBUG}=1 shows the traceback", 1)
    _print(scrub(f"error: {message}"))
    if not _print_traceback(error):
        _print(
            f"  this is a bug in enhancer or in a plugin; run again with {DEBUG}=1 to see the traceback, and report it"
        )
    return 1


def _print_traceback(error: BaseException) -> bool:
    """Print the traceback if ``ENHANCER_DEBUG`` asks for it, and return whether it does."""
    wanted = os.environ.get(DEBUG, "") not in ("", "0")
    if wanted:
        text = scrub("".join(traceback.format_exception(error)).rstrip())
        if jsonlog.enabled():
            jsonlog.emit("log", level="error", logger="enhancer.cli", message=text)
        else:
            _print(text)
    return wanted


def _pipe_closed() -> int:
    discard(sys.stdout)
    return PIPE_CLOSED


def _print(message: str) -> None:
    with contextlib.suppress(OSError):
        typer.echo(message, err=True)


def scrub(text: str) -> str:
    """Redact secrets."""
    from enhancer.harness.redact import redact  # imported only when there is text to redact

    return redact(text)
