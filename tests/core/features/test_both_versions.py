"""Test notes in two versions: from the given text alone, and also from what the model knows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from generation import GenerationProject, answer, entity
from loopback import LoopbackServer
from note_projects import N, choose, opened_bench, replies, stored
from notes import answer_notes, asked_notes, film_of, note, notes_of

from enhancer.config import Settings
from enhancer.errors import ConfigError
from enhancer.features import Semantics, inputs_wanted

BOTH = ("plot", "mood", "plot:closed", "mood:closed")


@pytest.fixture
def bench(tmp_path: Path, llm_server: LoopbackServer) -> Iterator[GenerationProject]:
    yield from opened_bench(tmp_path, llm_server)


def told(body: dict[str, Any]) -> str:
    """Answer with the source that the request allows, as it is written in the note."""
    source = "memory" if "what you know" in body["messages"][0]["content"] else "text"
    low = source == "memory" and int(film_of(body)) % 2
    return json.dumps(notes_of(f"{film_of(body)} from {source}", asked_notes(body), "low" if low else "high"))


def both(bench: GenerationProject, **more: Any) -> None:
    choose(bench, "plot", "mood", knowledge="both", **more)
    bench.inputs = list(BOTH)


def test_each_version_is_a_record_and_is_asked_for_once(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    replies(llm_server, told)
    both(bench)
    plan = bench.plan()
    assert (plan.to_generate, plan.notes, plan.requests) == (N, 4 * N, 2 * N)
    report = bench.generate()
    assert (report.generated, report.notes, report.requests) == (N, 4 * N, 2 * N)
    records = stored(bench)
    assert set(records) == {(str(n), aspect) for n in range(N) for aspect in BOTH}
    assert records["3", "mood"].profile == note("mood", "3 from memory")
    assert records["3", "mood:closed"].profile == note("mood", "3 from text")
    assert records["3", "mood"].prompt_version != records["3", "mood:closed"].prompt_version
    assert (bench.plan().requests, bench.generate().requests) == (0, 0)


@pytest.mark.parametrize("before", ["open", "closed"])
def test_what_was_paid_for_before_is_paid_once(
    bench: GenerationProject, llm_server: LoopbackServer, before: str
) -> None:
    replies(llm_server, told)
    choose(bench, "plot", "mood", knowledge=before)
    bench.generate()
    had = {record.input_hash for record in stored(bench).values()}
    both(bench)
    assert bench.plan().requests == bench.generate().requests == N
    records = stored(bench)
    version = "mood" if before == "open" else "mood:closed"
    assert {records[str(n), version].input_hash for n in range(N)} < had
    choose(bench, "plot", "mood", knowledge=before)
    assert bench.plan().requests == 0, "and the way back costs nothing"


def test_the_fallback_of_an_open_note_is_its_closed_version(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    replies(llm_server, told)
    both(bench, fallback="closed")
    report = bench.generate()
    assert (report.generated, report.quarantined, report.requests) == (N, 0, 2 * N)
    records = stored(bench)
    assert records["3", "mood"].profile == records["3", "mood:closed"].profile == note("mood", "3 from text")
    assert records["2", "mood"].profile == note("mood", "2 from memory")
    assert bench.plan().requests == 0


def test_profiles_samples_groups_and_templates_have_versions(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    (bench.folder / "mood.toml").write_text('system = "Of moods."\nuser = "{{ text }}"\n[aspects]\nmood = "A mood."\n')
    replies(llm_server, answer_notes)
    bench.llm.update(items_per_request=N, temperature=0.7)
    choose(bench, "plot", "mood", knowledge="both", samples=2, templates={"mood": "mood.toml"})
    bench.inputs = ["plot:closed+mood:closed", "mood"]
    report = bench.generate()
    assert (report.generated, report.requests) == (N, 6), "two samples of plot (closed), mood (closed) and mood"
    aspects = {aspect for _, aspect in stored(bench)}
    single = {"plot:closed", "plot:closed#2", "mood:closed", "mood:closed#2", "mood", "mood#2"}
    assert aspects == {*single, "plot:closed+mood:closed"}


def test_the_closed_profile_has_a_name_of_its_own(bench: GenerationProject, llm_server: LoopbackServer) -> None:
    replies(llm_server, answer)
    bench.prompts = {"item": {"template": "item/v1", "knowledge": "both"}}
    bench.inputs = ["profile", "profile:closed"]
    assert bench.generate().requests == 2 * N
    assert {aspect for _, aspect in stored(bench)} == {"", "profile:closed"}
    choose(bench, "cast", knowledge="both")
    with pytest.raises(ConfigError, match="no aspect 'cast'"):
        bench.plan()


def settings(**prompts: Any) -> Settings:
    item = {"aspects": ["plot", "mood"], "knowledge": "both"}
    return Settings.model_validate({"prompts": {"item": item, **prompts}, "fuser": {"use": "prior"}})


def test_the_closed_versions_are_wanted_for_the_arm_that_has_them() -> None:
    own = settings()
    assert own.inputs == ("text", "plot", "mood")
    assert {*inputs_wanted(own)} == {"text", *BOTH}
    assert own.closed_inputs(["text+plot", "mean(plot,mood)"]) == ("text+plot:closed", "mean(plot:closed,mood:closed)")
    without = own.model_copy(update={"evaluation": own.evaluation.model_copy(update={"controls": False})})
    assert {*inputs_wanted(without)} == {"text", "plot", "mood"}


def test_users_whose_notes_are_closed_anyway_have_them_in_both_arms(
    bench: GenerationProject, llm_server: LoopbackServer
) -> None:
    replies(llm_server, answer_notes)
    (bench.folder / "users.toml").write_text(
        'kind = "user"\nsystem = "Of tastes."\nuser = "{{ text }}"\n[aspects]\nmood = "A mood."\n'
    )
    bench.users = [entity("7", "title: film 7 lover", kind="user")]
    both(bench)
    bench.prompts["user"] = {"template": "users.toml", "aspects": ["mood"], "source": "llm"}
    bench.inputs = ["mood", "mood:closed"]
    bench.generate()
    ids = [str(n) for n in range(N)]
    train = SimpleNamespace(user_ids=["7"], item_ids=ids, users=np.zeros(1, np.int32), items=np.zeros(1, np.int32))
    semantics = Semantics(bench.settings(), bench.store, bench.embedder.fingerprint, train)
    own = bench.store.vectors(["7"], kind="user", aspect="mood")
    assert own.any()
    for name in ("mood", "mood:closed"):
        users, items, _ = semantics.tables((name,))
        np.testing.assert_array_equal(users, own)
        np.testing.assert_array_equal(items, bench.store.vectors(ids, kind="item", aspect=name))
    assert bench.store.get(["7"], kind="user", aspect="mood:closed") == [None]


def test_a_closed_arm_with_open_notes_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"would have open ones of users: set \[prompts.user\] knowledge to 'both' or"):
        settings(user={"aspects": ["mood"], "knowledge": "open"})
    with pytest.raises(ValueError, match="'mood:closed' is 'mood' as written from the given text alone"):
        Settings.model_validate({"prompts": {"item": {"aspects": ["mood"]}}, "embedder": {"input": ["mood:closed"]}})
    with pytest.raises(ValueError, match="'mod:closed' is not among the aspects"):
        Settings.model_validate({"prompts": {"item": {"aspects": ["mood"]}}, "embedder": {"input": ["mod:closed"]}})
