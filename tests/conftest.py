"""Fixtures and settings of all tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Modules in helpers/ are imported by name; pytest's importlib mode puts nothing on the path.
sys.path.insert(0, str(Path(__file__).parent / "helpers"))

from loopback import LoopbackServer

# A shell starts background processes with SIGINT ignored, and child processes that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Test processes may start with a width, which would wrap output that tests read as from a pipe.
os.environ.pop("COLUMNS", None)

# Examples are reproducible and have no deadline, so a busy machine causes no failure. HYPOTHESIS_PROFILE=wide tries more.
settings.register_profile("steady", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("wide", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture
def llm_server() -> Iterator[LoopbackServer]:
    """Serve the OpenAI protocol; ``llm_server.script`` sets the answers and faults."""
    with LoopbackServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide API keys, base URLs and settings in the environment from tests."""
    for name in list(os.environ):
        if name.startswith("ENHANCER_") or name.endswith("_API_KEY") or name in {"OPENAI_BASE_URL", "OPENAI_API_BASE"}:
            monkeypatch.delenv(name)
