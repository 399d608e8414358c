"""A PostgreSQL server of the tests' own; and what lets them run from a checkout, too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[1] / "src")
sys.path.insert(0, SOURCE)
sys.path.insert(0, str(Path(__file__).parent))

import postgres_server  # noqa: E402


@pytest.fixture(scope="session")
def server():
    """A server with pgvector where there is one; skips where no server is installed."""
    with postgres_server.running(postgres_server.preferred()) as server:
        yield server


@pytest.fixture(autouse=True)
def _processes_see_it_too(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE, prepend=os.pathsep)


@pytest.fixture
def url(server, monkeypatch):
    """The connection string, where the store looks for it."""
    monkeypatch.setenv("ENHANCER_POSTGRES_URL", server.url)
    return server.url
