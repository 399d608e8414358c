"""An artifact, and one running service that reads it."""

from __future__ import annotations

import pytest
from serving_process import Server, write

from enhancer.serving import Ranker


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("service") / "artifact")


@pytest.fixture(scope="module")
def server(folder):
    with Server(folder, "--max-k=40", "--max-batch=8", "--max-body=2000") as running:
        yield running


@pytest.fixture(scope="module")
def ranker(folder):
    return Ranker.load(folder)
