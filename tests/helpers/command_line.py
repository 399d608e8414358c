"""Fixtures for tests of the command line; import them in a ``conftest.py``: ``from command_line import invoke``."""

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
    """Return an ``enhancer.toml`` for ``movies.csv`` and ``ratings.csv``.

    Args:
        url: Base URL of the LLM provider.
        model: Model name.
        llm: Further lines of ``[llm]``, or tables below it.
        embedder: Name of the embedder.
    """
    return PROJECT.format(url=url, model=model, llm=llm, embedder=embedder)


@pytest.fixture
def invoke(tmp_path, monkeypatch, capsys):
    """Run the command line in ``tmp_path``, such as ``invoke("plan", "--json")``.

    Returns ``code``, ``out``, ``err`` and the function ``json``. Runs in this process, which is fast and differs from a
    separate one in signals and pipes only.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: object) -> SimpleNamespace:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return SimpleNamespace(code=code, out=captured.out, err=captured.err, json=lambda: json.loads(captured.out))

    yield run
    log = logging.getLogger("enhancer")  # the command line configures the logger of its process
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)


@pytest.fixture
def hashing(tmp_path, monkeypatch):
    """Make the embedder of ``contrib/enhancer-example`` available; it loads no model."""
    site = tmp_path / ".site"
    make_dist(site, "enhancer-example-here", "", entry_point="enhancer_example")
    monkeypatch.syspath_prepend(site)
    monkeypatch.syspath_prepend(ROOT / "contrib" / "enhancer-example" / "src")
