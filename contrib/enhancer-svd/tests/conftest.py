"""Lets the tests run from a checkout, too, where this distribution is not installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[1] / "src")
sys.path.insert(0, SOURCE)


@pytest.fixture(autouse=True)
def _processes_see_it_too(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE, prepend=os.pathsep)
