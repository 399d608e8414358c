"""Test notes on users: tastes by time from training interactions, what they were made from, and imported notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from generation import GenerationProject
from loopback import Behaviour, LoopbackServer, Script
from notes import asked_notes

from enhancer.config import Settings
from enhancer.contracts import Record
from enhancer.data import Interactions, read_interactions, split_interactions
from enhancer.features import Sources
from enhancer.features.surveying.provenance import trace

ITEMS = "item_id,title\n" + "".join(f"i{n},film {n}\n" for n in range(8))
TOUCHES = "user_id,item_id,timestamp\n" + "".join(
    f"u{u},i{(u + n) % 8},{1000 + n}\n" for u in range(3) for n in range(8)
)


class TasteProject(GenerationProject):
    """A project of users by their training interactions."""

    def settings(self) -> Settings:
        plain = super().settings().model_dump(exclude_unset=True)
        data = {"items": "items.csv", "interactions": "touches.csv"}
        plain["llm"].pop("options", None)
        return Settings.model_validate({**plain, "data": data})

    def sources(self, shown: Callable[[], Interactions]) -> Sources:
        return Sources.from_settings(self.settings(), self.folder, train=shown)


@pytest.fixture
def bench(tmp_path: Path, llm_server: LoopbackServer) -> Iterator[TasteProject]:
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "touches.csv").write_text(TOUCHES)
    llm_server.script = Script(default=Behaviour(answer=lambda body: tastes(asked_notes(body))))
    made = TasteProject(tmp_path, llm_server.url)
    user = {"source": "llm", "aspects": ["lasting", "recent"], "max_history": 6}
    made.prompts = {"item": {"source": "text"}, "user": user}
    made.inputs = ["lasting", "recent"]
    yield made
    made.store.close()


def tastes(names: list[str]) -> str:
    texts = ", ".join(f'"{name}": "Quiet films of a {name} kind, none of them loud."' for name in names)
    return f'{{{texts}, "confidence": "medium"}}'


def splits(bench: TasteProject) -> tuple[Interactions, Interactions]:
    """Return the training part, and everything."""
    settings = bench.settings()
    everything = read_interactions(
        bench.folder / "touches.csv", settings.data.columns, item_ids=[f"i{n}" for n in range(8)]
    )
    split = split_interactions(everything, settings.evaluation, bench.folder, settings.data.columns)
    return split.train, everything


def user_spec(bench: TasteProject, sources: Sources) -> Any:
    spec = bench.pipeline(sources=sources).spec("user")
    assert spec is not None
    return spec


def test_recent_and_lasting_tastes_are_notes_of_one_call(bench: TasteProject, llm_server: LoopbackServer) -> None:
    train, _ = splits(bench)
    report = bench.pipeline(sources=bench.sources(lambda: train)).generate()
    assert (report.requests, llm_server.count) == (3, 3)
    records = list(bench.store.scan(kind="user"))
    assert {(record.id, record.aspect) for record in records} == {
        (f"u{n}", aspect) for n in range(3) for aspect in ("lasting", "recent")
    }
    assert {record.confidence for record in records} == {"medium"}
    for body in llm_server.bodies:
        system, prompt = (message["content"] for message in body["messages"])
        assert "- lasting:" in system
        assert "Chosen of late, most recent first:\n- film" in prompt
        assert "Chosen before, most recent first:\n- film" in prompt


def test_without_times_the_whole_history_is_shown(bench: TasteProject, llm_server: LoopbackServer) -> None:
    rows = [line.rsplit(",", 1)[0] for line in TOUCHES.splitlines()]
    (bench.folder / "touches.csv").write_text("\n".join(rows) + "\n")
    train, _ = splits(bench)
    bench.pipeline(sources=bench.sources(lambda: train)).generate()
    assert all("Chosen, most recent first:\n- film" in body["messages"][1]["content"] for body in llm_server.bodies)


def test_one_note_from_held_out_interactions_is_a_leak(bench: TasteProject) -> None:
    train, everything = splits(bench)
    bench.pipeline(sources=bench.sources(lambda: train)).generate()
    spec = user_spec(bench, bench.sources(lambda: train))
    wider = {"all interactions": lambda: bench.sources(lambda: everything).shown_by}
    found = trace(spec, bench.store, train.user_ids, wider)
    assert (found.proven, found.unproven, found.leaking) == (3, 0, {})

    leaky = user_spec(bench, bench.sources(lambda: everything))
    recent = next(one for one in leaky.notes if one.note.name == "recent")
    hashes = dict(leaky.hashes(spec=recent))
    (record,) = [one for one in bench.store.scan(kind="user", aspect="recent") if one.id == "u1"]
    record.input_hash = hashes["u1"]
    bench.store.put([record])
    found = trace(spec, bench.store, train.user_ids, wider)
    assert (found.proven, found.leaking, found.examples) == (2, {"all interactions": 1}, ("u1",))


@pytest.mark.parametrize("kind", ["user", "item"])
def test_imported_notes_are_current_by_the_hash_that_they_are_given(
    bench: TasteProject, llm_server: LoopbackServer, kind: str
) -> None:
    train, _ = splits(bench)
    bench.prompts["item"] = {"template": "item/films", "aspects": ["plot", "mood"], "knowledge": "open"}
    bench.inputs = ["plot", "mood", "lasting", "recent"]
    sources = bench.sources(lambda: train)
    rules = bench.pipeline(sources=sources).import_rules()
    aspects, ids = (("lasting", "recent"), train.user_ids) if kind == "user" else (("plot", "mood"), train.item_ids)
    rows: list[dict[str, Any]] = [
        {"kind": kind, "id": id_, "aspect": aspect, "profile": "A quiet film, told slowly.", "confidence": "low"}
        for id_ in ids
        for aspect in aspects
    ]
    vectors = bench.embedder.encode([row["profile"] for row in rows])
    for row, vector in zip(rows, vectors, strict=True):
        rules.validate({**row, "tags": []})
        made = {"vector": vector, "embedder": bench.embedder.fingerprint, "generated_at": "2026-01-01T00:00:00.000Z"}
        bench.store.put([Record(**row, **made, **rules.complete(row))])
    others = len(train.item_ids) if kind == "user" else len(train.user_ids)
    assert bench.pipeline(sources=sources).plan().requests == others
    bench.prompts["item"]["fallback"] = "closed"
    again = 0 if kind == "user" else len(train.item_ids)
    assert bench.pipeline(sources=sources).plan().requests == others + again, "low confidence is asked for again"
