"""Conformance suites fail with a clear message if a required fixture is not overridden."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "suite", "fixture"),
    [
        ("llm", "LLMProviderConformance", "make_provider"),
        ("batch", "BatchConformance", "make_provider"),
        ("batch", "EmbeddingBatchConformance", "make_embedder"),
        ("remote_embedder", "RemoteEmbedderConformance", "make_embedder"),
    ],
)
def test_a_suite_without_a_provider_fails_in_words(tmp_path, module, suite, fixture):
    (tmp_path / "test_mine.py").write_text(
        f"from enhancer.testing.{module} import {suite}\n\n\nclass TestMine({suite}):\n    pass\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert f"TestMine must override the fixture {fixture}" in done.stdout
    assert "Traceback" not in done.stdout
    assert " passed" not in done.stdout.splitlines()[-1]
