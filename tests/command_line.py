"""The command line within this process, as a fixture: quick, and the same but for signals and pipes.

In a ``conftest.py``: ``from command_line import invoke``.
"""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest

from enhancer.cli.app import main


@pytest.fixture
def invoke(tmp_path, monkeypatch, capsys):
    """``invoke("plan", "--json")`` in ``tmp_path``: ``code``, ``out``, ``err`` and, on demand, ``json``."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return SimpleNamespace(code=code, out=captured.out, err=captured.err, json=lambda: json.loads(captured.out))

    yield run
    log = logging.getLogger("enhancer")  # the command line takes it over for its process
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)
