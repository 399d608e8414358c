"""Fixtures for tests of the command line; a ``conftest.py`` says ``from command_line import invoke``."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
from dists import ROOT, make_dist

from enhancer.cli.app import main

PROJECT = """
[data]
items = "movies.csv"
interactions = "ratings.csv"
[data.columns]
item_id = "movieId"
user_id = "userId"
[prompts.user]
source = "none"
[llm]
use = "openai"
model = "{model}"
api_base = "{url}"
{llm}
[embedder]
use = "{embedder}"
"""


def project_file(url: str, *, model: str = "loopback-model", llm: str = "", embedder: str = "hashing") -> str:
    """``enhancer.toml`` for the tables of the command line's tests.

    Args:
        url: The provider's.
        model: The model.
        llm: More lines of ``[llm]``, or tables below it.
        embedder: The embedder.
    """
    return PROJECT.format(url=url, model=model, llm=llm, embedder=embedder)


@pytest.fixture
def invoke(tmp_path, monkeypatch, capsys):
    """``invoke("plan", "--json")`` in ``tmp_path``: ``code``, ``out``, ``err`` and, on demand, ``json``.

    Within this process: quick, and the same as a process of its own but for signals and pipes.
    """
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


@pytest.fixture
def hashing(tmp_path, monkeypatch):
    """The embedder of ``contrib/enhancer-example``: no model to be loaded."""
    site = tmp_path / ".site"
    make_dist(site, "enhancer-example-here", "", entry_point="enhancer_example")
    monkeypatch.syspath_prepend(site)
    monkeypatch.syspath_prepend(ROOT / "contrib" / "enhancer-example" / "src")
