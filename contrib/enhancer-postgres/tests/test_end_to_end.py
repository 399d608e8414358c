"""From a table of texts to vectors on the server, by the commands' own way."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import enhancer_postgres
import pytest

import enhancer
import enhancer.cli.app
import enhancer.parts
from enhancer.cli.app import main
from enhancer.contracts import Context
from enhancer.plugins import load_plugins
from enhancer.testing.store import make_record

CONTRIB = Path(__file__).parents[2]

CONFIGURATION = """
[data]
items = "items.csv"
[prompts.item]
source = "text"
[prompts.user]
source = "none"
[embedder]
use = "hashing"
dim = 32
input = ["text"]
[store]
use = "postgres"
table = "whole_way.records"
"""


@pytest.fixture
def with_plugins(monkeypatch):
    """This plugin and the example's embedder, as if they were installed."""
    monkeypatch.syspath_prepend(CONTRIB / "enhancer-example" / "src")
    import enhancer_example

    def loaded(*arguments, **more):
        manager = load_plugins(*arguments, **more)
        manager.register(enhancer_postgres)
        manager.register(enhancer_example)
        return manager

    monkeypatch.setattr(enhancer.parts, "load_plugins", loaded)
    monkeypatch.setattr(enhancer.cli.app, "load_plugins", loaded)
    return loaded


@pytest.mark.usefixtures("url")
def test_two_machines_share_what_one_has_made(with_plugins, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    reports = []
    for folder in folders:  # two machines: each has its table, its configuration, and no folder of the other's
        folder.mkdir()
        (folder / "items.csv").write_text("item_id,title\n1,Heat\n2,Ronin\n3,Alien\n")
        (folder / "enhancer.toml").write_text(CONFIGURATION)
        project = enhancer.Project.load(folder / "enhancer.toml")
        reports.append(project.generate())
        assert project.store.vectors(["1", "2", "3"], aspect="text").shape == (3, 32)
        project.close()
    assert [(report.generated, report.cached) for report in reports] == [(3, 0), (0, 3)]


@pytest.mark.usefixtures("url", "with_plugins")
def test_one_line_swaps_it_into_a_project_that_init_made(server, tmp_path, monkeypatch, capsys):
    """``path`` stays, so that what was asked before is known after the swap."""
    server.ask("DROP SCHEMA IF EXISTS enhancer CASCADE")
    monkeypatch.chdir(tmp_path)
    answers = [{"id": str(n), "profile": f"Film {n}, told plainly.", "tags": ["plain", "short"]} for n in (1, 2, 3)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(one) + "\n" for one in answers))
    (tmp_path / "items.csv").write_text("item_id,title,plot\n1,Heat,a heist\n2,Ronin,a chase\n3,Alien,a ship\n")
    monkeypatch.setenv("ENHANCER_LLM__PATH", "answers.jsonl")
    flags = ["--items", "items.csv", "--llm", "replay", "--embedder", "hashing", "--store", "lmdb", "--yes"]
    assert main(["init", *flags]) == 0
    file = tmp_path / "enhancer.toml"
    assert file.read_text().count('path = "features"\n') == 1

    def generated():
        capsys.readouterr()
        assert main(["generate", "--yes", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert main(["store", "verify"]) == 0
        return report["cached"], report["requests"]

    assert generated() == (0, 3)
    for before, after in itertools.pairwise(["lmdb", "postgres", "sqlite", "postgres"]):
        file.write_text(file.read_text().replace(f'use = "{before}"\n', f'use = "{after}"\n'))
        assert f'use = "{after}"' in file.read_text()
        assert generated() == (3, 0)
    assert {each.name for each in (tmp_path / "features").iterdir() if each.suffix != ".lmdb-lock"} >= {
        "journal.sqlite", "store.lmdb", "store.sqlite",
    }  # fmt: skip
    server.ask("DROP SCHEMA enhancer CASCADE")


def test_the_sql_of_the_readme_runs(server, url, with_plugins, tmp_path):
    if not server.ask("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
        pytest.skip("the server has no pgvector")
    with with_plugins().create("store", "postgres", {}, Context(tmp_path)) as store:
        store.put([make_record(str(n), seed=n, dim=384) for n in range(30)])
    if not server.ask("SELECT 1 FROM pg_roles WHERE rolname = 'reader'"):
        server.ask("CREATE ROLE reader LOGIN")
    (block,) = re.findall(r"```sql\n(.*?)```", (CONTRIB / "enhancer-postgres" / "README.md").read_text(), re.DOTALL)
    answers = [server.ask(statement) for statement in re.sub("--.*", "", block).split(";") if statement.strip()]
    assert answers[1][0][0] == "1"
    assert len(answers[1]) == 10
