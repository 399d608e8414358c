"""Fork a process for each request on a socket, with enhancer and its libraries imported; used by :mod:`processes`.

A request is its length (4 bytes, with four file descriptors: standard input, output, error, and a pipe for the report)
and a JSON object. A monitor forks the process, and reports its id and later its exit status as lines on the pipe.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import struct
import sys
import types
import warnings
from typing import Any

PRELOADED = (
    "aiohttp",
    "enhancer.cli.app",
    "enhancer.features.pipeline",
    "enhancer.harness",
    "enhancer.project.project",
    "jsonschema",
    "lmdb",
    "numpy",
    "rich.table",
    "sqlite3",
)


def serve(fd: int, path: list[str]) -> str:
    """Fork a process for each request. Returns in the forked processes only, with the code to run."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in PRELOADED:
            with contextlib.suppress(Exception):  # a forked process meets the error by itself
                __import__(name)
    gc.freeze()
    requests = socket.socket(fileno=fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal goes to all processes of the group
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the monitors
    while True:
        head, fds, _, _ = socket.recv_fds(requests, 4, 4)
        if not head:
            os._exit(0)
        (length,) = struct.unpack("!I", head)
        content = b""
        while len(content) < length:
            content += requests.recv(length - len(content))
        if not os.fork():
            requests.close()
            return monitor(json.loads(content), fds, path)
        for each in fds:
            os.close(each)


def monitor(request: dict[str, Any], fds: list[int], path: list[str]) -> str:
    """Fork the process and report its id and exit status. Returns in the forked process only."""
    *streams, report = fds
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.close(report)
        become(request, streams, path)
        return request["code"]
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):  # of a process group; the forked process decides when to end
            signal.signal(number, signal.SIG_IGN)
        for number in (0, 1, 2):
            os.close(number)
        for stream in streams:
            if stream > 2:
                os.close(stream)
        os.write(report, f"{pid}\n".encode())
        os.write(report, f"{os.waitpid(pid, 0)[1]}\n".encode())
    finally:
        os._exit(0)


def become(request: dict[str, Any], streams: list[int], path: list[str]) -> None:
    """Set the streams, environment, folder, module path, warnings and arguments of the request."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        if stream > 2:
            os.close(stream)
    if request["new_session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup
    environment = request["environment"]
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(request["folder"])
    # The kind of the descriptors may have changed, for example to a terminal.
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.argv = ["-c", *request["arguments"]]
    sys.path[:] = ["", *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *path]
    warnings._processoptions(list(filter(None, environment.get("PYTHONWARNINGS", "").split(","))))


if __name__ == "__main__":
    CODE = serve(int(sys.argv[1]), sys.path[1:])
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(compile(CODE, "<string>", "exec"), main.__dict__)
