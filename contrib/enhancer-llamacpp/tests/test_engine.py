"""The engine: the event loop stays responsive, calls can be stopped, and errors have clear messages."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import struct
import time

import enhancer_llamacpp
import pytest

from enhancer.contracts import Context, Key, Message, Request
from enhancer.errors import ConfigError, DeadlineError, RequestError
from enhancer.plugin_host import PluginManager

LONG = Request(
    messages=(Message("system", "You tell stories."), Message("user", "Tell a very long story about a train.")),
    model="smollm2",
    max_tokens=800,
    seed=1,
    timeout=60,
)
SHORT = dataclasses.replace(LONG, max_tokens=5)


def create(options, root=None):
    manager = PluginManager()
    manager.register(enhancer_llamacpp, distribution="enhancer-llamacpp")
    return manager.create("llm", "llamacpp", options, Context(root) if root else Context())


@pytest.fixture
async def provider(smollm2):
    made = create(smollm2)
    yield made
    await made.aclose()


async def test_a_cut_off_answer_says_so_and_counts_its_tokens(provider):
    done = await provider.complete(SHORT)
    assert (done.finish_reason, done.completion_tokens) == ("length", 5)
    assert done.prompt_tokens > 10
    assert done.model == "SmolLM2-135M-Instruct.Q4_1"
    assert done.cost_usd == 0


async def test_the_event_loop_goes_on(provider):
    await provider.complete(SHORT)
    call = asyncio.create_task(provider.complete(dataclasses.replace(LONG, max_tokens=60)))
    longest = 0.0
    while not call.done():
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - before)
    assert call.result().text
    assert longest < 0.5


async def test_the_deadline_holds_and_frees_the_slot(provider):
    await provider.complete(SHORT)
    started = time.monotonic()
    with pytest.raises(DeadlineError, match=r"within \[llm\] timeout = 0.5 seconds"):
        await provider.complete(dataclasses.replace(LONG, timeout=0.5))
    assert time.monotonic() - started < 1.0
    assert (await provider.complete(SHORT)).text
    assert time.monotonic() - started < 6.0, "the first call wrote on: its slot should be free at its next token"


async def test_a_cancelled_call_ends_at_once(provider):
    await provider.complete(SHORT)
    call = asyncio.create_task(provider.complete(LONG))
    await asyncio.sleep(0.2)
    call.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert time.monotonic() - started < 0.5
    assert (await provider.complete(SHORT)).text


async def test_closing_ends_what_is_being_written(provider):
    await provider.complete(SHORT)
    call = asyncio.create_task(provider.complete(LONG))
    await asyncio.sleep(0.2)
    started = time.monotonic()
    await provider.aclose()
    assert time.monotonic() - started < 3.0
    await asyncio.wait({call})
    assert call.cancelled() or call.exception() is not None or call.result().finish_reason == "other"


async def test_slots_work_side_by_side(smollm2):
    provider = create({**smollm2, "slots": 2})
    try:
        both = await asyncio.gather(*(provider.complete(SHORT) for _ in range(4)))
        assert len({done.text for done in both}) == 1, "temperature 0: equal questions, equal answers"
    finally:
        await provider.aclose()


async def test_what_does_not_fit_is_refused_for_good(provider):
    too_long = dataclasses.replace(SHORT, messages=(Message("user", "word " * 3000),))
    with pytest.raises(RequestError, match=r"context size .*; raise \[llm\] context"):
        await provider.complete(too_long)


async def test_a_schema_that_cannot_be_held_to_is_refused(provider):
    with pytest.raises(RequestError, match=r"llama\.cpp rejects the request"):
        await provider.complete(dataclasses.replace(SHORT, schema={"type": "nonsense"}))


async def test_ids_of_any_form_come_back_in_order(provider):
    ids = ['a "quoted" id', "7", "日本"]
    element = {
        "type": "object",
        "properties": {"id": {"type": "string"}, "profile": {"type": "string", "maxLength": 10}},
        "required": ["id", "profile"],
        "additionalProperties": False,
    }
    schema = {"type": "object", "properties": {"items": {"type": "array", "items": element}}, "required": ["items"]}
    request = dataclasses.replace(
        SHORT, max_tokens=200, grouped=True, schema=schema, subjects=tuple(Key("item", id_) for id_ in ids)
    )
    items = json.loads((await provider.complete(request)).text)["items"]
    assert [item["id"] for item in items] == ids


async def test_a_damaged_model_is_refused_by_name(smollm2, tmp_path):
    del smollm2
    (tmp_path / "bad.gguf").write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 5, 5) + bytes(range(256)) * 20)
    provider = create({"path": "bad.gguf"}, tmp_path)
    try:
        with pytest.raises(ConfigError, match=r"cannot load .*bad\.gguf"):
            await provider.complete(SHORT)
    finally:
        await provider.aclose()


RULES = {
    "type": "object",
    "$defs": {"word": {"type": "string"}},
    "properties": {
        "score": {"type": "number", "minimum": 0.2, "maximum": 0.4, "multipleOf": 0.1},
        "code": {"type": "string", "pattern": "[0-9]", "maxLength": 12},
        "word": {"$ref": "#/$defs/word", "maxLength": 3},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 2, "maxItems": 2, "uniqueItems": True},
        "not": {"type": "string", "pattern": "^(?!x)", "maxLength": 4, "format": "isbn"},
    },
    "required": ["score", "code", "word", "tags", "not"],
    "additionalProperties": False,
}


async def test_rules_are_held_beside_keywords_that_no_grammar_has(provider, capfd, caplog):
    assert provider.unenforced(RULES) == ('format = "isbn"', 'pattern = "^(?!x)"', "uniqueItems")
    asked = dataclasses.replace(SHORT, max_tokens=120, schema=RULES)
    answer = json.loads((await provider.complete(asked)).text)
    assert answer["score"] in (0.2, 0.3, 0.4)
    assert re.search("[0-9]", answer["code"])
    assert len(answer["code"]) <= 12
    assert len(answer["word"]) <= 3
    assert len(answer["tags"]) == 2
    assert len(answer["not"]) <= 4
    assert (capfd.readouterr().err, caplog.records) == ("", [])


async def test_a_schema_that_llguidance_refuses_is_left_to_llamacpp_with_a_warning(provider, caplog):
    """Nothing has a property that is required and not allowed, so llguidance would be off in silence."""
    some = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 4}}, "required": ["a", "z"]}
    asked = dataclasses.replace(SHORT, max_tokens=40, schema={**some, "additionalProperties": False})
    for _ in range(2):
        assert (await provider.complete(asked)).text.startswith("{")
    assert len(caplog.records) == 1
    assert "enforces it in part" in caplog.text


@pytest.mark.parametrize("form", ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"])
async def test_known_formats_keep_the_grammar_on(provider, form, caplog):
    await provider.complete(dataclasses.replace(SHORT, schema={"type": "string", "format": form}))
    assert not caplog.records
