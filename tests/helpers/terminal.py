"""Run the command line on a pseudo-terminal and type answers to its questions."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from processes import COMMAND_LINE, start

CTRL_C = None


def on_a_terminal(
    folder: Path, arguments: Sequence[str], answers: Sequence[tuple[str, str | None]] = (), *, columns: int = 100
) -> tuple[int, str]:
    """Run ``enhancer ARGUMENTS`` in ``folder``.

    ``answers`` are pairs of an expected text and the line (or ``CTRL_C``) to type once it was shown, in order.
    Returns the exit code and the whole output.
    """
    ours, theirs = pty.openpty()
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TERM": "xterm"}
    environ.pop("COLUMNS", None)
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-c", COMMAND_LINE, *arguments]
    process = start(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environ)
    os.close(theirs)
    waiting, shown, seen, deadline = list(answers), "", 0, time.monotonic() + 60
    while time.monotonic() < deadline:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                shown += os.read(ours, 65536).decode(errors="replace")
            except OSError:  # the process has closed its end
                break
        elif process.poll() is not None:
            break
        if waiting and (place := shown.find(waiting[0][0], seen)) >= 0:
            seen = place + len(waiting[0][0])
            answer = waiting.pop(0)[1]
            if answer is CTRL_C:
                time.sleep(0.3)  # a signal just before read() blocks is not handled until the next key
                process.send_signal(signal.SIGINT)
            else:
                os.write(ours, f"{answer}\n".encode())
    os.close(ours)
    return process.wait(10), shown
