from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from enhancer.contracts import Context, Key, Message, Price, Request
from enhancer.errors import ConfigError, DataError, RequestError
from enhancer.prompts.schema import PROFILE_SCHEMA, group_schema
from enhancer_plugins.llm import replay as module
from enhancer_plugins.llm.replay import Replay, ReplayOptions


def make(path="movielens-100k", root="."):
    return Replay(ReplayOptions(path=str(path)), Context(root=Path(root)))


MOOD = {
    "type": "object",
    "properties": {"mood": {"type": "string"}, "confidence": {"enum": ["low", "medium", "high"]}},
    "required": ["mood", "confidence"],
    "additionalProperties": False,
}


def request(*ids, kind="item", grouped=False, schema=None):
    return Request(
        messages=(Message("user", "?"),),
        model="m",
        schema=schema,
        subjects=tuple(Key(kind, n) for n in ids),
        grouped=grouped,
    )


async def test_one_answer():
    done = await make().complete(request("1", schema=PROFILE_SCHEMA))
    answer = json.loads(done.text)
    assert set(answer) == {"profile", "tags"}
    assert answer["profile"].startswith("Jealousy, loyalty")
    assert len(answer["tags"]) == 4
    assert (done.cost_usd, done.prompt_tokens, done.completion_tokens) == (0.0, None, None)


async def test_a_batch_keeps_ids():
    answer = json.loads((await make().complete(request("3", "1", grouped=True))).text)
    assert [item["id"] for item in answer["items"]] == ["3", "1"]
    assert answer["items"][1]["profile"].startswith("Jealousy")


async def test_the_schema_decides_which_of_the_recorded_fields_are_given():
    assert json.loads((await make().complete(request("1", schema=MOOD))).text) == {
        "mood": "Bright, quick and warm-hearted, with witty banter, gentle peril in a scary neighbour's house, and "
        "glossy computer images that still feel playful.",
        "confidence": "high",
    }
    done = await make().complete(request("3", "1", grouped=True, schema=group_schema(MOOD)))
    assert [set(item) for item in json.loads(done.text)["items"]] == [{"id", "mood", "confidence"}] * 2


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_field_that_was_not_recorded_is_named(tmp_path, grouped):
    (tmp_path / "mine.jsonl").write_text('{"id": "7", "profile": "P"}\n')
    asked = request("7", grouped=grouped, schema=group_schema(MOOD) if grouped else MOOD)
    with pytest.raises(RequestError, match=r"mine\.jsonl has no 'mood' for item '7'"):
        await make("mine.jsonl", tmp_path).complete(asked)


async def test_notes_need_neither_each_other_nor_confidence(tmp_path):
    lines = ('{"item_id": "7", "mood": "Calm and slow."}', '{"user_id": 7, "mood": "Seeks quiet."}')
    (tmp_path / "mine.jsonl").write_text("\n".join(lines) + "\n")
    schema = {"properties": {**MOOD["properties"], "plot": {"type": "string"}}, "required": ["plot", *MOOD["required"]]}
    provider = make("mine.jsonl", tmp_path)
    assert json.loads((await provider.complete(request("7", schema=schema))).text) == {"mood": "Calm and slow."}
    assert json.loads((await provider.complete(request("7", kind="user", schema=schema))).text) == {
        "mood": "Seeks quiet."
    }


@pytest.mark.parametrize("which", [request("99999"), request("1", kind="user"), request("1", "99999", grouped=True)])
async def test_what_was_not_recorded_is_named(which):
    with pytest.raises(RequestError, match=r"movielens-100k.jsonl has no answer for (item '99999'|user '1')"):
        await make().complete(which)


async def test_a_request_without_subjects():
    with pytest.raises(RequestError, match="has no subjects"):
        await make().complete(request())


def test_all_items_of_movielens_are_there():
    provider = make()
    assert set(provider._load()) == {("item", str(n)) for n in range(1, 1683)}
    rows = [json.loads(line) for line in provider._load().values()]
    assert all(row["profile"].strip() and len(row["tags"]) == 4 for row in rows)
    assert all(70 < len(row[note]) < 210 for row in rows for note in ("plot", "mood", "audience", "making"))
    assert Counter(row["confidence"] for row in rows) == {"high": 1486, "medium": 169, "low": 27}
    assert (Path(module.__file__).parent / "recorded" / "movielens-100k.md").exists()


async def test_a_file_of_ones_own(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"id": 7, "kind": "user", "profile": "P", "tags": [], "mood": "M"}\n\n')
    provider = make("mine.jsonl", tmp_path)
    done = await provider.complete(request("7", kind="user"))
    assert json.loads(done.text) == {"profile": "P", "tags": [], "mood": "M"}
    assert provider.price("whatever") == Price(0.0, 0.0)


def test_the_endpoint_is_the_content(tmp_path):
    for name, text in (("a", "P"), ("b", "P"), ("c", "Q")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": "1", "profile": text}) + "\n")
    a, b, c = (make(f"{name}.jsonl", tmp_path).endpoint for name in "abc")
    assert a == b != c


def test_an_unknown_recording():
    with pytest.raises(ConfigError, match="did you mean 'movielens-100k'"):
        make("movielens-100")


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*nope\.jsonl"):
        make("nope.jsonl", tmp_path).check("m")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"bad\.jsonl:2: not a line of JSON"),
        ("[1]", "expected a JSON object with an id"),
        ('{"id": true}', "expected a JSON object with an id"),
        ('{"id": "1"}', "a second answer for item '1'"),
        ('{"id": "2", "kind": "shop"}', "kind is 'item' or 'user'"),
    ],
)
def test_a_damaged_file(tmp_path, line, message):
    (tmp_path / "bad.jsonl").write_text(f'{{"id": "1", "profile": "P"}}\n{line}\n')
    with pytest.raises(DataError, match=message):
        make("bad.jsonl", tmp_path).check("m")
