"""Compare fingerprints, prompts and cache keys with those of version 0.5, which had no conditions, loops or filters."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from enhancer.config.schema import LLMConfig
from enhancer.data import Entity
from enhancer.harness import KeyMaker
from enhancer.prompts import Template

RECORDED = json.loads((Path(__file__).parent / "recorded_keys.json").read_text(encoding="utf-8"))
COLUMNS = {
    "title": ["Heat", "", "a < b"],
    "release date": ["1995-01-01", "x", "</data>"],
    "price (USD)": ["1", "2", "3"],
    "a-b": ["p", "q", "r"],
    "2": ["t", "w", "o"],
    "imdb.rating": ["8", "9", "7"],
    "rate %": ["5", "6", "7"],
    "2nd": ["1", "2", "3"],
    "année": ["1", "é", "3"],
    "a/b": ["1", "2", "3"],
    "item_id:x": ["1", "2", "3"],
    "class": ["1", "2", "3"],
    "for": ["1", "2", "3"],
    "not": ["n", "o", "t"],
    "#votes": ["7", "8", "9"],
    "a & b": ["7", "8", "9"],
    "true": ["t", "r", "u"],
    "a, b": ["c", "o", "m"],
}
HOSTILE = "{{ title }} {% if x %} {# c #} %s {0.__class__} </data> < / ENTRY > \x00\x07\ud800 é\u2028<"
TEXTS = ["A cowboy fears a space ranger.", HOSTILE, "x" * 30_000]
IDS = ["1", 'b "q"', "</data>"]
TITLES = ["Heat", None, "<data"]
HISTORIES = ["- Heat — 5\n- Babe", "", "<entry>"]


@pytest.mark.parametrize("name", RECORDED)
def test_keys_are_those_that_were_paid_for(name: str) -> None:
    recorded = RECORDED[name]
    template = Template.load(name) if recorded["content"] is None else Template(name, recorded["content"])
    entities = [Entity("item", IDS[n], TEXTS[n], TITLES[n], COLUMNS, n) for n in range(3)]
    rendered = template.render_all(entities, {"history": HISTORIES})
    llm = LLMConfig(use="replay", model="openai/gpt-4o-mini")
    keys = KeyMaker(template, llm, endpoint="https://api.openai.com/v1", sampling={"top_k": 5}).of_all(rendered)
    messages = [*template.messages(rendered[0]), *template.group_messages(list(zip(IDS, rendered, strict=True)))]
    assert template.fingerprint == recorded["fingerprint"]
    assert [_digest(text) for text in rendered] == recorded["rendered"]
    assert keys == recorded["keys"]
    assert _digest(json.dumps([[each.role, each.content] for each in messages])) == recorded["messages"]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
