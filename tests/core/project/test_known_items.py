"""Tests of what tells the items apart that the LLM knows best."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from enhancer.config import Settings
from enhancer.contracts import Context, Record
from enhancer.project.notes.known_items import known_items
from enhancer_plugins.stores.sqlite import SQLiteOptions, SQLiteStore

IDS = [f"i{number}" for number in range(6)]


@pytest.fixture
def project(tmp_path):
    """A store of notes on ``plot`` and ``mood``; what they say of their confidence is given by item."""
    with SQLiteStore(SQLiteOptions(path=tmp_path / "features"), Context(root=tmp_path)) as store:

        def make(confidence=None, probed=None, aspects=("plot", "mood")):
            for aspect in aspects:
                store.put(
                    [
                        Record(
                            id=id_,
                            aspect=aspect,
                            profile="A note.",
                            vector=np.ones(2, np.float32),
                            embedder="e",
                            generated_at="2026-11-30T00:00:00Z",
                            input_hash="h",
                            confidence=(confidence or {}).get((id_, aspect), (confidence or {}).get(id_, "")),
                        )
                        for id_ in IDS
                    ]
                )
            if probed is not None:
                content = {"format": 1, "model": "m", "items": probed}
                (store.directory / "memory.json").write_text(json.dumps(content))
            settings = Settings.model_validate({"prompts": {"item": {"aspects": list(aspects)}}})
            train = SimpleNamespace(item_ids=IDS)
            return SimpleNamespace(settings=settings, store=store, read_store=store, split=SimpleNamespace(train=train))

        yield make


def ids(mask):
    return [id_ for id_, one in zip(IDS, mask, strict=True) if one]


def test_notes_that_are_all_sure_are_of_known_items(project):
    found = known_items(project({"i0": "high", "i1": "high", ("i1", "mood"): "low", "i2": "medium"}))
    assert (ids(found.known), ids(found.unknown)) == (["i0"], ["i1", "i2"])
    assert "its own confidence" in found.source
    assert [group.name for group in found.groups] == ["known", "unknown"]


def test_probes_of_most_items_are_preferred_to_confidence(project):
    probed = {"i0": {"title": True, "year": True}, "i1": {"title": True, "year": False}, "i2": {"title": False}}
    found = known_items(project(dict.fromkeys(IDS, "high"), probed))
    assert (ids(found.known), ids(found.unknown)) == (["i0"], ["i1", "i2"])
    assert found.source == "the titles and years that m recalls"


def test_few_probes_count_where_notes_say_nothing(project):
    probed = {"i0": {"title": True}, "i1": {"title": False, "rank": True}, "i2": {"rank": True}}
    found = known_items(project(None, probed))
    assert (ids(found.known), ids(found.unknown)) == (["i0"], ["i1"])
    with_words = known_items(project({"i4": "high", "i5": "low"}, probed))
    assert (ids(with_words.known), ids(with_words.unknown)) == (["i4"], ["i5"])


@pytest.mark.parametrize("confidence", [None, dict.fromkeys(IDS, "high"), dict.fromkeys(IDS, "low")])
def test_nothing_tells_items_apart(project, confidence):
    assert known_items(project(confidence)) is None
