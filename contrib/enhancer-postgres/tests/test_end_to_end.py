"""From a table of texts to vectors on the server, by command line."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import enhancer_postgres
import pytest
from enhancer_postgres.options import PostgresOptions
from enhancer_postgres.store import PostgresStore
from postgres_server import PATIENT

import enhancer
import enhancer.cli.app
import enhancer.project.parts
from enhancer.cli.app import main
from enhancer.contracts import Context
from enhancer.plugin_host import load_plugins
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


GENERATE = """
import sys

import enhancer
import enhancer.project.parts
import enhancer_example
import enhancer_postgres
from enhancer.plugin_host import load_plugins


def loaded(*arguments, **more):
    manager = load_plugins(*arguments, **more)
    manager.register(enhancer_postgres)
    manager.register(enhancer_example)
    return manager


enhancer.project.parts.load_plugins = loaded
project = enhancer.Project.load("enhancer.toml")
print("ready", flush=True)
sys.stdin.readline()
report = project.generate()
project.close()
print(report.generated, report.requests)
"""


class PatientOptions(PostgresOptions):
    """Return the given options with the time limits of the other tests."""

    statement_timeout: float = PATIENT["statement_timeout"]
    connect_timeout: int = PATIENT["connect_timeout"]
    reconnect: float = PATIENT["reconnect"]


@pytest.fixture
def with_plugins(monkeypatch):
    """Make this plugin and the embedder of the example available as if they were installed."""
    monkeypatch.setattr(PostgresStore, "options_class", PatientOptions)
    monkeypatch.syspath_prepend(CONTRIB / "enhancer-example" / "src")
    import enhancer_example

    def loaded(*arguments, **more):
        manager = load_plugins(*arguments, **more)
        manager.register(enhancer_postgres)
        manager.register(enhancer_example)
        return manager

    monkeypatch.setattr(enhancer.project.parts, "load_plugins", loaded)
    monkeypatch.setattr(enhancer.cli.app, "load_plugins", loaded)
    return loaded


@pytest.mark.usefixtures("url", "with_plugins")
def test_two_machines_share_what_one_has_made(server, tmp_path):
    server.ask("DROP SCHEMA IF EXISTS whole_way CASCADE")
    folders = [tmp_path / "one", tmp_path / "two"]
    reports = []
    for folder in folders:  # two machines, each with its own items, configuration and folder
        folder.mkdir()
        (folder / "items.csv").write_text("item_id,title\n1,Heat\n2,Ronin\n3,Alien\n")
        (folder / "enhancer.toml").write_text(CONFIGURATION)
        project = enhancer.Project.load(folder / "enhancer.toml")
        reports.append(project.generate())
        assert project.store.vectors(["1", "2", "3"], aspect="text").shape == (3, 32)
        project.close()
    assert [(report.generated, report.cached) for report in reports] == [(3, 0), (0, 3)]


@pytest.fixture
def llm_server(monkeypatch):
    """Serve the protocol of OpenAI."""
    monkeypatch.syspath_prepend(CONTRIB.parent / "tests" / "helpers")
    from loopback import LoopbackServer

    with LoopbackServer() as running:
        yield running


@pytest.mark.usefixtures("url", "with_plugins")
def test_machines_that_share_a_journal_pay_for_no_entity_twice(server, tmp_path, llm_server, monkeypatch):
    server.ask("DROP SCHEMA IF EXISTS whole_way CASCADE")
    server.ask("DROP SCHEMA IF EXISTS whole_way_journal CASCADE")
    monkeypatch.setenv("PYTHONPATH", str(CONTRIB / "enhancer-example" / "src"), prepend=os.pathsep)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    machines = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        lines = "".join(f"{n},Film {n}\n" for n in range(60))
        (folder / "items.csv").write_text(f"item_id,title\n{lines}")
        (folder / "enhancer.toml").write_text(
            '[data]\nitems = "items.csv"\n[prompts.item]\ntemplate = "item/v1"\n'
            f'[llm]\nuse = "openai"\nmodel = "m"\napi_base = "{llm_server.url}"\nconcurrency = 4\n'
            '[embedder]\nuse = "hashing"\n[store]\nuse = "postgres"\ntable = "whole_way.records"\n'
            'journal = "whole_way_journal"\n'
        )
        pipe, command = subprocess.PIPE, [sys.executable, "-c", GENERATE]
        machines.append(subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
    for machine in machines:
        assert machine.stdout.readline() == "ready\n", machine.stderr.read()
    for machine in machines:
        machine.stdin.write("go\n")
        machine.stdin.flush()
    done = [machine.communicate(timeout=120) for machine in machines]
    assert all(machine.returncode == 0 for machine in machines), done
    requests = [int(out.split()[1]) for out, _ in done]
    assert sum(requests) == 60
    assert server.ask("SELECT count(*) FROM whole_way_journal.completions") == [(60,)]
    assert server.ask("SELECT count(*) FROM whole_way.records WHERE aspect = ''") == [(60,)]
    assert not any((tmp_path / name / "features" / "journal.sqlite").exists() for name in ("one", "two"))
    server.ask("DROP SCHEMA whole_way, whole_way_journal CASCADE")


@pytest.mark.usefixtures("url", "with_plugins")
def test_the_commands_that_look_after_a_store_look_after_this_one(server, tmp_path, monkeypatch, capsys):
    server.ask("DROP SCHEMA IF EXISTS whole_way CASCADE")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "items.csv").write_text("item_id,title\n1,Heat\n2,Ronin\n3,Alien\n")
    (tmp_path / "enhancer.toml").write_text(CONFIGURATION)

    def said(*arguments, code=0):
        capsys.readouterr()
        assert main([*arguments]) == code
        out, error = capsys.readouterr()
        return json.loads(out) if "--json" in arguments else out + error

    def counted():
        stats = said("store", "stats", "--json")
        (freshness,) = stats["freshness"]
        return stats["by_kind"], freshness["fresh"]

    assert "there is no store" in said("store", "verify", code=1)
    assert "there is no store postgres" in said("store", "repair", "--yes", code=1)
    assert "0 records removed" in said("store", "gc", "--yes")
    assert counted() == ({}, 0)
    assert server.ask("SELECT to_regnamespace('whole_way')") == [(None,)], "reading created something"
    said("refresh", "--yes")
    assert counted() == ({"item/text": 3}, 3)
    assert "3 records, no fault" in said("store", "verify")
    server.ask("UPDATE whole_way.records SET profile = 'x' WHERE id = '2'")
    assert "item/2/text" in said("store", "verify", code=1)
    assert counted() == ({"damaged": 1, "item/text": 2}, 2)
    assert "2 sound records kept" in said("store", "repair", "--yes")
    said("refresh", "--yes")
    assert counted() == ({"item/text": 3}, 3)
    (tmp_path / "items.csv").write_text("item_id,title\n1,Heat\n2,Ronin\n")
    assert "1 record removed" in said("store", "gc", "--yes")
    assert counted() == ({"item/text": 2}, 2)
    server.ask("DROP TABLE whole_way.records")
    assert "there is no store" in said("store", "verify", code=1)
    said("refresh", "--yes")
    assert counted() == ({"item/text": 2}, 2)


@pytest.mark.usefixtures("url", "with_plugins")
def test_one_line_swaps_it_into_a_project_that_init_made(server, tmp_path, monkeypatch, capsys):
    """``path`` is unchanged, so that paid completions are found after the change of the store."""
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


@pytest.mark.usefixtures("url", "with_pgvector")
def test_the_sql_of_the_readme_runs(server, with_plugins, tmp_path):
    with with_plugins().create("store", "postgres", {}, Context(tmp_path)) as store:
        store.put([make_record(str(n), seed=n, dim=384) for n in range(30)])
    if not server.ask("SELECT 1 FROM pg_roles WHERE rolname = 'reader'"):
        server.ask("CREATE ROLE reader LOGIN")
    (block,) = re.findall(r"```sql\n(.*?)```", (CONTRIB / "enhancer-postgres" / "README.md").read_text(), re.DOTALL)
    answers = [server.ask(statement) for statement in re.sub("--.*", "", block).split(";") if statement.strip()]
    assert answers[1][0][0] == "1"
    assert len(answers[1]) == 10
