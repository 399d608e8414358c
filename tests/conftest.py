"""Fixtures that every room's tests may use."""

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

# What a shell starts in the background ignores Ctrl-C, and so would the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples each time, and no clock: a busy machine is no failure. HYPOTHESIS_PROFILE=wide looks further.
settings.register_profile("steady", derandomize=True, deadline=None, max_examples=50)
settings.register_profile("wide", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))


@pytest.fixture
def llm_server() -> Iterator[LoopbackServer]:
    """A real server that speaks the OpenAI protocol; ``llm_server.script`` says how it (mis)behaves."""
    with LoopbackServer() as server:
        yield server


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, base URL or setting of the machine that runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith("ENHANCER_") or name.endswith("_API_KEY") or name in {"OPENAI_BASE_URL", "OPENAI_API_BASE"}:
            monkeypatch.delenv(name)
