"""The layout that docs/design.md describes: one-way imports, no circles, short modules, narrow folders."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = {"enhancer": ROOT / "core" / "enhancer", "enhancer_plugins": ROOT / "plugins" / "enhancer_plugins"}
LINES, MODULES = 500, 14

# Packages of core, each with those it may import beside itself. The ground floor is open to all.
GROUND = {"errors", "files", "progress", "lazy_face", "memory", "shown"}
CONTRACTS = {"contracts"}
BELOW = {
    "contracts": set(),
    "storekit": CONTRACTS,
    "hookspecs": CONTRACTS,
    "plugin_host": CONTRACTS | {"hookspecs"},
    "config": CONTRACTS,
    "prompts": CONTRACTS | {"config", "data"},
    "data": CONTRACTS | {"config"},
    "harness": CONTRACTS | {"config", "data", "prompts"},
    "features": CONTRACTS | {"storekit", "config", "data", "prompts", "harness"},
    "serving": CONTRACTS,
    "evaluation": CONTRACTS | {"config", "data"},
    "guessing": CONTRACTS | {"config", "data"},
    "testing": CONTRACTS | {"storekit", "harness"},
    "project": CONTRACTS
    | {"storekit", "plugin_host", "config", "data", "prompts", "harness", "features", "evaluation", "serving"},
}
# Modules kept for imports of an old name.
MOVED = {
    "enhancer.contracts.codec",
    "enhancer.evaluation.metrics",
    "enhancer.features.arrow",
    "enhancer.features.interchange",
    "enhancer.inspection",
    "enhancer.parts",
    "enhancer.plugins",
    "enhancer_plugins.stores.keyed",
}


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


ALL = modules()


def imported(name: str) -> Iterator[str]:
    """Yield the modules that a module imports anywhere, for type checkers too."""
    for node in ast.walk(ast.parse(ALL[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in ALL)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in ALL:
                    yield full
                elif node.module in ALL:
                    yield node.module


def face(name: str) -> bool:
    return ALL[name].name == "__init__.py"


@functools.cache
def imports() -> dict[str, list[str]]:
    """Return the imports of each module. Parsing takes seconds, so it is done when a test asks for it."""
    return {name: sorted(set(imported(name)) - {name}) for name in ALL}


def circles(graph: dict[str, list[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one node (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in graph[node]:
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = []
            while True:
                component.append(stack.pop())
                if component[-1] == node:
                    break
            if len(component) > 1:
                found.append(sorted(component))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def test_no_circle_of_files_type_only_imports_included():
    assert circles(imports()) == []


def test_modules_do_not_import_the_face_of_their_own_package():
    back = [
        (name, other)
        for name, others in imports().items()
        for other in others
        if face(other) and not face(name) and name.startswith(f"{other}.") and other not in SOURCES
    ]
    assert back == []


def test_imports_run_one_way():
    wrong = []
    for name, others in imports().items():
        package = name.split(".")[1] if name.startswith("enhancer.") else ""
        if package not in BELOW or name in MOVED:
            continue
        allowed = BELOW[package] | GROUND | {package}
        tops = {other: other.split(".") for other in others if other != "enhancer"}
        wrong += [(name, other) for other, top in tops.items() if top[0] != "enhancer" or top[1] not in allowed]
    assert wrong == []


def test_plugins_import_contracts_the_store_kit_and_the_training_kit_alone():
    kinds = {"backbones", "embedders", "exporters", "fusers", "llm", "runners", "stores"}
    wrong = []
    for name, others in imports().items():
        parts = name.split(".")
        if parts[0] != "enhancer_plugins" or len(parts) < 3 or parts[1] not in kinds:
            continue
        for other in others:
            top = other.split(".")
            if top[0] == "enhancer" and len(top) > 1 and top[1] not in GROUND | {"contracts", "storekit", "hookspecs"}:
                wrong.append((name, other))
            if top[0] == "enhancer_plugins" and len(top) > 1 and top[1] in kinds - {parts[1]}:
                wrong.append((name, other))
    assert wrong == []


def test_modules_are_short():
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in ALL.items()}
    assert {name: length for name, length in lengths.items() if length > LINES} == {}


def test_folders_are_narrow():
    counts: dict[Path, int] = {}
    for name, path in ALL.items():
        if path.name != "__init__.py" and name not in MOVED:
            counts[path.parent] = counts.get(path.parent, 0) + 1
    assert {str(folder): count for folder, count in counts.items() if count > MODULES} == {}


def test_moved_modules_only_re_export():
    for name in MOVED:
        body = ast.parse(ALL[name].read_text(encoding="utf-8")).body
        assert [type(node) for node in body] == [ast.Expr, ast.ImportFrom], name
