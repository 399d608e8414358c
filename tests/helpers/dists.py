"""Make distributions for tests of plugins, and run Python or the command line with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import processes

ROOT = Path(__file__).parents[2]
HELPERS = Path(__file__).parent
PREAMBLE = "from enhancer import hookimpl\n"


def make_dist(folder: Path, name: str, source: str, *, version: str = "1.0", entry_point: str | None = None) -> str:
    """Install a distribution of one module (with a ``dist-info`` folder) into ``folder``; return the module's name.

    ``source`` is the module's code, with ``hookimpl`` already imported; ``entry_point`` is the value of its entry point.
    """
    module = name.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(PREAMBLE + textwrap.dedent(source), encoding="utf-8")
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[enhancer]\n{module} = {entry_point or module}\n", encoding="utf-8")
    return module


def run_python(
    code: str, *paths: Path, cwd: Path | None = None, timeout: float = 120, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter with the distributions in ``paths``; ``timeout`` is in seconds."""
    return run([sys.executable, "-c", code], *paths, cwd=cwd, fresh=True, timeout=timeout, **environ)


def cli(
    *arguments: str, paths: tuple[Path, ...] = (), cwd: Path | None = None, fresh: bool = False, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a separate process; ``fresh`` starts a new interpreter for it."""
    return run([sys.executable, "-c", processes.COMMAND_LINE, *arguments], *paths, cwd=cwd, fresh=fresh, **environ)


def cli_json(*arguments: str, paths: tuple[Path, ...] = (), cwd: Path | None = None, **environ: str) -> Any:
    """Run a command with ``--json`` and return what it prints; it must succeed."""
    done = cli(*arguments, "--json", paths=paths, cwd=cwd, **environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(
    command: list[str], *paths: Path, cwd: Path | None = None, fresh: bool = True, timeout: float = 120, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with ``paths`` on the module path, without settings in the environment and without a terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ENHANCER_")}
    path = os.pathsep.join(map(str, paths))
    environment = {**kept, "PYTHONPATH": path, "PYTHONWARNINGS": "error", **environ}
    return processes.run(command, cwd=cwd, env=environment, fresh=fresh, timeout=timeout)
