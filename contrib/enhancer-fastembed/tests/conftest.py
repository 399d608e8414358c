"""Put the source folder on the path, so that the tests run from a checkout without installing it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[1] / "src")
sys.path.insert(0, SOURCE)


@pytest.fixture(autouse=True)
def _subprocesses_import_it(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE, prepend=os.pathsep)
