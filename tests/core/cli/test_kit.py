"""Tests of ``enhancer.cli.kit``: the documented example, installed as a plugin."""

from __future__ import annotations

import re
import textwrap

import pytest
from dists import ROOT, make_dist


@pytest.fixture
def titles(tmp_path, tables, monkeypatch):
    """Install the command ``titles`` of docs/how-to/add-a-command.md, and return a folder with a project."""
    page = (ROOT / "docs" / "how-to" / "add-a-command.md").read_text(encoding="utf-8")
    (snippet,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "enhancer.cli.kit" in block)
    site = tmp_path / ".site"
    make_dist(site, "titles-here", textwrap.dedent(snippet))
    monkeypatch.syspath_prepend(site)
    (tables / "enhancer.toml").write_text('[data]\nitems = "movies.csv"\n[data.columns]\nitem_id = "movieId"\n')
    return tables


def test_a_command_of_a_plugin_has_the_flags_of_all_and_prints_as_all_do(invoke, titles):
    done = invoke("titles", "--json")
    assert done.code == 0, done.err
    assert done.json()["2"] == "Heat"
    shown = invoke("titles").out.splitlines()
    assert shown[0].split() == ["item", "title"]
    assert ["2", "Heat"] in [line.split() for line in shown]
    assert invoke("titles", "--set", 'data.columns.title="genre"', "--json").json()["2"] == "Crime"
    assert invoke("--set", 'data.columns.title="genre"', "titles", "--json").json()["2"] == "Crime"


def test_what_is_wrong_ends_it_as_it_ends_every_command(invoke, titles):
    done = invoke("titles", "--config", "gone.toml")
    assert (done.code, done.out) == (2, "")
    assert "gone.toml" in done.err
    assert "--log-json" in invoke("titles", "--help").out
