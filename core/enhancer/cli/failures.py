"""The one place where an exception becomes a message and an exit code.

====  =====================================================
code  meaning
====  =====================================================
0     done
1     failed
2     usage or configuration
3     done in part: some entities are in quarantine
4     stopped at the budget
130   interrupted; everything paid for is kept
141   whoever read the output went away (as in ``| head``)
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
from enhancer.errors import EnhancerError

if TYPE_CHECKING:
    from collections.abc import Callable

_MENDS = {
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "check who may read and write there"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room and run again; what was done is kept"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "allow more open files (ulimit -n) and run again"),
}
"""What the system refuses, and what a person can do about it."""

INTERRUPTED, PARTLY, PIPE_CLOSED = 130, 3, 141
DEBUG = "ENHANCER_DEBUG"

# The base of all of typer's own errors. Some versions of typer bring click, others depend on it: this finds either.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
_ClickException = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[2])


def guarded(run: Callable[[], None]) -> int:
    """Run, and turn whatever ends it into an exit code, with a message on stderr where there is something to say."""
    try:
        run()
        sys.stdout.flush()
    except typer.Exit as stop:
        return _flushed(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        kept = "Everything paid for is kept: the same command goes on from there."
        if jsonlog.speaks_json():
            jsonlog.emit("error", level="error", type="interrupted", message=kept, hint=None, exit_code=INTERRUPTED)
        else:
            _say(f"\ninterrupted. {kept}")
        return INTERRUPTED
    except BrokenPipeError:
        return _pipe_closed()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except EnhancerError as error:
        return _known(error)
    except _ClickException as error:
        return _usage(error)
    except OSError as error:
        return _machine(error) if error.errno in _MENDS else _bug(error)
    except Exception as error:  # noqa: BLE001  the last resort is here
        return _bug(error)
    return 0


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_closed()
    return code


def _known(error: EnhancerError) -> int:
    if jsonlog.speaks_json():
        return _told(error, error.message, error.hint, error.exit_code)
    _say(scrub(f"error: {error.message}"))
    if error.hint:
        _say(scrub(f"  {error.hint}"))
    _debug(error)
    return error.exit_code


def _told(error: BaseException, message: str, hint: str | None, code: int) -> int:
    """An error as one line of JSON; gives the exit code."""
    jsonlog.emit("error", level="error", type=type(error).__name__, message=message, hint=hint, exit_code=code)
    _debug(error)
    return code


def _usage(error: typer.BadParameter) -> int:
    if jsonlog.speaks_json():
        return _told(error, error.format_message(), None, error.exit_code)
    if type(error).__name__ == "NoArgsIsHelpError":  # a group without a command: its message is the help itself
        _say(error.format_message())
        return error.exit_code
    _say(f"error: {error.format_message()}")
    context = getattr(error, "ctx", None)
    if context is not None and isinstance(error, _UsageError):
        _say(f"  see `{context.command_path} --help`")
    return error.exit_code


def _machine(error: OSError) -> int:
    """The machine says no: that is nobody's bug, wherever it was noticed."""
    where = "" if error.filename is None else f"{error.filename}: "
    if jsonlog.speaks_json():
        return _told(error, f"{where}{error.strerror}", _MENDS[error.errno or 0], 1)
    _say(scrub(f"error: {where}{error.strerror}"))
    _say(f"  {_MENDS[error.errno or 0]}")
    _debug(error)
    return 1


def _bug(error: Exception) -> int:
    text = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    if jsonlog.speaks_json():
        return _told(error, what, f"this is a bug in enhancer or in a plugin; {DEBUG}=1 shows the traceback", 1)
    _say(scrub(f"error: {what}"))
    if not _debug(error):
        _say(
            f"  this is a bug in enhancer or in a plugin; run again with {DEBUG}=1 to see the traceback, and report it"
        )
    return 1


def _debug(error: BaseException) -> bool:
    wanted = os.environ.get(DEBUG, "") not in ("", "0")
    if wanted:
        text = scrub("".join(traceback.format_exception(error)).rstrip())
        if jsonlog.speaks_json():
            jsonlog.emit("log", level="error", logger="enhancer.cli", message=text)
        else:
            _say(text)
    return wanted


def _pipe_closed() -> int:
    """Let nothing be written to the closed pipe at exit either."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED


def _say(message: str) -> None:
    with contextlib.suppress(OSError):
        typer.echo(message, err=True)


def scrub(text: str) -> str:
    """Blot out secrets. What does it is imported when there is something to say."""
    from enhancer.harness.redact import redact

    return redact(text)
