"""Run Python code and the command line in separate processes.

Importing enhancer and its libraries takes longer than most commands. :func:`start` and :func:`run` therefore fork
``python -c CODE`` from a process that has imported them already (:mod:`fork_server`). Arguments, environment, folder,
module path, standard streams, signals and the end of the interpreter are those of a new process. Tests of imports and
of ``sitecustomize`` need a new interpreter: ``fresh=True``.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMAND_LINE = "import sys; from enhancer.cli.app import main; sys.exit(main())"


def start(command: Sequence[str], *, fresh: bool = False, **options: Any) -> subprocess.Popen:
    """Start a command like :class:`subprocess.Popen`; ``python -c`` is forked unless ``fresh``."""
    forked = hasattr(os, "fork") and not fresh and list(command[:2]) == [sys.executable, "-c"]
    return (ForkedProcess if forked else subprocess.Popen)(command, **options)


def run(
    command: Sequence[str],
    *,
    input: str | None = None,  # noqa: A002 - as in subprocess.run
    timeout: float = 120,
    fresh: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and capture its output, as text."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8", **options}
    options["stdin"] = subprocess.DEVNULL if input is None else subprocess.PIPE
    with start(command, fresh=fresh, **options) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


class ForkedProcess(subprocess.Popen):
    """A process started by the fork server. It is no child of this process: a pipe reports its id and its end."""

    def _execute_child(self, *given: Any) -> None:
        options = inspect.signature(super()._execute_child).bind(*given).arguments
        code, *arguments = options["args"][2:]
        request = {
            "code": code,
            "arguments": arguments,
            "folder": os.fspath(options["cwd"] or Path.cwd()),
            "environment": dict(os.environ if options["env"] is None else options["env"]),
            "new_session": options["start_new_session"],
        }
        streams = [options["p2cread"], options["c2pwrite"], options["errwrite"]]
        self._report, report = os.pipe()
        try:
            _fork_server().send(request, [*(fd if fd >= 0 else number for number, fd in enumerate(streams)), report])
        finally:
            os.close(report)
            ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(options[end] for end in ends))
        self.pid = self._read_number()
        self._child_created = True

    def _read_number(self) -> int:
        line = b""
        while not line.endswith(b"\n"):
            if not (byte := os.read(self._report, 1)):
                raise RuntimeError("the fork server has ended")
            line += byte
        return int(line)

    def _has_ended(self, timeout: float | None) -> bool:
        if self.returncode is None and select.select([self._report], [], [], timeout)[0]:
            self._handle_exitstatus(self._read_number())
            os.close(self._report)
        return self.returncode is not None

    def _internal_poll(self, *_: Any, **__: Any) -> int | None:
        return self.returncode if self._has_ended(0) else None

    def _wait(self, timeout: float | None) -> int:
        if not self._has_ended(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode


class _ForkServer:
    """The fork server of this process; it ends when this process does."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._socket, theirs = socket.socketpair()
        with theirs:
            program = str(Path(__file__).with_name("fork_server.py"))
            environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
            self._process = subprocess.Popen(
                [sys.executable, program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**environment, "OPENBLAS_NUM_THREADS": "1"},
            )

        atexit.register(self.close)

    def close(self) -> None:
        """End the server."""
        if self.owner == os.getpid():
            self._socket.close()
            self._process.wait(10)

    def send(self, request: dict[str, Any], fds: list[int]) -> None:
        content = json.dumps(request).encode()
        socket.send_fds(self._socket, [struct.pack("!I", len(content))], fds)
        self._socket.sendall(content)


_servers: list[_ForkServer] = []


def _fork_server() -> _ForkServer:
    if not _servers or _servers[-1].owner != os.getpid():
        _servers.append(_ForkServer())
    return _servers[-1]
