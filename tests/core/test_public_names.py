"""Check the public names of the package and of its lazily imported packages."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import enhancer
import enhancer.results
from enhancer.config import Settings
from enhancer.project import Project

ROOT = Path(__file__).parents[2]


def lazy_packages() -> list[str]:
    """Names of the modules that are built with ``lazy_face``."""
    found = []
    for source in (ROOT / "core", ROOT / "plugins"):
        for path in sorted(source.rglob("*.py")):
            if path.name != "lazy_face.py" and "lazy_face(" in path.read_text():
                parts = path.relative_to(source).with_suffix("").parts
                found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


def type_checking_names(module: object) -> dict[str, str | None]:
    """Names that a module imports or declares for type checkers; by name, the module it comes from."""
    found: dict[str, str | None] = {}
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    for block in tree.body:
        if not (isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"):
            continue
        for node in block.body:
            if isinstance(node, ast.ImportFrom):
                found |= {alias.asname: node.module for alias in node.names if alias.asname == alias.name}
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found[node.target.id] = None
    return found


@pytest.mark.parametrize("name", lazy_packages())
def test_a_lazy_package_exports_what_it_declares_to_type_checkers(name):
    package = importlib.import_module(name)
    declared = type_checking_names(package)
    assert sorted(declared) == sorted(package.__all__) == sorted(dir(package))
    for name, home in declared.items():
        value = getattr(package, name)
        if home is not None:
            assert value is getattr(importlib.import_module(home), name)


def returned_types() -> dict[str, type]:
    """Classes of enhancer that the public methods of ``Project`` return, by name."""
    found: dict[str, type] = {}
    members = {name: member for base in reversed(Project.__mro__[:-1]) for name, member in vars(base).items()}
    for name, member in members.items():
        if name.startswith("_") or isinstance(member, property):
            continue
        function = getattr(member, "__func__", member)
        module = ast.parse(inspect.getsource(inspect.getmodule(function)))
        homes = {
            alias.asname or alias.name: node.module
            for node in ast.walk(module)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        annotation = ast.parse(function.__annotations__["return"], mode="eval")
        for node in ast.walk(annotation):
            if isinstance(node, ast.Name) and homes.get(node.id, "").startswith("enhancer."):
                found[node.id] = getattr(importlib.import_module(homes[node.id]), node.id)
    return found


def test_the_return_types_of_all_verbs_are_derived():
    assert {"Ablation", "Diagnosis", "Plan", "Repair", "Recommendations"} <= set(returned_types())


@pytest.mark.parametrize("name", sorted(returned_types()))
def test_a_type_that_a_verb_returns_is_public(name):
    assert name in enhancer.__all__
    assert name in enhancer.results.__all__
    assert getattr(enhancer, name) is getattr(enhancer.results, name) is returned_types()[name]


def test_dir_shows_public_names_only():
    assert sorted(dir(enhancer)) == sorted(enhancer.__all__)
    assert not [name for name in dir(enhancer) if name.startswith("_") and name != "__version__"]


def test_project_shows_its_verbs_and_little_else():
    """The parts are in ``project.parts``; a new public name here is a decision."""
    shown = {name for name in dir(Project(Settings(), Path())) if not name.startswith("_")}
    verbs = {
        "from_frames",
        "plan",
        "generate",
        "refresh",
        "diagnose",
        "train",
        "ablate",
        "run",
        "recommend",
        "similar",
        "ranker",
    }
    verbs |= {"explain", "export", "show", "plan_spending", "spend", "density"}
    assert shown == verbs | {"load", "close", "repair_store", "parts", "settings", "root", "store", "titles"}
