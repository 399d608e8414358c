"""Make the tests run from a checkout in which this distribution is not installed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[1] / "src")
sys.path.insert(0, SOURCE)


@pytest.fixture(autouse=True)
def _in_subprocesses_too(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE, prepend=os.pathsep)
