"""Starting up is cheap: listing plugins and printing help import none of the libraries that do the work."""

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
# Of the standard library, what takes longest to import.
SLOW = {"asyncio", "sqlite3"}

PROGRAM = """
import json, sys
from enhancer.cli.app import main
code = main({arguments!r})
print(json.dumps([code, sorted({{name.partition(".")[0] for name in sys.modules}})]), file=sys.stderr)
"""


def foreign(modules: Iterable[str]) -> set[str]:
    """Those that are not the standard library's. Names with an underscore are the interpreter's and its installers' own."""
    return {name for name in modules if not name.startswith("_")} - set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["plugins"], ["plugins", "--json"], ["plan", "--help"]]
)
def test_what_start_up_imports(arguments):
    done = run_python(PROGRAM.format(arguments=arguments), ENHANCER_PLUGINS="enhancer")
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0
    assert sorted(SLOW & set(modules)) == []
    others = foreign(modules)
    assert sorted(others - LIGHT) == [], (
        "what is new here costs every command its time: see tests/benchmarks/startup.py"
    )
    assert done.stdout


def test_importing_the_package_costs_next_to_nothing():
    program = "import sys, enhancer; assert enhancer.hookimpl; print(*{m.partition('.')[0] for m in sys.modules})"
    modules = set(run_python(program).stdout.split())
    assert sorted(SLOW & modules) == []
    assert sorted(foreign(modules) - {"enhancer", "pluggy"}) == []
