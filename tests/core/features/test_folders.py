"""Test that imports between the folders of features run one way: pipeline, generating, surveying and storing, ground."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FEATURES = Path(__file__).parents[3] / "core" / "enhancer" / "features"
GROUND = {"kind_spec", "row_memory", "stored_hash", "sources"}
BELOW = {
    "generating": {"surveying", "storing", "context"} | GROUND,
    "surveying": {"storing"} | GROUND,
    "storing": GROUND,
    "reading": {"sources"},
    "context": set(),
    **{module: GROUND - {module} for module in GROUND},
    "sources": (GROUND - {"sources"}) | {"context"},
    "kind_spec": (GROUND - {"kind_spec"}) | {"context"},
}


@pytest.mark.parametrize("name", sorted(BELOW))
def test_imports_run_one_way(name):
    found = set()
    for path in [FEATURES / f"{name}.py"] if name in GROUND else sorted((FEATURES / name).glob("*.py")):
        found |= set(re.findall(r"^\s*from enhancer\.features\.(\w+)", path.read_text(), re.MULTILINE))
    assert found - {name} <= BELOW[name]
